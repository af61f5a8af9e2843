//! status: what is declared, asked for and in force; and for each unit what runs, what its files say, and what stands in
//! front of them.

mod brakes;
mod files;
mod model;
mod text;
mod verdict;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use venvd_app::cmdline::Switch;
use venvd_app::definition::UnitKind;
use venvd_app::in_force::{self, Off, Switches};
use venvd_app::links::{self, Link, VenvPath};
use venvd_app::scope::Scope;
use venvd_app::search::{Declared, load, load_accepted};
use venvd_app::{App, AppName, Layout};
use venvd_bus::JobReport;
use venvd_core::list;
use venvd_core::usage::Usage;
use venvd_unit::UnitFiles;

use self::brakes::Brakes;
use self::model::{AppStatus, Problem, Status, UnitStatus, Why};
use self::verdict::Host;
use crate::failure::Failure;
use crate::{client, output, systemd, units};

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
    let status = Collector::new(layout, declared).collect(only)?;
    let definitions = layout.definition_directories().last().cloned().unwrap_or_default();
    output::show_lines(&status, json, |status| text::lines(status, &definitions))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that was read once for all apps.
struct Collector<'a> {
    layout: &'a Layout,
    declared: Declared,
    switches: Switches,
    units: UnitFiles,
    report: Value,
    booted: bool,
    /// Who runs which venv; nothing where that can't be seen.
    usage: Option<(Usage, Vec<VenvPath>)>,
}

impl<'a> Collector<'a> {
    fn new(layout: &'a Layout, declared: Declared) -> Self {
        let text = fs::read_to_string(layout.generated().join("venvd-report.json"));
        let venvs = list::paths(layout, None).unwrap_or_default();
        let usage = layout.root().is_host().then(|| Usage::scan(layout, &venvs));
        Self {
            switches: Switches {
                host: declared.settings.enabled,
                kernel: Switch::of_this_boot(layout),
            },
            declared,
            units: units::scan(layout),
            // No report: it had nothing to say, or this is no booted host.
            report: text
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
            booted: layout.root().is_host() && Path::new("/run/systemd/system").is_dir(),
            usage: usage.and_then(Result::ok).map(|usage| (usage, venvs)),
            layout,
        }
    }

    fn collect(&self, only: Option<&AppName>) -> Result<Status, Failure> {
        let wanted = |app: &AppName| only.is_none_or(|only| only == app);
        let mut apps = Vec::new();
        for (name, app) in self.declared.apps.iter().filter(|(name, _)| wanted(name)) {
            apps.push(self.of_app(name, Some(app))?);
        }
        for (name, error) in self.declared.broken.iter().filter(|(name, _)| wanted(name)) {
            let accepted = load_accepted(self.layout, name).ok().flatten();
            let mut status = self.of_app(name, accepted.as_ref())?;
            let goes_on = match accepted {
                Some(_) => "mend it; until then, what the last activation accepted goes on",
                None => "mend it; until then the app is off from the next daemon-reload on",
            };
            let problem = Problem::wrong("broken-definition", venvd_fs::report(error)).advise(goes_on);
            status.enabled = status.enabled.filter(|_| accepted.is_some());
            status.problems.insert(0, problem);
            apps.push(status);
        }
        let mut status = Status {
            kernel_command_line: (self.switches.kernel != Switch::Declared).then(|| self.switches.kernel.to_string()),
            problems: self.problems(),
            apps,
        };
        let of_apps = status.apps.iter_mut().flat_map(|app| &mut app.problems);
        status.problems.iter_mut().chain(of_apps).for_each(Problem::spell);
        Ok(status)
    }

    /// Returns what is wrong with no app in particular.
    fn problems(&self) -> Vec<Problem> {
        let declared = self.declared.problems.iter();
        let mut problems: Vec<Problem> = declared
            .map(|error| Problem::wrong("broken-settings", venvd_fs::report(error)))
            .collect();
        let said = self.report["problems"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        // Of broken definitions it speaks too: those that still are, are told with their app.
        let known = |text: &str| {
            let definition = text
                .split_once(": its definition is broken")
                .is_some_and(|(app, _)| app.parse::<AppName>().is_ok());
            definition || problems.iter().any(|problem| text.contains(&problem.message))
        };
        let said: Vec<_> = said
            .filter(|text| !known(text))
            .map(|text| Problem::wrong("generator", text))
            .collect();
        problems.extend(said);
        problems
    }

    fn of_app(&self, name: &AppName, app: Option<&App>) -> Result<AppStatus, Failure> {
        let mut problems = Vec::new();
        let mut link = |link| match links::read(self.layout, link, name) {
            Ok(venv) => venv.map(|venv| venv.name().tag().to_string()),
            Err(error) => {
                problems.push(Problem::wrong("foreign-link", venvd_fs::report(&error)));
                None
            }
        };
        let (asked_for, committed, previous) = (link(Link::Active), link(Link::Committed), link(Link::Previous));
        let (in_force, why) = self.in_force(name, app, &mut problems);
        let units = match app {
            Some(app) => self.units_of(app, &mut problems)?,
            None => Vec::new(),
        };
        let mut brakes = Brakes::read(self.layout, name, &mut problems);
        brakes.job = self.open_job(name);
        let mut status = AppStatus {
            app: name.clone(),
            enabled: app.map(|app| app.enabled && self.declared.settings.enabled),
            in_force,
            why,
            asked_for,
            committed,
            previous,
            pending: fs::symlink_metadata(self.layout.pending(name)).is_ok(),
            brakes,
            units,
            problems,
        };
        if let Some((usage, venvs)) = &self.usage {
            status.brakes.leftovers = brakes::left_behind(usage, venvs, &status);
        }
        let host = Host {
            layout: self.layout,
            booted: self.booted,
            switch: &self.switches.kernel,
        };
        let found = verdict::of_app(host, &status);
        status.problems.extend(found);
        Ok(status)
    }

    /// Returns the activation that is open, as venvd knows it, if it runs and answers us.
    fn open_job(&self, name: &AppName) -> Option<JobReport> {
        let marker = fs::read_to_string(self.layout.pending(name)).ok()?;
        let id = marker.trim().parse().ok()?;
        self.layout.root().is_host().then_some(())?;
        client::job(self.layout.scope(), id)
    }

    /// Returns the tag that is in force, and why that one.
    fn in_force(&self, name: &AppName, app: Option<&App>, problems: &mut Vec<Problem>) -> (Option<String>, Why) {
        let found = match app {
            Some(app) => in_force::of_app(self.layout, app, &self.switches),
            None => in_force::of_links(self.layout, name),
        };
        // What is wrong with the link is said already.
        let Ok(found) = found else { return (None, Why::Unknown) };
        // Of a revoked one is said more than that.
        if let Some(said) = found.fallen_back().filter(|_| !found.why.is_for_revocation()) {
            let advice = format!("`venvctl build {name}`, then activate what it made; or install that python again");
            problems.push(Problem::wrong("fell-back", said).advise(advice));
        }
        if let Some(venv) = &found.venv {
            problems.extend(self.missing(venv));
        }
        let tag = found.venv.as_ref().map(|venv| venv.name().tag().to_string());
        let why = match found.why {
            in_force::Why::Committed => Why::Committed,
            in_force::Why::FellBackToPrevious { .. } => Why::FellBackToPrevious,
            in_force::Why::Distribution { .. } => Why::Distribution,
            in_force::Why::NoVenv => Why::NoVenv,
            in_force::Why::Off(Off::Definition) => Why::OffByDefinition,
            in_force::Why::Off(Off::Host) => Why::OffByHost,
            in_force::Why::Off(Off::KernelCommandLine) => Why::OffByKernelCommandLine,
        };
        (tag, why)
    }

    /// Says that the venv in force is not there: what the generator can't see, and units then fail for.
    fn missing(&self, venv: &VenvPath) -> Option<Problem> {
        let path = venv.path();
        let looked = fs::symlink_metadata(self.layout.on_disk(&path));
        if looked.err()?.kind() != io::ErrorKind::NotFound {
            return None;
        }
        let message = format!("{} is in force and not there: {}", venv.name(), path.display());
        Some(Problem::wrong("venv-missing", message).advise(format!(
            "mount its file system if it has one (`systemctl list-units --failed --type=mount`), or activate a venv that is \
             there: `venvctl list {}`",
            venv.name().app()
        )))
    }

    fn units_of(&self, app: &App, problems: &mut Vec<Problem>) -> Result<Vec<UnitStatus>, Failure> {
        let reader = files::Reader {
            layout: self.layout,
            units: &self.units,
            report: &self.report,
        };
        let mut units = Vec::new();
        for (name, unit) in &app.units {
            let declared = files::Declared {
                app: &app.name,
                name: name.as_str(),
                kind: &unit.kind,
            };
            let states = if self.layout.root().is_host() {
                systemd::states(self.layout, &[name.to_string()])?
            } else {
                None
            };
            match states {
                None => units.push((name.to_string(), None, declared)),
                // A template that has no instance yet.
                Some(states) if states.is_empty() => units.push((name.to_string(), None, declared)),
                Some(states) => units.extend(states.into_iter().map(|(unit, state)| (unit, Some(state), declared))),
            }
        }
        if self.booted && !units.is_empty() && units.iter().all(|(_, state, _)| state.is_none()) {
            problems.push(self.no_bus());
        }
        let read = |(unit, state, declared): (String, Option<systemd::UnitState>, files::Declared<'_>)| UnitStatus {
            files: reader.read(declared, &unit),
            only_variables: matches!(declared.kind, UnitKind::Environment),
            state,
            unit,
        };
        Ok(units.into_iter().map(read).collect())
    }

    fn no_bus(&self) -> Problem {
        let (bus, advice) = match self.layout.scope() {
            Scope::System => ("the system bus", "systemctl status dbus.socket"),
            Scope::User => ("your session's bus", "systemctl --user status dbus.socket"),
        };
        Problem::wrong(
            "no-bus",
            format!("cannot reach {bus}, so it is unknown what its units do"),
        )
        .advise(advice)
    }
}
