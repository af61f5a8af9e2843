//! What was done and what was not, for `venvctl status`: `venvd-report.json` beside the generated units.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kmsg::Message;

/// The report's name in the generator's directory.
pub const FILE_NAME: &str = "venvd-report.json";

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The apps that are enabled, and those whose definition is broken.
    pub apps: BTreeMap<String, AppReport>,
    /// What is wrong elsewhere: the settings, the kernel command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// What became of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum AppReport {
    /// Its units run from a venv: the committed one, or the previous one.
    InForce {
        /// The venv's tag.
        tag: String,
        /// The venv's directory.
        venv: PathBuf,
        /// The definition file.
        source: PathBuf,
        /// Whether an activation is open: the units wait for its recovery.
        pending: bool,
        /// Why it is not the committed venv.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallen_back: Option<String>,
        /// Its units.
        units: BTreeMap<String, UnitReport>,
    },
    /// Its venvs can't run on this host: its units are as the distribution made them.
    Distribution {
        /// Why.
        reason: String,
    },
    /// It has no committed venv yet.
    NoVenv,
    /// The kernel command line turned it off for this boot.
    Off,
    /// It was skipped as a whole.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitReport {
    /// What was done.
    #[serde(flatten)]
    pub state: UnitState,
    /// Whether a program of the venv stops it, which only the one that it runs from can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_stop: bool,
    /// What is odd about it all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What was done with a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum UnitState {
    /// Programs in its Exec lines were replaced, in these lists.
    Spliced {
        /// `ExecStart` and so on.
        lists: Vec<String>,
    },
    /// Its `ExecStart=` was replaced by the definition's.
    Exec,
    /// It got variables.
    Environment,
    /// It was written whole.
    Whole,
    /// The host has no such unit.
    Absent,
    /// It was left as it is.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl UnitReport {
    /// Returns the report of a unit without warnings.
    #[must_use]
    pub fn new(state: UnitState) -> Self {
        Self {
            state,
            own_stop: false,
            warnings: Vec::new(),
        }
    }

    /// Returns the report of a unit that was left as it is.
    #[must_use]
    pub fn skipped(reason: impl ToString) -> Self {
        Self::new(UnitState::Skipped {
            reason: reason.to_string(),
        })
    }
}

impl Report {
    /// Returns whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.problems.is_empty()
    }

    /// Returns what the kernel log should say: everything that was skipped.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        let mut messages: Vec<_> = self.problems.iter().cloned().map(Message::warning).collect();
        for (app, report) in &self.apps {
            match report {
                AppReport::Skipped { reason } | AppReport::Distribution { reason } => {
                    messages.push(Message::warning(format!("{app}: {reason}")));
                }
                AppReport::InForce { units, fallen_back, .. } => {
                    messages.extend(fallen_back.iter().map(|why| Message::warning(format!("{app}: {why}"))));
                    for (unit, report) in units {
                        if let UnitState::Skipped { reason } = &report.state {
                            messages.push(Message::warning(format!("{app}: {unit} is left as it is: {reason}")));
                        }
                    }
                }
                AppReport::NoVenv | AppReport::Off => {}
            }
        }
        messages
    }

    /// Adds a line about a unit of an app in force.
    pub(crate) fn unit(&mut self, app: &str, unit: String, report: UnitReport) {
        if let Some(AppReport::InForce { units, .. }) = self.apps.get_mut(app) {
            units.insert(unit, report);
        }
    }
}
