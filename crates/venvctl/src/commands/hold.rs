//! hold and unhold: venvs that are never collected.

use std::process::ExitCode;
use std::time::SystemTime;

use nix::unistd::{User, getuid};
use serde::Serialize;
use venvd_app::{Layout, VenvName};
use venvd_core::note::Note;
use venvd_core::{hold, list};
use venvd_fs::atomic::Change;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct State {
    venv: VenvName,
    held: bool,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Note>,
}

/// Holds a venv.
pub(super) fn hold(layout: &Layout, venv: &VenvName, reason: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let hold = note(reason)?;
    let before = hold::read(layout, venv)?;
    if let (Some(before), None) = (&before, reason) {
        // Who only says `hold` again takes nobody's reason away; a venv that is not there is told all the same.
        list::find(layout, venv)?;
        return show_held(venv, json, (before.clone(), false, before_text(before, "as before")));
    }
    let changed = hold::hold(layout, venv, &hold)? == Change::Changed;
    let text = before.map_or_else(String::new, |before| before_text(&before, "and its reason is replaced"));
    show_held(venv, json, (hold, changed, text))
}

fn show_held(venv: &VenvName, json: bool, (hold, changed, before): (Note, bool, String)) -> Result<ExitCode, Failure> {
    let state = State {
        venv: venv.clone(),
        held: true,
        changed,
        hold: Some(hold),
    };
    output::show(&state, json, |_| {
        format!("{venv} is held{before}; `venvctl unhold {venv}` lets it be collected again\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Says that a venv was held already, by whom and why.
fn before_text(before: &Note, what: &str) -> String {
    let by = before.by.iter().map(|by| format!(" by {by}"));
    let why = before.reason.iter().map(|why| format!(": {why}"));
    let said: String = by.chain(why).collect();
    format!(", {what} (it was held already{said})")
}

/// Lets a venv go.
pub(super) fn unhold(layout: &Layout, venv: &VenvName, json: bool) -> Result<ExitCode, Failure> {
    let changed = hold::unhold(layout, venv)? == Change::Changed;
    if !changed {
        // A hold outlives its venv, but what never was can't be meant.
        list::find(layout, venv)?;
    }
    let state = State {
        venv: venv.clone(),
        held: false,
        changed,
        hold: None,
    };
    output::show(&state, json, |state| {
        let before = if state.changed {
            " any more"
        } else {
            ", and was not before"
        };
        format!("{venv} is not held{before}\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns what is to be remembered of a word that is said now.
pub(super) fn note(reason: Option<&str>) -> Result<Note, Failure> {
    if reason.is_some_and(|reason| reason.chars().any(char::is_control)) {
        let message = "the reason has a line break or another control character; give it in one line of plain text";
        return Err(Failure::refused("invalid-reason", message));
    }
    Ok(Note {
        reason: reason.map(str::to_owned),
        by: caller(),
        since: Some(now()),
    })
}

/// Returns seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |duration| duration.as_secs())
}

/// Returns who asks: sudo says who became root.
fn caller() -> Option<String> {
    let before_sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    before_sudo.or_else(|| User::from_uid(getuid()).ok().flatten().map(|user| user.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn a_second_hold_takes_no_reason_away_unless_it_gives_one() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let venv: VenvName = "nova:1".parse().unwrap();
        let reason = || hold::read(&layout, &venv).unwrap().and_then(|hold| hold.reason);
        assert_eq!(unhold(&layout, &venv, true).unwrap_err().code, "no-such-venv");
        std::fs::create_dir_all(layout.venv(&venv)).unwrap();
        hold(&layout, &venv, Some("audit"), true).unwrap();
        hold(&layout, &venv, None, true).unwrap();
        assert_eq!(reason().as_deref(), Some("audit"));
        hold(&layout, &venv, Some("rollout"), true).unwrap();
        assert_eq!(reason().as_deref(), Some("rollout"));
        let refused = hold(&layout, &venv, Some("a\u{1b}[2J"), true).unwrap_err();
        assert_eq!(refused.code, "invalid-reason");
        assert_eq!(reason().as_deref(), Some("rollout"));
        // It may be held longer than it is there.
        std::fs::remove_dir_all(layout.venv(&venv)).unwrap();
        unhold(&layout, &venv, true).unwrap();
        assert_eq!(unhold(&layout, &venv, true).unwrap_err().code, "no-such-venv");
    }

    #[test]
    fn says_who_held_it_before() {
        let before = Note {
            reason: Some("audit".into()),
            by: Some("alice".into()),
            since: None,
        };
        assert_eq!(
            before_text(&before, "as before"),
            ", as before (it was held already by alice: audit)"
        );
    }
}
