//! freeze and thaw: apps that stay at the venv that is in force.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout, search};
use venvd_core::brake;
use venvd_core::note::Note;
use venvd_fs::atomic::Change;

use super::hold::note;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct State {
    app: AppName,
    frozen: bool,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<Note>,
}

/// Freezes an app.
pub(super) fn freeze(layout: &Layout, app: &AppName, reason: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    // One that is not declared, or misspelt, must not be taken for frozen.
    search::load_app(layout, app)?;
    let said = note(reason)?;
    let note = match brake::frozen(layout, app)? {
        // Who only says `freeze` again takes nobody's reason away.
        Some(before) if reason.is_none() => before,
        _ => said,
    };
    let changed = brake::freeze(layout, app, &note)? == Change::Changed;
    let state = State {
        app: app.clone(),
        frozen: true,
        changed,
        note: Some(note),
    };
    output::show(&state, json, |_| {
        format!("{app} stays at what is in force; `venvctl thaw {app}` lets it be activated again\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Thaws an app.
pub(super) fn thaw(layout: &Layout, app: &AppName, json: bool) -> Result<ExitCode, Failure> {
    let changed = brake::thaw(layout, app)? == Change::Changed;
    if !changed {
        search::load_app(layout, app)?;
    }
    let state = State {
        app: app.clone(),
        frozen: false,
        changed,
        note: None,
    };
    output::show(&state, json, |state| {
        let before = if state.changed {
            " any more"
        } else {
            ", and was not before"
        };
        format!("{app} is not frozen{before}\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn frozen_until_thawed_and_the_reason_stays() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let app: AppName = "nova".parse().unwrap();
        assert_eq!(freeze(&layout, &app, None, true).unwrap_err().code, "unknown-app");
        assert_eq!(thaw(&layout, &app, true).unwrap_err().code, "unknown-app");
        std::fs::create_dir_all(layout.on_disk("/etc/venvd/apps")).unwrap();
        std::fs::write(layout.on_disk("/etc/venvd/apps/nova.toml"), "enabled = true\n").unwrap();
        let reason = || brake::frozen(&layout, &app).unwrap().map(|note| note.reason);
        for (said, kept) in [(Some("audit"), "audit"), (None, "audit"), (Some("rollout"), "rollout")] {
            freeze(&layout, &app, said, true).unwrap();
            assert_eq!(reason(), Some(Some(kept.to_owned())));
        }
        assert_eq!(
            freeze(&layout, &app, Some("a\nb"), true).unwrap_err().code,
            "invalid-reason"
        );
        thaw(&layout, &app, true).unwrap();
        assert_eq!(reason(), None);
        thaw(&layout, &app, true).unwrap();
    }
}
