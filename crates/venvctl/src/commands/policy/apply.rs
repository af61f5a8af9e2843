//! policy apply: makes the files as they should be.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout};
use venvd_fs::atomic::Change;
use venvd_fs::lock::Lock;
use venvd_policy::Edited;

use super::{NO_POLICIES, Trouble, status, subjects};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct Applied {
    apps: Vec<AppResult>,
    /// Files of apps that no definition gives rights any more: put right, or left since somebody edited them.
    swept: Vec<PathBuf>,
    left: Vec<PathBuf>,
    refused: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
pub(super) struct AppResult {
    app: AppName,
    in_force: Option<String>,
    changed: bool,
    warnings: Vec<String>,
}

/// Applies the policies; one that is refused keeps none of the others.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, edited: Edited, json: bool) -> Result<ExitCode, Failure> {
    let (subjects, mut refused) = subjects(layout, app)?;
    let mut apps = Vec::new();
    for subject in &subjects {
        match one(layout, &subject.app.name, edited) {
            Ok(result) => apps.push(result),
            Err(failure) => refused.push(Trouble::new(&subject.app.name, failure)),
        }
    }
    let mut swept = venvd_policy::Swept::default();
    if app.is_none() {
        swept = venvd_policy::sweep(layout)?;
        let failed = swept.failed.into_iter();
        refused.extend(failed.map(|(name, error)| Trouble::new(&name, error.into())));
    }
    let applied = Applied {
        apps,
        swept: swept.changed,
        left: swept.edited,
        refused,
    };
    output::show(&applied, json, text)?;
    for trouble in applied.refused.iter().filter(|_| !json) {
        output::say(&format!("venvctl: {}: {}", trouble.app, trouble.message));
    }
    Ok(status(applied.refused.is_empty()))
}

/// Applies the policy of one app.
pub(super) fn one(layout: &Layout, name: &AppName, edited: Edited) -> Result<AppResult, Failure> {
    // No activation may begin meanwhile, and one that ended a moment ago has changed what is to be admitted.
    let lock = Lock::try_exclusive(&layout.app_lock(name))?;
    let (subjects, mut troubles) = subjects(layout, Some(name))?;
    let Some(subject) = subjects.into_iter().next() else {
        let trouble = troubles.pop().map(|trouble| (trouble.code, trouble.message));
        let (code, message) = trouble.unwrap_or_else(|| ("unknown-app".to_owned(), format!("{name} is gone")));
        return Err(Failure::refused(&code, message));
    };
    if subject.open || lock.is_none() {
        let message = format!("an activation of {name} is open, and writes its policy itself; `venvctl status {name}`");
        return Err(Failure::refused("activation-open", message));
    }
    let plan = subject.plan(layout, edited)?;
    let warnings = plan.warnings().iter().map(ToString::to_string).collect();
    let change = plan.apply()?;
    Ok(AppResult {
        app: name.clone(),
        in_force: subject.in_force(),
        changed: change == Change::Changed,
        warnings,
    })
}

fn text(applied: &Applied) -> String {
    let nothing_swept = applied.swept.is_empty() && applied.left.is_empty();
    if applied.apps.is_empty() && applied.refused.is_empty() && nothing_swept {
        return NO_POLICIES.to_owned();
    }
    let mut text = String::new();
    for path in &applied.swept {
        text.push_str(&format!(
            "{}: put right, since no definition asks for what it said\n",
            path.display()
        ));
    }
    for path in &applied.left {
        text.push_str(&format!(
            "{}: no definition asks for it, but it was edited; remove it\n",
            path.display()
        ));
    }
    for app in &applied.apps {
        let change = if app.changed { "changed" } else { "unchanged" };
        let venv = app.in_force.as_deref().unwrap_or("no venv in force");
        text.push_str(&format!("{}: {change} ({venv})\n", app.app));
        for warning in &app.warnings {
            text.push_str(&format!("  ! {warning}\n"));
        }
    }
    text
}
