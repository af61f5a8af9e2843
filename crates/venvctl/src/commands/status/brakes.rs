//! What an administrator forbids of an app's venvs, what failed before, and what goes on now.

use std::collections::BTreeMap;

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, Tag, VenvName};
use venvd_bus::{JobReport, Leftover};
use venvd_core::Error;
use venvd_core::brake;
use venvd_core::detached::{self, Detached};
use venvd_core::note::Note;
use venvd_core::usage::{Usage, Use};

use super::model::{AppStatus, Problem};

/// What was said of an app and its venvs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Brakes {
    /// It stays at what is in force.
    pub(super) frozen: Option<Note>,
    /// It runs from its venv without venvd.
    pub(super) detached: Option<Detached>,
    /// These venvs must not run any more, there or not.
    pub(super) revoked: BTreeMap<Tag, Note>,
    /// These are there, and did not run well on this host.
    pub(super) known_bad: BTreeMap<Tag, Note>,
    /// The activation that is open, as far as venvd says.
    pub(super) job: Option<JobReport>,
    /// Processes that run its venvs although they are not in force, as far as the caller may see them.
    pub(super) leftovers: Vec<Leftover>,
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
        brakes.detached = detached::read(layout, app).ok().flatten();
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

/// Returns the processes that run venvs of an app that are not in force, but for those of units that run one as a whole: of
/// such a unit is said that its restart is due.
pub(super) fn left_behind(usage: &Usage, venvs: &[VenvPath], app: &AppStatus) -> Vec<Leftover> {
    let is_whole = |one: &Use, tag: &str| {
        let mut units = app.units.iter().filter(|unit| Some(&unit.unit) == one.unit.as_ref());
        units.any(|unit| {
            unit.state
                .as_ref()
                .is_some_and(|state| state.tag.as_deref() == Some(tag))
        })
    };
    let mut left = Vec::new();
    for venv in venvs.iter().filter(|venv| *venv.name().app() == app.app) {
        let tag = venv.name().tag().as_str();
        if app.in_force.as_deref() == Some(tag) {
            continue;
        }
        let runners = usage.runners_of(venv).filter(|one| !is_whole(one, tag));
        left.extend(runners.map(|one| Leftover {
            pid: one.pid,
            unit: one.unit.clone(),
            program: one.name.clone(),
            venv: venv.name().clone(),
        }));
    }
    left
}

/// How many processes are named; JSON has them all.
const NAMED: usize = 5;

/// Says what is left behind.
fn of_leftovers(leftovers: &[Leftover]) -> Vec<Problem> {
    let mut by_venv: BTreeMap<&VenvName, Vec<&Leftover>> = BTreeMap::new();
    for leftover in leftovers {
        by_venv.entry(&leftover.venv).or_default().push(leftover);
    }
    let problems = by_venv.into_iter().map(|(venv, left)| {
        let mut named: Vec<String> = left.iter().take(NAMED).map(ToString::to_string).collect();
        match left.len().saturating_sub(NAMED) {
            0 => {}
            more => named.push(format!("and {more} more")),
        }
        let message = format!("still run from {venv}, which is not in force: {}", named.join(", "));
        let pids: Vec<String> = left.iter().map(|one| one.pid.to_string()).collect();
        let advice = format!("when they are not needed any more: kill {}", pids.join(" "));
        Problem::note("left-behind", message).advise(advice)
    });
    problems.collect()
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
    if brakes.detached.is_some() {
        let message = "it is detached: its units run from the venv by plain files, and nothing of venvd touches it";
        problems.push(Problem::note("detached", message).advise(format!("venvctl attach {name}")));
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
    problems.extend(of_leftovers(&brakes.leftovers));
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
