//! What an administrator forbids of an app's venvs, what failed before, and what goes on now.

use std::collections::BTreeMap;

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, Tag, VenvName};
use venvd_bus::JobReport;
use venvd_core::Error;
use venvd_core::brake;
use venvd_core::note::Note;

use super::model::{AppStatus, Problem};

/// What was said of an app and its venvs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Brakes {
    /// It stays at what is in force.
    pub(super) frozen: Option<Note>,
    /// These venvs must not run any more, there or not.
    pub(super) revoked: BTreeMap<Tag, Note>,
    /// These are there, and did not run well on this host.
    pub(super) known_bad: BTreeMap<Tag, Note>,
    /// The activation that is open, as far as venvd says.
    pub(super) job: Option<JobReport>,
}

impl Brakes {
    /// Reads what was said; of what can't be read, that is said.
    pub(super) fn read(layout: &Layout, app: &AppName, problems: &mut Vec<Problem>) -> Self {
        let mut brakes = Self::default();
        let mut tell = |error: Error| problems.push(Problem::note("unreadable", venvd_fs::report(&error)));
        brakes.frozen = brake::frozen(layout, app).unwrap_or_else(|error| {
            tell(error);
            // Whatever it says, an activation is refused.
            Some(Note::default())
        });
        let mut known = |notes: Result<BTreeMap<Tag, Note>, Error>| {
            notes.unwrap_or_else(|error| {
                tell(error);
                BTreeMap::new()
            })
        };
        brakes.revoked = known(brake::all_revoked(layout, app));
        brakes.known_bad = known(brake::all_known_bad(layout, app));
        let is_there = |tag: &Tag| {
            let name = VenvName::new(app.clone(), tag.clone());
            name.is_ok_and(|name| VenvPath::find(layout, &name).is_some())
        };
        brakes.known_bad.retain(|tag, _| is_there(tag));
        brakes
    }

    fn revokes(&self, tag: Option<&str>) -> Option<&Note> {
        self.revoked.get(&tag?.parse::<Tag>().ok()?)
    }

    /// Returns whether a venv must not run any more.
    pub(super) fn is_revoked(&self, tag: Option<&str>) -> bool {
        self.revokes(tag).is_some()
    }
}

/// Returns what is to be said of them.
pub(super) fn problems(app: &AppStatus) -> Vec<Problem> {
    let (name, brakes) = (&app.app, &app.brakes);
    let mut problems = Vec::new();
    let another = format!("venvctl activate {name}:TAG (`venvctl list {name}` shows the tags)");
    if let (Some(tag), Some(note)) = (&app.committed, brakes.revokes(app.committed.as_deref())) {
        let instead = app.in_force.as_ref().map_or_else(
            || "the distribution's programs stand in for it".to_owned(),
            |tag| format!("{tag} stands in for it"),
        );
        let what = format!("{tag} is committed, and revoked{note}");
        problems.push(
            Problem::wrong(
                "revoked",
                if app.why.is_on() {
                    format!("{what}; {instead}")
                } else {
                    what
                },
            )
            .advise(another.clone()),
        );
    }
    for unit in &app.units {
        let runs = unit.state.as_ref().and_then(|state| state.tag.as_deref());
        if let (Some(tag), Some(note)) = (runs, brakes.revokes(runs)) {
            let message = format!("still runs {tag}, which is revoked{note}");
            let advice = format!("systemctl restart {}", unit.unit);
            problems.push(Problem::wrong("runs-revoked", message).of(&unit.unit).advise(advice));
        }
    }
    if let (Some(tag), Some(note)) = (&app.previous, brakes.revokes(app.previous.as_deref())) {
        let message = format!("{tag}, the venv before, is revoked{note}: there is no way back to it");
        problems.push(Problem::note("previous-revoked", message).advise(another));
    }
    if let Some(note) = &brakes.frozen {
        let message = format!("it is frozen{note}: every activation is refused");
        problems.push(Problem::note("frozen", message).advise(format!("venvctl thaw {name}")));
    }
    for (tag, note) in &brakes.known_bad {
        let message = format!("{tag} did not run well on this host{note}");
        let advice = format!("`venvctl activate --force {name}:{tag}` tries it again");
        problems.push(Problem::note("known-bad", message).advise(advice));
    }
    problems
}

/// Says of an open activation what is known.
pub(super) fn open_job(job: &JobReport) -> String {
    let what = job.each(|change| format!("{} of {}", job.kind, change.after()));
    format!(
        "job {}, {what} (asked for by {}), is at {}",
        job.id, job.cause, job.state
    )
}
