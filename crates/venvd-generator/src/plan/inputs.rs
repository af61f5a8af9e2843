//! What the plan is made from, besides the unit files.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use venvd_app::cmdline::Source;
use venvd_app::in_force::{self, Switches, Why};
use venvd_app::links::VenvPath;
use venvd_app::parallel;
use venvd_app::search::{self, Declared};
use venvd_app::{App, AppName, Layout, Record};
use venvd_fs::report as explain;

use crate::manager::Manager;
use crate::report::{AppReport, Report};

/// How many apps make a batch for [`parallel::map`].
const BATCH: usize = 5;

/// Everything that was read, apart from unit files.
#[derive(Debug, Default)]
pub struct Inputs {
    /// What is declared.
    pub declared: Declared,
    /// For each enabled app, what is in force at this boot.
    pub states: BTreeMap<AppName, State>,
    /// What is wrong outside of the definitions.
    pub problems: Vec<String>,
    /// Who reads what is generated.
    pub manager: Manager,
}

/// What is in force for an app.
#[derive(Debug)]
pub struct State {
    /// What is in force; why nothing is when its committed link is not what it should be.
    pub in_force: Result<in_force::InForce, String>,
    /// Whether an activation is open, or was when the machine went down.
    pub pending: bool,
}

/// An app whose units are to run from a venv.
#[derive(Debug)]
pub struct InForce<'a> {
    /// The app.
    pub app: &'a App,
    /// Its venv: the committed one, or the previous one.
    pub venv: &'a VenvPath,
    /// The venv's directory as text: each of the app's units has it several times.
    pub directory: String,
    /// The definition's path as text.
    pub source: String,
    /// What is known of that venv.
    pub record: Option<&'a Record>,
    /// Whether its units wait for `venvd-recover.service`.
    pub pending: bool,
}

/// Puts the definitions that were accepted last in place of broken ones: a typo must not take the units of a running
/// service away at the next boot. Returns what to say about it.
fn go_on_with_accepted(layout: &Layout, declared: &mut Declared) -> Vec<String> {
    let mut said = Vec::new();
    let broken = std::mem::take(&mut declared.broken);
    for (name, error) in broken {
        match search::load_accepted(layout, &name) {
            Ok(Some(app)) => {
                let error = explain(&error);
                said.push(format!(
                    "{name}: its definition is broken, so the last one that was accepted goes on: {error}"
                ));
                declared.apps.insert(name, app);
            }
            Ok(None) => drop(declared.broken.insert(name, error)),
            Err(other) => {
                said.push(explain(&other));
                declared.broken.insert(name, error);
            }
        }
    }
    said
}

impl Inputs {
    /// Reads definitions, links, records, markers and the kernel command line.
    #[must_use]
    pub fn read(layout: &Layout, cmdline: &Source, manager: Manager) -> Self {
        let mut declared = search::load(layout);
        let (kernel, mut problems) = cmdline.switch(layout);
        problems.extend(go_on_with_accepted(layout, &mut declared));
        problems.extend(declared.problems.iter().map(|error| explain(error)));
        let switches = Switches {
            host: declared.settings.enabled,
            kernel,
        };
        // Off for good is nothing to speak of.
        let enabled = declared.apps.iter().filter(|(_, app)| app.enabled && switches.host);
        let enabled: Vec<_> = enabled.collect();
        let state = |&(name, app): &(&AppName, &App)| {
            let in_force = in_force::of_app(layout, app, &switches).map_err(|error| explain(&error));
            let pending = fs::symlink_metadata(layout.pending(name)).is_ok();
            (name.clone(), State { in_force, pending })
        };
        let states = parallel::map(&enabled, BATCH, |apps| apps.iter().map(state).collect::<Vec<_>>());
        let states = states.into_iter().flatten().collect();
        Self {
            declared,
            states,
            problems,
            manager,
        }
    }

    /// Puts venvs in force of which nothing but this is known yet.
    pub fn put_in_force(&mut self, layout: &Layout, records: Vec<Record>) {
        for record in records {
            let name = record.venv.app().clone();
            let venv = VenvPath::find(layout, &record.venv);
            let venv = venv.unwrap_or_else(|| VenvPath::local(layout, record.venv.clone()));
            let in_force = in_force::InForce {
                venv: Some(venv),
                record: Some(record),
                why: Why::Committed,
            };
            let state = State {
                in_force: Ok(in_force),
                pending: false,
            };
            self.states.insert(name, state);
        }
    }

    /// Returns the apps whose units are to be changed.
    #[must_use]
    pub fn in_force(&self) -> Vec<InForce<'_>> {
        let apps = self.states.iter().filter_map(|(name, state)| {
            let in_force = state.in_force.as_ref().ok()?;
            let (app, venv) = (self.declared.apps.get(name)?, in_force.venv.as_ref()?);
            Some(InForce {
                app,
                venv,
                directory: venv.path().display().to_string(),
                source: app.source.display().to_string(),
                record: in_force.record.as_ref(),
                pending: state.pending,
            })
        });
        apps.collect()
    }

    /// Returns the report on apps, still without their units.
    pub(crate) fn report(&self) -> Report {
        let mut report = Report::default();
        if !self.declared.settings.enabled {
            return report;
        }
        report.problems.clone_from(&self.problems);
        for (name, error) in &self.declared.broken {
            let reason = format!("its definition is skipped: {}", explain(error));
            report.apps.insert(name.to_string(), AppReport::Skipped { reason });
        }
        for (name, state) in &self.states {
            let source = self.declared.apps.get(name).map(|app| app.source.clone());
            let app = match &state.in_force {
                Ok(in_force) => app_report(in_force, state.pending, source.unwrap_or_default()),
                Err(reason) => AppReport::Skipped { reason: reason.clone() },
            };
            report.apps.insert(name.to_string(), app);
        }
        report
    }
}

fn app_report(in_force: &in_force::InForce, pending: bool, source: PathBuf) -> AppReport {
    match (&in_force.venv, &in_force.why) {
        (Some(venv), _) => AppReport::InForce {
            tag: venv.name().tag().to_string(),
            venv: venv.path(),
            source,
            pending,
            fallen_back: in_force.fallen_back(),
            units: BTreeMap::new(),
        },
        (None, why @ Why::Distribution { .. }) => AppReport::Distribution {
            reason: why.to_string(),
        },
        (None, Why::Off(_)) => AppReport::Off,
        (None, _) => AppReport::NoVenv,
    }
}
