//! What an activation would do, as `Plan` says it: `venvctl activate --dry-run`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use venvd_app::UnitName;

use crate::job::{AppChange, Code, Kind, Outcome, Stage};

/// What would be done, if it were asked for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is asked for.
    pub kind: Kind,
    /// The apps, by their names.
    pub apps: Vec<AppChange>,
    /// Why it would be refused; then there is nothing else.
    pub refused: Option<Refused>,
    /// What would be done, in order.
    pub steps: Vec<Step>,
    /// Units of other apps, or of none, that a stop would take along, and that are started again.
    pub dependents: Vec<UnitName>,
    /// Units that stay as they are.
    pub left_alone: Vec<LeftAlone>,
    /// How long the units must stay up, unchanged, in milliseconds.
    pub settle: u64,
    /// How long they may take until they do, in milliseconds.
    pub timeout: u64,
    /// What would happen if the units did not run well; where none is touched, if the last step before the end failed.
    pub on_failure: Option<OnFailure>,
}

/// Why it would be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The case, for programs.
    pub code: Code,
    /// The same for an operator.
    pub message: String,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the job is at meanwhile.
    pub stage: Stage,
    /// What is done.
    pub what: String,
    /// The links that move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkMove>,
    /// The policy files that change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
    /// The commands that are run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// The jobs of systemd, all in one transaction, in the order in which they start (or stop).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<UnitJob>,
}

/// A link that moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkMove {
    /// The link.
    pub link: PathBuf,
    /// Where it leads now.
    pub from: Option<PathBuf>,
    /// Where it would lead.
    pub to: Option<PathBuf>,
}

/// A file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// The file.
    pub path: PathBuf,
    /// How many lines come.
    pub added: usize,
    /// How many go.
    pub removed: usize,
}

/// A job of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitJob {
    /// The unit.
    pub unit: UnitName,
    /// `stop`, `start` or `restart`.
    pub job: String,
}

/// A unit that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The unit.
    pub unit: UnitName,
    /// Why.
    pub why: String,
}

/// What would happen if it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnFailure {
    /// How it would end, if the way back worked.
    pub outcome: Outcome,
    /// The way back, in order.
    pub steps: Vec<String>,
    /// Why there is none, where there is none.
    pub why: Option<String>,
}

impl Plan {
    /// Reads what `Plan` returned.
    ///
    /// # Errors
    /// When it is no plan.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Returns the plan as `Plan` says it.
    ///
    /// # Errors
    /// Never in practice: all of its parts have a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
