//! revoke and unrevoke: venvs that must not run any more.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::links::{self, Link};
use venvd_app::{AppName, Layout, VenvName, in_force, search};
use venvd_core::note::Note;
use venvd_core::usage::{Usage, Use};
use venvd_core::{brake, leftovers, list};
use venvd_fs::atomic::Change;
use venvd_fs::lock::Lock;
use venvd_fs::report;
use venvd_policy::Edited;

use super::hold::note;
use super::{policy, require_known};
use crate::failure::Failure;
use crate::{output, systemd};

#[derive(Debug, Serialize)]
struct State {
    venv: VenvName,
    revoked: bool,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<Note>,
    /// What units start from next, where this venv was in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_start: Option<String>,
    /// The processes that still run it.
    used_by: Vec<Use>,
    /// What could not be done at once.
    problems: Vec<String>,
}

impl State {
    fn exit(&self) -> ExitCode {
        match self.problems.as_slice() {
            [] => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// Whether a venv may be revoked that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InForce {
    Refuse,
    Too,
}

/// Revokes a venv.
pub(super) fn revoke(
    layout: &Layout,
    venv: &VenvName,
    (reason, in_force): (&str, InForce),
    json: bool,
) -> Result<ExitCode, Failure> {
    let note = note(Some(reason))?;
    require_known(layout, venv.app())?;
    // While an activation goes on, what is in force may be this one in a moment.
    let lock = Lock::try_exclusive(&layout.app_lock(venv.app()))?;
    if in_force == InForce::Refuse {
        if lock.is_none() {
            return Err(Failure::refused("locked", busy(venv)));
        }
        if is_in_force(layout, venv)? {
            return Err(Failure::refused("in-force", still_in_force(layout, venv)));
        }
    }
    let changed = brake::revoke(layout, venv, &note)? == Change::Changed;
    // What follows takes it itself, where nobody has it.
    let is_busy = lock.is_none();
    drop(lock);
    let mut state = State {
        venv: venv.clone(),
        revoked: true,
        changed,
        note: Some(note),
        next_start: is_in_force(layout, venv)?.then(|| next_start(layout, venv.app())),
        used_by: Vec::new(),
        problems: Vec::new(),
    };
    follow(layout, is_busy, &mut state);
    if let Ok(path) = list::find(layout, venv) {
        let paths = std::slice::from_ref(&path);
        let ended = leftovers::end_daemons(layout, paths);
        let still = Usage::scan(layout, paths).map(|usage| usage.of(&path).to_vec());
        let failed = [ended.as_ref().err(), still.as_ref().err()];
        state
            .problems
            .extend(failed.into_iter().flatten().map(|error| report(error)));
        state.used_by = still.unwrap_or_default();
    }
    output::show(&state, json, text)?;
    Ok(state.exit())
}

/// Lifts that.
pub(super) fn unrevoke(layout: &Layout, venv: &VenvName, json: bool) -> Result<ExitCode, Failure> {
    let changed = brake::unrevoke(layout, venv)? == Change::Changed;
    if !changed {
        // What never was can't be meant.
        list::find(layout, venv)?;
    }
    let mut state = State {
        venv: venv.clone(),
        revoked: false,
        changed,
        note: None,
        next_start: (changed && is_in_force(layout, venv)?).then(|| next_start(layout, venv.app())),
        used_by: Vec::new(),
        problems: Vec::new(),
    };
    if changed {
        let lock = Lock::try_exclusive(&layout.app_lock(venv.app()))?;
        let is_busy = lock.is_none();
        drop(lock);
        follow(layout, is_busy, &mut state);
    }
    output::show(&state, json, |state| {
        let before = if state.changed {
            " any more"
        } else {
            ", and was not before"
        };
        let mut text = format!("{venv} is not revoked{before}\n");
        add_what_follows(&mut text, state);
        text
    })?;
    Ok(state.exit())
}

/// Returns whether units of an app that is on follow a committed link that names it.
fn is_in_force(layout: &Layout, venv: &VenvName) -> Result<bool, Failure> {
    let app = venv.app();
    let committed = links::read(layout, Link::Committed, app)?;
    // One whose definition is broken goes on with the one that was accepted.
    let on = search::load_app(layout, app).map_or(true, |app| app.enabled);
    Ok(on && committed.is_some_and(|committed| committed.name() == venv))
}

/// Returns what the units of an app start from next.
fn next_start(layout: &Layout, app: &AppName) -> String {
    let found = in_force::of_links(layout, app).ok().and_then(|found| found.venv);
    found.map_or_else(
        || "the distribution's programs".to_owned(),
        |venv| venv.name().to_string(),
    )
}

/// Lets policies and units follow what is in force now.
fn follow(layout: &Layout, is_busy: bool, state: &mut State) {
    if !layout.root().is_host() {
        return;
    }
    if is_busy {
        // It has no rights by any policy that is written from now on.
        let app = state.venv.app();
        let message = format!("an activation of {app} goes on, which writes its policy itself; `venvctl status {app}`");
        state.problems.push(message);
    } else if layout.has_policies()
        && let Err(failure) = policy::write(layout, state.venv.app(), Edited::SetAside)
        && failure.code != "unknown-app"
    {
        state.problems.push(failure.message);
    }
    if state.next_start.is_some()
        && let Err(failure) = systemd::daemon_reload(layout)
    {
        state.problems.push(failure.message);
    }
}

fn busy(venv: &VenvName) -> String {
    let app = venv.app();
    format!("an activation of {app} goes on, so what is in force may change; wait for it, or revoke with --force")
}

fn still_in_force(layout: &Layout, venv: &VenvName) -> String {
    let app = venv.app();
    let previous = links::read(layout, Link::Previous, app).ok().flatten();
    let other = previous.map_or_else(|| format!("{app}:TAG"), |previous| previous.name().to_string());
    format!(
        "{venv} is in force; put another one in force first (`venvctl activate {other}`), or revoke with --force: then its \
         sudo rights end at once, and its units start from something else when they are restarted"
    )
}

fn text(state: &State) -> String {
    let venv = &state.venv;
    let mut text = format!(
        "{venv} is revoked: nothing puts it in force, and it has no sudo rights; `venvctl unrevoke {venv}` lifts it\n"
    );
    add_what_follows(&mut text, state);
    for one in &state.used_by {
        text.push_str(&format!("  ! still runs: {one}\n"));
    }
    text
}

fn add_what_follows(text: &mut String, state: &State) {
    if let Some(next) = &state.next_start {
        let app = state.venv.app();
        text.push_str(&format!(
            "  - it is the one that was committed: its units run on until they are restarted, and start from {next} then\n  \
             > venvctl activate {app}:TAG\n"
        ));
    }
    for problem in &state.problems {
        text.push_str(&format!("  ! {problem}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_app::links::VenvPath;
    use venvd_fs::Root;

    #[test]
    fn what_is_in_force_is_revoked_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let venv: VenvName = "nova:1".parse().unwrap();
        let revoke = |venv: &VenvName, in_force| revoke(&layout, venv, ("CVE", in_force), true);
        let is_revoked = |venv: &VenvName| brake::revoked(&layout, venv).unwrap().is_some();
        assert_eq!(revoke(&venv, InForce::Too).unwrap_err().code, "no-such-venv");
        let definition = layout.on_disk("/etc/venvd/apps/nova.toml");
        std::fs::create_dir_all(definition.parent().unwrap()).unwrap();
        let path = VenvPath::local(&layout, venv.clone());
        links::set(&layout, Link::Committed, venv.app(), Some(&path)).unwrap();
        for (text, other, in_force, code) in [
            ("enabled = true\n", "nova:1", InForce::Refuse, Some("in-force")),
            ("enabled = oops\n", "nova:1", InForce::Refuse, Some("in-force")),
            ("enabled = false\n", "nova:1", InForce::Refuse, None),
            ("enabled = true\n", "nova:2", InForce::Refuse, None),
            ("enabled = true\n", "nova:1", InForce::Too, None),
        ] {
            std::fs::write(&definition, text).unwrap();
            let venv: VenvName = other.parse().unwrap();
            let result = revoke(&venv, in_force);
            assert_eq!(
                result.err().map(|failure| failure.code).as_deref(),
                code,
                "{text}{other}"
            );
            assert_eq!(is_revoked(&venv), code.is_none());
            unrevoke(&layout, &venv, true).unwrap_or(ExitCode::SUCCESS);
            assert!(!is_revoked(&venv));
        }
        let lock = Lock::try_exclusive(&layout.app_lock(venv.app())).unwrap();
        assert_eq!(
            revoke(&"nova:3".parse().unwrap(), InForce::Refuse).unwrap_err().code,
            "locked"
        );
        revoke(&"nova:3".parse().unwrap(), InForce::Too).unwrap();
        drop(lock);
        let refused = super::revoke(&layout, &venv, ("a\nb", InForce::Too), true);
        assert_eq!(refused.unwrap_err().code, "invalid-reason");
    }
}
