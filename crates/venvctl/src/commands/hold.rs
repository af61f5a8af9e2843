//! hold and unhold: venvs that are never collected.

use std::process::ExitCode;
use std::time::SystemTime;

use nix::unistd::{User, getuid};
use serde::Serialize;
use venvd_app::{Layout, VenvName};
use venvd_core::hold::{self, Hold};
use venvd_fs::atomic::Change;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct State {
    venv: VenvName,
    held: bool,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<Hold>,
}

/// Holds a venv.
pub(super) fn hold(layout: &Layout, venv: &VenvName, reason: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let hold = Hold {
        reason: reason.map(str::to_owned),
        by: caller(),
        since: Some(now()),
    };
    let changed = hold::hold(layout, venv, &hold)? == Change::Changed;
    let state = State {
        venv: venv.clone(),
        held: true,
        changed,
        hold: Some(hold),
    };
    output::show(&state, json, |_| {
        format!("{venv} is held; `venvctl unhold {venv}` lets it be collected again\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lets a venv go.
pub(super) fn unhold(layout: &Layout, venv: &VenvName, json: bool) -> Result<ExitCode, Failure> {
    let changed = hold::unhold(layout, venv)? == Change::Changed;
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
