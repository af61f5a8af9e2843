//! activate, rollback, enable, disable: venvd's jobs, or the links alone below a root.

use std::process::ExitCode;

use venvd_app::Layout;
use venvd_app::cmdline::Switch;
use venvd_bus::{AppChange, JobReport, Kind, Outcome};

use crate::client::{self, Request};
use crate::failure::Failure;
use crate::output;
use crate::output::progress::Stages;

/// Has venvd do a job, shows where it is, and turns its outcome into text and exit status.
pub(super) fn run(layout: &Layout, request: &Request, json: bool) -> Result<ExitCode, Failure> {
    let mut stages = Stages::default();
    let report = client::run(layout.scope(), request, &mut stages)?;
    let outcome = report.result.unwrap_or(Outcome::Failed);
    let switch = Switch::of_this_boot(layout);
    let is_off = |change: &&AppChange| report.kind != Kind::Disable && !switch.admits(&change.app);
    for change in report.apps.iter().filter(is_off).filter(|_| outcome == Outcome::Done) {
        output::say(&format!(
            "venvctl: {} is off for this boot, since the kernel command line has `{switch}`: what is said below begins with \
             the next one",
            change.app
        ));
    }
    if json || outcome == Outcome::Done {
        output::show(&report, json, done)?;
    } else {
        output::say(&format!("venvctl: {}", undone(&report, outcome)));
    }
    Ok(ExitCode::from(outcome.exit_status()))
}

fn done(report: &JobReport) -> String {
    let app = report.names();
    let venv = report.each(AppChange::after);
    let mut text = match report.kind {
        Kind::Activate if report.apps.len() > 1 => format!("{venv} are in force"),
        Kind::Activate => format!("{venv} is in force"),
        Kind::Enable => format!("{app} is on, with {venv} in force"),
        Kind::Disable => format!("{app} is off; everything is as the distribution made it"),
    };
    let changed = report.apps.iter().any(|change| match report.kind {
        Kind::Activate => change.to != change.from,
        Kind::Enable => change.to.is_some(),
        Kind::Disable => false,
    });
    if changed && report.units.is_empty() {
        // The app is off, or its units are stopped: then that they still are is no surprise later.
        text.push_str(&format!(
            "; no unit was restarted, see `venvctl status {app}` for what runs"
        ));
    }
    if let Some(message) = &report.message {
        text.push_str(&format!("\n{message}"));
    }
    for unit in &report.units {
        text.push_str(&format!("\n  {} {}", unit.unit, unit.result));
    }
    for check in &report.checks {
        text.push_str(&format!("\n  {} `{}` {}", check.stage, check.command, check.result));
    }
    for leftover in &report.leftovers {
        text.push_str(&format!("\n  - {leftover} still runs {}", leftover.venv));
    }
    text.push('\n');
    text
}

fn undone(report: &JobReport, outcome: Outcome) -> String {
    let message = report.message.as_deref().unwrap_or("no reason was given");
    let from = report.each(|change| match &change.from {
        Some(_) => change.before(),
        None => "what the distribution made".to_owned(),
    });
    let mut text = match outcome {
        Outcome::Done => message.to_owned(),
        Outcome::Refused => format!("refused, nothing changed: {message}"),
        Outcome::RolledBack => format!("{message}\n{from} runs again"),
        Outcome::Failed => {
            format!(
                "{message}\nthis needs you: look at the units with `venvctl status {}` and `journalctl -b`",
                report.apps.first().map_or("", |change| change.app.as_str())
            )
        }
    };
    for unit in &report.units {
        text.push_str(&format!("\n  {} {}", unit.unit, unit.result));
    }
    for check in report.checks.iter().filter(|check| check.has_failed()) {
        text.push_str(&format!("\n  {} `{}` {}", check.stage, check.command, check.result));
        for line in &check.output {
            text.push_str(&format!("\n    {line}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_bus::Check;

    fn report(kind: &str, from: &str, to: &str, units: &str) -> JobReport {
        JobReport::from_json(&format!(
            r#"{{"id": 1, "apps": [{{"app": "nova", "from": {from}, "to": {to}}}], "kind": "{kind}", "cause": "dbus",
                "caller_uid": 0, "state": "ended", "result": "done", "code": null, "message": null,
                "units": {units}, "started": 1, "ended": 2}}"#
        ))
        .unwrap()
    }

    #[test]
    fn shows_what_commands_said_that_failed() {
        let checks = [
            ("before-stop", "a b", Check::DONE),
            ("health", "c", "exit-code, status 1"),
        ];
        let checks = checks.map(|(stage, command, result)| {
            format!(r#"{{"stage": "{stage}", "command": "{command}", "result": "{result}", "output": ["x", "y"]}}"#)
        });
        let mut report = report("activate", r#""1""#, r#""2""#, "[]");
        report.checks = serde_json::from_str(&format!("[{}]", checks.join(","))).unwrap();
        let text = undone(&report, Outcome::RolledBack);
        assert!(
            text.ends_with("nova:1 runs again\n  health `c` exit-code, status 1\n    x\n    y"),
            "{text}"
        );
        let text = done(&report);
        assert!(text.contains("\n  before-stop `a b` done\n"), "{text}");
    }

    #[test]
    fn says_so_when_no_unit_was_restarted() {
        const NONE: &str = "no unit was restarted";
        const UNITS: &str = r#"[{"unit": "nova-api.service", "result": "done"}]"#;
        for (kind, from, to, units, said) in [
            ("activate", r#""1""#, r#""2""#, "[]", true),
            ("activate", r#""1""#, r#""2""#, UNITS, false),
            ("activate", r#""2""#, r#""2""#, "[]", false),
            ("enable", r#""2""#, r#""2""#, "[]", true),
            ("enable", "null", "null", "[]", false),
            ("disable", r#""2""#, r#""2""#, "[]", false),
        ] {
            let text = done(&report(kind, from, to, units));
            assert_eq!(text.contains(NONE), said, "{text}");
        }
    }
}
