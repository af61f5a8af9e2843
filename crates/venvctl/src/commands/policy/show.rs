//! policy show: what is to hold for each app, and what stands in the files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout};
use venvd_policy::{Edited, Plan};

use super::{NO_POLICIES, Subject, Trouble, status, subjects};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct Shown {
    apps: Vec<AppPolicy>,
    broken: Vec<Trouble>,
}

/// The policy of an app.
#[derive(Debug, Serialize)]
struct AppPolicy {
    app: AppName,
    in_force: Option<String>,
    why: String,
    activation_open: bool,
    user: Option<String>,
    sudo: Option<String>,
    rules: Vec<String>,
    secure_path: Option<String>,
    files: Vec<FileState>,
    warnings: Vec<String>,
    /// Why the policy can't be as it should.
    refused: Option<Trouble>,
}

#[derive(Debug, Serialize)]
struct FileState {
    path: PathBuf,
    state: State,
}

/// How a file compares with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It is as it should be, or rightly not there.
    Right,
    Missing,
    Differs,
    /// An administrator edited it.
    Edited,
    Left,
}

/// Shows policies.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let (subjects, broken) = subjects(layout, app)?;
    let apps: Vec<AppPolicy> = subjects.iter().map(|subject| policy(layout, subject)).collect();
    let shown = Shown { apps, broken };
    let well = shown.broken.is_empty() && shown.apps.iter().all(|app| app.refused.is_none());
    output::show(&shown, json, text)?;
    Ok(status(well))
}

fn policy(layout: &Layout, subject: &Subject) -> AppPolicy {
    let app = &subject.app;
    let (plan, refused) = match subject.plan(layout, Edited::SetAside) {
        Ok(plan) => (Some(plan), None),
        Err(error) => (None, Some(Trouble::new(&app.name, error.into()))),
    };
    AppPolicy {
        app: app.name.clone(),
        in_force: subject.in_force(),
        why: subject.why.clone(),
        activation_open: subject.open,
        user: app.user.as_ref().map(ToString::to_string),
        sudo: plan.as_ref().and_then(Plan::sudo),
        rules: plan.as_ref().map(Plan::rules).unwrap_or_default(),
        secure_path: plan.as_ref().and_then(Plan::secure_path),
        files: plan
            .as_ref()
            .map(|plan| files(layout, subject, plan))
            .unwrap_or_default(),
        warnings: plan.iter().flat_map(Plan::warnings).map(ToString::to_string).collect(),
        refused,
    }
}

fn files(layout: &Layout, subject: &Subject, plan: &Plan) -> Vec<FileState> {
    let app = &subject.app;
    let mut paths: Vec<PathBuf> = plan.edits().iter().map(|edit| edit.path.clone()).collect();
    let sudoers = (!app.sudo.is_empty()).then(|| layout.sudoers(&app.name));
    let secure_path = app.user.as_ref().filter(|_| !app.sudo.is_empty());
    paths.extend(sudoers);
    paths.extend(secure_path.map(|user| layout.sudoers_path_of(user)));
    if !plan
        .edits()
        .iter()
        .any(|edit| edit.kind == venvd_policy::Kind::Rootwrap)
    {
        paths.extend(app.rootwrap.as_ref().map(|rootwrap| layout.on_disk(&*rootwrap.config)));
    }
    paths.sort();
    paths.dedup();
    let state = |path: PathBuf| FileState {
        state: state_of(plan, &path),
        path,
    };
    paths.into_iter().map(state).collect()
}

fn state_of(plan: &Plan, path: &Path) -> State {
    match plan.edits().iter().find(|edit| edit.path == path) {
        None => State::Right,
        Some(edit) if edit.is_over_edited() => State::Edited,
        Some(edit) => match (&edit.before, &edit.after) {
            (None, _) => State::Missing,
            (_, None) => State::Left,
            _ => State::Differs,
        },
    }
}

fn text(shown: &Shown) -> String {
    if shown.apps.is_empty() && shown.broken.is_empty() {
        return NO_POLICIES.to_owned();
    }
    let mut text = String::new();
    for app in &shown.apps {
        let user = app.user.as_deref().unwrap_or("no user");
        let venv = app.in_force.as_deref().unwrap_or("no venv");
        text.push_str(&format!("{} ({user}): {venv} in force: {}\n", app.app, app.why));
        if app.activation_open {
            text.push_str("  an activation is open; it admits the venvs that it needs\n");
        }
        for line in app.rules.iter().map(String::as_str) {
            text.push_str(&format!("  {line}\n"));
        }
        if let Some(path) = &app.secure_path {
            text.push_str(&format!("  secure_path {path}\n"));
        }
        for file in &app.files {
            let state = match file.state {
                State::Right => "is as it should be",
                State::Missing => "is missing",
                State::Differs => "differs",
                State::Edited => "was edited by hand",
                State::Left => "is a leftover",
            };
            text.push_str(&format!("  {} {state}\n", file.path.display()));
        }
        for warning in &app.warnings {
            text.push_str(&format!("  ! {warning}\n"));
        }
        if let Some(refused) = &app.refused {
            text.push_str(&format!("  ! {}\n", refused.message.replace('\n', "\n    ")));
        }
    }
    text.extend(shown.broken.iter().map(|trouble| trouble.text('!')));
    text
}
