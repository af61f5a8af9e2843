//! The gist of it, for somebody at a terminal at three in the morning.

use std::path::Path;

use super::model::{AppStatus, Load, Problem, Severity, Status, UnitStatus, Why};
use crate::output::table::table;
use crate::output::{Line, Tone};

/// Returns what to print. `definitions` is where an app would be declared.
pub(super) fn lines(status: &Status, definitions: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(word) = &status.kernel_command_line {
        lines.push(Line::new(Tone::Note, format!("the kernel command line has {word}")));
    }
    for problem in &status.problems {
        lines.extend(problem_lines("", problem));
    }
    if status.apps.is_empty() {
        lines.push(Line::plain(format!(
            "no app is defined; a definition is a file APP.toml in {}",
            definitions.display()
        )));
    }
    for app in &status.apps {
        lines.extend(app_lines(app));
    }
    lines
}

fn app_lines(app: &AppStatus) -> Vec<Line> {
    let mut lines = vec![Line::new(Tone::Head, headline(app))];
    let is_wrong = |unit: &UnitStatus| {
        let mut problems = app.problems.iter();
        problems.any(|problem| problem.severity == Severity::Wrong && problem.unit.as_ref() == Some(&unit.unit))
    };
    let runs = app.units.iter().any(|unit| unit.state.is_some());
    let rows: Vec<Vec<String>> = app
        .units
        .iter()
        .map(|unit| row(app, unit, (runs, is_wrong(unit))))
        .collect();
    let header: &[&str] = if runs {
        &["  UNIT", "STATE", "PID", "RUNS", "NEXT START"]
    } else {
        &["  UNIT", "NEXT START"]
    };
    let mut wrong = app.units.iter().map(is_wrong);
    for (index, line) in table(header, &rows).lines().enumerate() {
        let bad = index > 0 && wrong.next().unwrap_or(false);
        lines.push(Line::new(if bad { Tone::Wrong } else { Tone::Plain }, line));
    }
    for problem in &app.problems {
        lines.extend(problem_lines("  ", problem));
    }
    lines
}

fn row(app: &AppStatus, unit: &UnitStatus, (runs, wrong): (bool, bool)) -> Vec<String> {
    let mut row = vec![format!("{} {}", if wrong { '!' } else { ' ' }, unit.unit)];
    if runs {
        row.extend(match &unit.state {
            None => ["-", "-", "-"].map(str::to_owned),
            Some(state) => {
                let running = match (&state.tag, state.main_pid) {
                    (_, None) => "-",
                    _ if unit.only_variables => "-",
                    (Some(tag), _) => tag,
                    (None, _) if state.overwritten => "can't be told",
                    (None, _) if state.hidden => "?",
                    (None, _) => "the host's",
                };
                [
                    state.active.clone(),
                    state.main_pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                    running.to_owned(),
                ]
            }
        });
    }
    row.push(next_start(app, unit));
    row
}

/// Says what the unit's files have it run at its next start.
fn next_start(app: &AppStatus, unit: &UnitStatus) -> String {
    let files = &unit.files;
    match (files.load, &files.tag) {
        (Load::NotFound, _) => "not on this host".to_owned(),
        (Load::Masked, _) => "masked".to_owned(),
        (Load::Broken, _) => "broken".to_owned(),
        (Load::Loaded, Some(tag)) => tag.clone(),
        (Load::Loaded, None) if app.in_force.is_some() && unit.state.is_none() && files.generator.is_none() => {
            // Below a root, the generator has not run.
            "decided at boot".to_owned()
        }
        (Load::Loaded, None) => "the host's".to_owned(),
    }
}

fn problem_lines(indent: &str, problem: &Problem) -> Vec<Line> {
    let (mark, tone) = match problem.severity {
        Severity::Wrong => ('!', Tone::Wrong),
        Severity::Note => ('-', Tone::Note),
    };
    let unit = problem.unit.as_ref().map_or(String::new(), |unit| format!("{unit}: "));
    let text = format!("{indent}{mark} {unit}{}", problem.message);
    let mut lines: Vec<Line> = text
        .lines()
        .enumerate()
        .map(|(index, line)| match index {
            0 => Line::new(tone, line),
            _ => Line::new(tone, format!("{indent}    {line}")),
        })
        .collect();
    if let Some(advice) = &problem.advice {
        lines.push(Line::new(Tone::Advice, format!("{indent}  > {advice}")));
    }
    lines
}

fn headline(app: &AppStatus) -> String {
    let tag = |tag: &Option<String>| tag.clone().unwrap_or_else(|| "no venv".to_owned());
    let mut line = format!("{} ", app.app);
    line.push_str(&match (app.enabled, app.why) {
        (None, _) => format!("has a broken definition: {} committed", tag(&app.committed)),
        (_, Why::OffByKernelCommandLine) => format!("is off for this boot: {} committed", tag(&app.committed)),
        (Some(false), _) => format!("is off: {} committed", tag(&app.committed)),
        (_, Why::FellBackToPrevious | Why::Distribution) => {
            format!(
                "is on: {} in force, since {} {}",
                tag(&app.in_force),
                tag(&app.committed),
                if app.brakes.is_revoked(app.committed.as_deref()) {
                    "is revoked"
                } else {
                    "can't run"
                }
            )
        }
        _ => format!("is on: {} in force", tag(&app.in_force)),
    });
    if app.asked_for != app.committed {
        line.push_str(&format!(", {} asked for", tag(&app.asked_for)));
    }
    if let Some(previous) = app.previous.as_ref().filter(|_| app.why != Why::FellBackToPrevious) {
        line.push_str(&format!(", {previous} before"));
    }
    if app.brakes.frozen.is_some() {
        line.push_str(", frozen");
    }
    if app.pending {
        line.push_str(", an activation is open");
    }
    line
}

#[cfg(test)]
mod tests;
