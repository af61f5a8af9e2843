//! --dry-run: what venvd would do.

use std::process::ExitCode;

use venvd_app::Layout;
use venvd_bus::AppChange;
use venvd_bus::plan::{LinkMove, OnFailure, Plan, Step};

use crate::client::{self, Request};
use crate::failure::Failure;
use crate::output;

/// Shows what venvd would do; exit status 1 when it would refuse.
pub(super) fn run(layout: &Layout, request: &Request, json: bool) -> Result<ExitCode, Failure> {
    if !layout.root().is_host() {
        return Err(Failure::refused(
            "no-dry-run",
            "below a root nothing runs: only links move there, see `venvctl status`",
        ));
    }
    let plan = client::plan(layout.scope(), request)?;
    output::show(&plan, json, text)?;
    Ok(match plan.refused {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

fn text(plan: &Plan) -> String {
    let mut text = format!("{} of {}:\n", plan.kind, venvs(plan));
    if let Some(refused) = &plan.refused {
        text.push_str(&format!(
            "  ! it would be refused ({}): {}\n",
            refused.code.as_str(),
            refused.message
        ));
        return text;
    }
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("{:>4}. {}\n", number + 1, step.what));
        details(step)
            .iter()
            .for_each(|line| text.push_str(&format!("        {line}\n")));
    }
    for unit in &plan.dependents {
        text.push_str(&format!(
            "  - {unit} is of none of them, goes down with their units, and comes up again\n"
        ));
    }
    for alone in &plan.left_alone {
        text.push_str(&format!("  - {} is left alone: {}\n", alone.unit, alone.why));
    }
    let seconds = plan.timeout / 1000;
    if plan.steps.iter().any(|step| !step.jobs.is_empty()) {
        text.push_str(&format!(
            "  - the units have {seconds} s in all until they are healthy\n"
        ));
    }
    if let Some(on_failure) = &plan.on_failure {
        text.push_str(&failure(on_failure));
    }
    text.push_str("nothing was changed\n");
    text
}

/// Returns what changes into what.
fn venvs(plan: &Plan) -> String {
    let each: Vec<String> = plan.apps.iter().map(AppChange::to_string).collect();
    each.join(", ")
}

fn details(step: &Step) -> Vec<String> {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map_or_else(|| "nothing".to_owned(), |path| path.display().to_string())
    };
    let link = |moved: &LinkMove| format!("{}: {} -> {}", moved.link.display(), path(&moved.from), path(&moved.to));
    let links = step.links.iter().map(link);
    let files = step
        .files
        .iter()
        .map(|file| format!("{} (+{} -{} lines)", file.path.display(), file.added, file.removed));
    let jobs = step.jobs.iter().map(|job| format!("{} {}", job.job, job.unit));
    links
        .chain(files)
        .chain(step.commands.iter().cloned())
        .chain(jobs)
        .collect()
}

fn failure(on_failure: &OnFailure) -> String {
    let mut text = format!("if it fails: status {}", on_failure.outcome.exit_status());
    match &on_failure.why {
        Some(why) => text.push_str(&format!(", no way back by itself, since {why}\n")),
        None => text.push('\n'),
    }
    for step in &on_failure.steps {
        text.push_str(&format!("      {step}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{"kind": "activate", "apps": [{"app": "nova", "from": "1", "to": "2"}], "refused": null,
        "steps": [
            {"stage": "policy", "what": "sudo allows both", "files": [{"path": "/etc/sudoers.d/venvd-nova", "added": 2, "removed": 1}]},
            {"stage": "hooks", "what": "a hook is run", "commands": ["nova-manage db sync (one-way)"]},
            {"stage": "committing", "what": "the venv is put in force",
             "links": [{"link": "/etc/venvd/committed/nova", "from": null, "to": "/v/nova/2"}]},
            {"stage": "restarting", "what": "units are restarted", "jobs": [{"unit": "a.service", "job": "restart"}]}],
        "dependents": ["z.service"], "left_alone": [{"unit": "b.service", "why": "it is masked"}],
        "settle": 300, "timeout": 120000,
        "on_failure": {"outcome": "rolled-back", "steps": ["units are stopped"], "why": null}}"#;

    #[test]
    fn a_plan_is_told_step_by_step() {
        let plan = Plan::from_json(PLAN).unwrap();
        assert_eq!(
            text(&plan),
            "\
activate of nova:1 to nova:2:
   1. sudo allows both
        /etc/sudoers.d/venvd-nova (+2 -1 lines)
   2. a hook is run
        nova-manage db sync (one-way)
   3. the venv is put in force
        /etc/venvd/committed/nova: nothing -> /v/nova/2
   4. units are restarted
        restart a.service
  - z.service is of none of them, goes down with their units, and comes up again
  - b.service is left alone: it is masked
  - the units have 120 s in all until they are healthy
if it fails: status 3
      units are stopped
nothing was changed
"
        );
        let refused = PLAN.replace("\"refused\": null", r#""refused": {"code": "frozen", "message": "no"}"#);
        let refused = text(&Plan::from_json(&refused).unwrap());
        assert_eq!(
            refused,
            "activate of nova:1 to nova:2:\n  ! it would be refused (frozen): no\n"
        );
    }
}
