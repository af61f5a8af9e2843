//! What a transaction is about in one app.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use venvd_app::links::VenvPath;
use venvd_app::{AppName, UnitName};
use venvd_bus::{AppChange, Kind};

use crate::commands::Commands;
use crate::digest::Digest;
use crate::machine::Side;

/// One app of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The app.
    pub app: AppName,
    /// Whether it was enabled.
    pub enabled: bool,
    /// Whether the kernel command line left it so for this boot.
    pub admitted: bool,
    /// Whether the last activation failed on its way back, so that units may be down that are to run: they start anew, also
    /// when what is asked for is in force.
    #[serde(default)]
    pub again: bool,
    /// The venv in force before.
    #[serde(with = "venv_path")]
    pub from: Option<VenvPath>,
    /// The venv that units ran from, and whose rights they need until they end: `from`, or what stood in for it.
    #[serde(with = "venv_path")]
    pub outgoing: Option<VenvPath>,
    /// The venv asked for.
    #[serde(with = "venv_path")]
    pub to: Option<VenvPath>,
    /// What the manifest of that must have, where somebody was asked about it.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// What the active link said, if it was the link that asked: only if it still does, it is put back.
    pub asked: Option<PathBuf>,
    /// The text of the file that turns the app on and off, as it was; nothing if there was none.
    pub switch: Option<String>,
    /// What is run around it.
    pub commands: Commands,
    /// The units that ran, or were meant to.
    pub captured: Vec<CapturedUnit>,
}

/// A unit that ran before a transaction, or was meant to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedUnit {
    /// Its name.
    pub unit: UnitName,
    /// Its `InvocationID` then: with the same one afterwards, it was not restarted.
    pub invocation: String,
    /// Whether it ran; else it had failed, or waited for its start.
    pub running: bool,
    /// Whether its program is the venv's, and so carries the venv's tag; else it only gets variables.
    pub tagged: bool,
    /// Whether a program of a venv stops it, now or in the venv that is asked for: `ExecStop=`, `ExecStopPost=`.
    #[serde(default)]
    pub own_stop: bool,
}

impl Part {
    /// Returns whether what is asked for is in force already.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.from == self.to
    }

    /// Returns whether what units run changes.
    #[must_use]
    pub fn changes_units(&self, kind: Kind) -> bool {
        let changes = match kind {
            Kind::Activate => self.enabled && (!self.is_same() || self.again),
            Kind::Enable => !self.enabled && self.to.is_some(),
            Kind::Disable => self.enabled && self.from.is_some(),
        };
        changes && self.admitted
    }

    /// Returns the venv of one side.
    #[must_use]
    pub fn venv(&self, side: Side) -> Option<&VenvPath> {
        match side {
            Side::Old => self.from.as_ref(),
            Side::New => self.to.as_ref(),
        }
    }

    /// Returns the venvs that it names.
    pub(super) fn venvs(&self) -> impl Iterator<Item = &VenvPath> {
        [&self.from, &self.outgoing, &self.to].into_iter().flatten()
    }

    /// Returns what a client gets to know.
    pub(super) fn change(&self) -> AppChange {
        let tag = |venv: &Option<VenvPath>| venv.as_ref().map(|venv| venv.name().tag().clone());
        AppChange {
            app: self.app.clone(),
            from: tag(&self.from),
            to: tag(&self.to),
        }
    }
}

/// A venv's path goes into the file as what the link says.
mod venv_path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use venvd_app::links::VenvPath;

    #[expect(clippy::ref_option, reason = "serde's `with` calls it so")]
    pub(super) fn serialize<S: Serializer>(venv: &Option<VenvPath>, serializer: S) -> Result<S::Ok, S::Error> {
        venv.as_ref().map(VenvPath::path).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VenvPath>, D::Error> {
        Option::<PathBuf>::deserialize(deserializer)?
            .map(|path| VenvPath::recorded(&path).ok_or_else(|| D::Error::custom(format!("{path:?} is no venv"))))
            .transpose()
    }
}
