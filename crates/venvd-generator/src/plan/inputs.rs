//! What the plan is made from, besides the unit files.

use std::collections::BTreeMap;
use std::fs;

use venvd_app::cmdline::{Source, Switch};
use venvd_app::links::{self, Link, VenvPath};
use venvd_app::search::{self, Declared};
use venvd_app::{App, AppName, Layout};
use venvd_fs::report as explain;

use crate::report::{AppReport, Report};

/// Everything that was read, apart from unit files.
#[derive(Debug, Default)]
pub struct Inputs {
    /// What is declared.
    pub declared: Declared,
    /// For each enabled app, what its committed link says.
    pub committed: BTreeMap<AppName, Committed>,
    /// What the kernel command line says.
    pub switch: Switch,
    /// What is wrong outside of the definitions.
    pub problems: Vec<String>,
}

/// What is in force for an app.
#[derive(Debug)]
pub struct Committed {
    /// The venv; why there is none when the link is not what it should be.
    pub venv: Result<Option<VenvPath>, String>,
    /// Whether an activation is open, or was when the machine went down.
    pub pending: bool,
}

/// An app whose units are to run from a venv.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a> {
    /// The app.
    pub app: &'a App,
    /// Its committed venv.
    pub venv: &'a VenvPath,
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
    /// Reads definitions, links, markers and the kernel command line.
    #[must_use]
    pub fn read(layout: &Layout, cmdline: &Source) -> Self {
        let mut declared = search::load(layout);
        let (switch, mut problems) = cmdline.switch(layout);
        problems.extend(go_on_with_accepted(layout, &mut declared));
        problems.extend(declared.problems.iter().map(|error| explain(error)));
        let enabled = declared.apps.iter().filter(|(_, app)| app.enabled);
        let committed = enabled
            .map(|(name, _)| {
                let venv = links::read(layout, Link::Committed, name).map_err(|error| explain(&error));
                let pending = fs::symlink_metadata(layout.pending(name)).is_ok();
                (name.clone(), Committed { venv, pending })
            })
            .collect();
        Self {
            declared,
            committed,
            switch,
            problems,
        }
    }

    /// Returns whether venvd is on at all on this host.
    fn on(&self) -> bool {
        self.declared.settings.enabled
    }

    /// Returns the apps whose units are to be changed.
    #[must_use]
    pub fn in_force(&self) -> Vec<InForce<'_>> {
        let apps = self
            .declared
            .apps
            .iter()
            .filter(|(name, app)| self.on() && app.enabled && self.switch.admits(name));
        apps.filter_map(|(name, app)| {
            let committed = self.committed.get(name)?;
            let venv = committed.venv.as_ref().ok()?.as_ref()?;
            Some(InForce {
                app,
                venv,
                pending: committed.pending,
            })
        })
        .collect()
    }

    /// Returns the report on apps, still without their units.
    pub(crate) fn report(&self) -> Report {
        let mut report = Report::default();
        if !self.on() {
            return report;
        }
        report.problems.clone_from(&self.problems);
        for (name, error) in &self.declared.broken {
            let reason = format!("its definition is skipped: {}", explain(error));
            report.apps.insert(name.to_string(), AppReport::Skipped { reason });
        }
        for (name, committed) in &self.committed {
            let state = match &committed.venv {
                _ if !self.switch.admits(name) => AppReport::Off,
                Err(reason) => AppReport::Skipped { reason: reason.clone() },
                Ok(None) => AppReport::NoVenv,
                // The next loop has the source.
                Ok(Some(_)) => continue,
            };
            report.apps.insert(name.to_string(), state);
        }
        for in_force in self.in_force() {
            let state = AppReport::InForce {
                tag: in_force.venv.name().tag().to_string(),
                venv: in_force.venv.path(),
                source: in_force.app.source.clone(),
                pending: in_force.pending,
                units: BTreeMap::new(),
            };
            report.apps.insert(in_force.app.name.to_string(), state);
        }
        report
    }
}
