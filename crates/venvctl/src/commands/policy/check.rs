//! policy check: what is wrong with policies, or not as it seems.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout};
use venvd_policy::Edited;
use venvd_policy::check::{Finding, Level};

use super::{NO_POLICIES, Subject, Trouble, status, subjects};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct Checked {
    apps: Vec<AppFindings>,
    broken: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
struct AppFindings {
    app: AppName,
    in_force: Option<String>,
    findings: Vec<Finding>,
}

/// Checks policies; the exit status is 1 when something is wrong. Warnings alone are not.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let (subjects, mut broken) = subjects(layout, app)?;
    if app.is_none() {
        broken.extend(venvd_policy::leftovers(layout)?.iter().map(left_over));
    }
    let apps: Vec<AppFindings> = subjects
        .iter()
        .map(|subject| AppFindings {
            app: subject.app.name.clone(),
            in_force: subject.in_force(),
            findings: findings(layout, subject),
        })
        .collect();
    let checked = Checked { apps, broken };
    let mut found = checked.apps.iter().flat_map(|app| &app.findings);
    let well = checked.broken.is_empty() && !found.any(|finding| finding.level == Level::Error);
    output::show(&checked, json, text)?;
    Ok(status(well))
}

/// An app that has rights by files of ours, but by no definition.
fn left_over(app: &AppName) -> Trouble {
    let message = "no definition gives it any rights, and some are left; `venvctl policy apply` takes them away";
    Trouble::new(app, Failure::refused("policy-left-over", message))
}

fn findings(layout: &Layout, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    match subject.plan(layout, Edited::SetAside) {
        Err(error) => {
            let failure = Failure::from(error);
            findings.push(Finding::error(&failure.code, failure.message));
        }
        Ok(plan) => {
            findings.extend(
                plan.warnings()
                    .iter()
                    .map(|warning| Finding::warning("policy-warning", warning.to_string())),
            );
            // An open activation changes the files as it goes.
            if !subject.open {
                findings.extend(plan.edits().iter().map(|edit| {
                    let message = format!(
                        "{} is not as it should be; `venvctl policy diff {}` shows how",
                        edit.path.display(),
                        subject.app.name
                    );
                    Finding::error("policy-differs", message)
                }));
            }
            if plan.edits().is_empty()
                && let Err(error) = plan.prove()
            {
                let failure = Failure::from(error);
                findings.push(Finding::error(&failure.code, failure.message));
            }
        }
    }
    findings.extend(venvd_policy::check::check(layout, &subject.app, &subject.admitted));
    findings
}

fn text(checked: &Checked) -> String {
    if checked.apps.is_empty() && checked.broken.is_empty() {
        return NO_POLICIES.to_owned();
    }
    let mut text = String::new();
    for app in &checked.apps {
        let venv = app.in_force.as_deref().unwrap_or("no venv in force");
        let state = if app.findings.is_empty() { ": nothing found" } else { "" };
        text.push_str(&format!("{} ({venv}){state}\n", app.app));
        for finding in &app.findings {
            let sign = match finding.level {
                Level::Error => "x",
                Level::Warning => "!",
            };
            text.push_str(&format!("  {sign} {}\n", finding.message.replace('\n', "\n    ")));
        }
    }
    text.extend(checked.broken.iter().map(|trouble| trouble.text('x')));
    text
}
