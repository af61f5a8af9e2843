//! status: what is declared, asked for, in force, and really running.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::definition::UnitKind;
use venvd_app::links::{self, Link};
use venvd_app::search::{Declared, load};
use venvd_app::{App, AppName, Layout};

use crate::failure::Failure;
use crate::output::{self, table::table};
use crate::systemd::{self, UnitState};

#[derive(Debug, Serialize)]
struct Status {
    /// What is wrong with the settings, or with files that define no app.
    problems: Vec<String>,
    apps: Vec<AppStatus>,
}

#[derive(Debug, Serialize)]
struct AppStatus {
    app: AppName,
    /// Unknown when the definition can't be read.
    enabled: Option<bool>,
    asked_for: Option<String>,
    in_force: Option<String>,
    previous: Option<String>,
    /// An activation is open.
    pending: bool,
    units: Vec<UnitStatus>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct UnitStatus {
    unit: String,
    #[serde(flatten)]
    state: UnitState,
}

/// Shows the state of one app, or of all.
pub(super) fn run(layout: &Layout, only: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let declared = load(layout);
    if let Some(app) = only {
        let broken = declared.broken.contains_key(app);
        if !broken && !declared.apps.contains_key(app) {
            // For its message.
            venvd_app::search::load_app(layout, app)?;
        }
    }
    let status = collect(layout, &declared, only)?;
    output::show(&status, json, text)?;
    Ok(ExitCode::SUCCESS)
}

fn collect(layout: &Layout, declared: &Declared, only: Option<&AppName>) -> Result<Status, Failure> {
    let wanted = |app: &AppName| only.is_none_or(|only| only == app);
    let mut apps = Vec::new();
    for (name, app) in declared.apps.iter().filter(|(name, _)| wanted(name)) {
        apps.push(of_app(layout, declared, name, Some(app))?);
    }
    for (name, error) in declared.broken.iter().filter(|(name, _)| wanted(name)) {
        let mut status = of_app(layout, declared, name, None)?;
        let error = venvd_fs::report(error);
        // The generator says the same of it.
        status.problems.retain(|problem| !problem.contains(&error));
        status.problems.insert(0, error);
        apps.push(status);
    }
    let problems = declared.problems.iter().map(|error| venvd_fs::report(error)).collect();
    Ok(Status { problems, apps })
}

fn of_app(layout: &Layout, declared: &Declared, name: &AppName, app: Option<&App>) -> Result<AppStatus, Failure> {
    let mut problems = Vec::new();
    let mut link = |link| match links::read(layout, link, name) {
        Ok(venv) => venv.map(|venv| venv.name().tag().to_string()),
        Err(error) => {
            problems.push(venvd_fs::report(&error));
            None
        }
    };
    let (asked_for, in_force, previous) = (link(Link::Active), link(Link::Committed), link(Link::Previous));
    let enabled = app.map(|app| app.enabled && declared.settings.enabled);
    let names: Vec<String> = app
        .iter()
        .flat_map(|app| app.units.keys())
        .map(ToString::to_string)
        .collect();
    let mut units = Vec::new();
    if layout.root().is_host() {
        let states = systemd::states(&names)?;
        // sd_booted(3); elsewhere there are no states to miss.
        if states.is_none() && Path::new("/run/systemd/system").is_dir() {
            problems.push(
                "cannot reach the system bus, so it is unknown what its units do; `systemctl status dbus.socket`"
                    .to_owned(),
            );
        }
        for (unit, state) in states.into_iter().flatten() {
            // One that only gets variables runs from no venv itself.
            let is_ours = app.is_none_or(|app| !only_gets_variables(app, &unit));
            if let Some(problem) = problem_of(&state, enabled == Some(true), in_force.as_deref())
                && is_ours
            {
                problems.push(format!("{unit} {problem}"));
            }
            units.push(UnitStatus { unit, state });
        }
    }
    problems.extend(generator_problems(layout, name));
    Ok(AppStatus {
        app: name.clone(),
        enabled,
        asked_for,
        in_force,
        previous,
        pending: fs::symlink_metadata(layout.pending(name)).is_ok(),
        units,
        problems,
    })
}

fn only_gets_variables(app: &App, unit: &str) -> bool {
    let declared = app.units.iter().find(|(name, _)| name.as_str() == unit);
    declared.is_some_and(|(_, unit)| matches!(unit.kind, UnitKind::Environment))
}

fn problem_of(state: &UnitState, enabled: bool, in_force: Option<&str>) -> Option<String> {
    state.main_pid?;
    if state.hidden || state.overwritten {
        return None;
    }
    match (enabled, state.tag.as_deref(), in_force) {
        (true, Some(running), Some(wanted)) if running != wanted => Some(format!(
            "still runs {running}, not {wanted}; it changes with its next restart"
        )),
        (true, None, Some(wanted)) => Some(format!(
            "does not run {wanted}; restart it, and if that does not help, `systemctl cat` shows what stands in front \
             of venvd's drop-in"
        )),
        (false, Some(running), _) => Some(format!("still runs {running} though the app is off; restart it")),
        _ => None,
    }
}

/// What the generator left out or found odd, in its own words (`venvd-report.json`).
fn generator_problems(layout: &Layout, app: &AppName) -> Vec<String> {
    let path = layout.on_disk("/run/systemd/generator/venvd-report.json");
    let Ok(text) = fs::read_to_string(path) else {
        // No report: it had nothing to say, or this is no booted host.
        return Vec::new();
    };
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let said = &report["apps"][app.as_str()];
    let mut problems: Vec<String> = said["reason"].as_str().map(str::to_owned).into_iter().collect();
    for (unit, said) in said["units"].as_object().into_iter().flatten() {
        let warnings = said["warnings"].as_array().into_iter().flatten();
        let lines = said["reason"]
            .as_str()
            .into_iter()
            .chain(warnings.filter_map(serde_json::Value::as_str));
        problems.extend(lines.map(|line| format!("{unit}: {line}")));
    }
    problems
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    for problem in &status.problems {
        text.push_str(&format!("! {problem}\n"));
    }
    if status.apps.is_empty() {
        text.push_str("no app is defined; a definition is a file APP.toml in /etc/venvd/apps\n");
    }
    for app in &status.apps {
        text.push_str(&headline(app));
        let rows: Vec<Vec<String>> = app
            .units
            .iter()
            .map(|unit| {
                let pid = unit
                    .state
                    .main_pid
                    .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
                let runs = if unit.state.hidden {
                    "only root can tell"
                } else if unit.state.overwritten {
                    "can't be told"
                } else if unit.state.main_pid.is_some() {
                    unit.state.tag.as_deref().unwrap_or("the host's")
                } else {
                    "-"
                };
                vec![
                    format!("  {}", unit.unit),
                    unit.state.active.clone(),
                    pid,
                    runs.to_owned(),
                ]
            })
            .collect();
        text.push_str(&table(&["  UNIT", "STATE", "PID", "RUNS"], &rows));
        for problem in &app.problems {
            text.push_str(&format!("  ! {}\n", problem.replace('\n', "\n    ")));
        }
    }
    text
}

fn headline(app: &AppStatus) -> String {
    let switch = match app.enabled {
        Some(true) => "is on",
        Some(false) => "is off",
        None => "has a broken definition, and is off from the next daemon-reload on",
    };
    let tag = |tag: &Option<String>| tag.clone().unwrap_or_else(|| "no venv".to_owned());
    let mut line = format!("{} {switch}: {} in force", app.app, tag(&app.in_force));
    if app.asked_for != app.in_force {
        line.push_str(&format!(", {} asked for", tag(&app.asked_for)));
    }
    if let Some(previous) = &app.previous {
        line.push_str(&format!(", {previous} before"));
    }
    line.push_str(if app.pending { ", an activation is open\n" } else { "\n" });
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_says_what_is_and_leaves_out_what_is_not() {
        let app = |enabled, asked_for: Option<&str>, previous: Option<&str>| AppStatus {
            app: "nova".parse().unwrap(),
            enabled,
            asked_for: asked_for.map(str::to_owned),
            in_force: asked_for.map(|_| "2".to_owned()),
            previous: previous.map(str::to_owned),
            pending: false,
            units: Vec::new(),
            problems: Vec::new(),
        };
        for (app, line) in [
            (app(Some(false), None, None), "nova is off: no venv in force\n"),
            (
                app(Some(true), Some("2"), Some("1")),
                "nova is on: 2 in force, 1 before\n",
            ),
            (
                app(Some(true), Some("3"), None),
                "nova is on: 2 in force, 3 asked for\n",
            ),
            (
                app(None, Some("2"), None),
                "nova has a broken definition, and is off from the next daemon-reload on: 2 in force\n",
            ),
        ] {
            assert_eq!(headline(&app), line);
        }
    }

    fn running(tag: Option<&str>) -> UnitState {
        UnitState {
            active: "active".to_owned(),
            main_pid: Some(1),
            tag: tag.map(str::to_owned),
            hidden: false,
            overwritten: false,
        }
    }

    #[test]
    fn what_may_not_be_looked_at_is_no_problem() {
        let hidden = UnitState {
            hidden: true,
            ..running(None)
        };
        let overwritten = UnitState {
            overwritten: true,
            ..running(None)
        };
        for state in [hidden, overwritten] {
            assert!(problem_of(&state, true, Some("2")).is_none());
        }
    }

    #[test]
    fn a_unit_that_runs_something_else_is_a_problem() {
        assert!(problem_of(&running(Some("1")), true, Some("1")).is_none());
        assert!(
            problem_of(&running(Some("1")), true, Some("2"))
                .unwrap()
                .contains("still runs 1")
        );
        assert!(
            problem_of(&running(None), true, Some("2"))
                .unwrap()
                .contains("does not run 2")
        );
        assert!(
            problem_of(&running(Some("1")), false, Some("1"))
                .unwrap()
                .contains("restart it")
        );
        assert!(problem_of(&running(None), false, None).is_none());
    }
}
