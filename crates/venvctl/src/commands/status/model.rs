//! What `status` shows: with `--json` all of it, for people the gist.

use std::path::PathBuf;

use serde::Serialize;
use venvd_app::AppName;

use super::brakes::Brakes;
use crate::output::spelling::{spelled, typed};
use crate::systemd::UnitState;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// What the kernel command line says, where it turns something off.
    pub(super) kernel_command_line: Option<String>,
    /// What is wrong with the settings, or with files that define no app.
    pub(super) problems: Vec<Problem>,
    pub(super) apps: Vec<AppStatus>,
}

/// An app.
#[derive(Debug, Serialize)]
pub(super) struct AppStatus {
    pub(super) app: AppName,
    /// Unknown when the definition can't be read.
    pub(super) enabled: Option<bool>,
    /// The tag that units run from at this boot, if they do.
    pub(super) in_force: Option<String>,
    /// How it came to that.
    pub(super) why: Why,
    /// What the links say.
    pub(super) asked_for: Option<String>,
    pub(super) committed: Option<String>,
    pub(super) previous: Option<String>,
    /// An activation is open.
    pub(super) pending: bool,
    #[serde(flatten)]
    pub(super) brakes: Brakes,
    pub(super) units: Vec<UnitStatus>,
    pub(super) problems: Vec<Problem>,
}

/// How it came to what is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    Committed,
    FellBackToPrevious,
    Distribution,
    NoVenv,
    OffByDefinition,
    OffByHost,
    OffByKernelCommandLine,
    /// The committed link can't be read.
    Unknown,
}

impl Why {
    /// Returns whether the app is on at this boot, as far as is known.
    pub(super) fn is_on(self) -> bool {
        !matches!(
            self,
            Self::OffByDefinition | Self::OffByHost | Self::OffByKernelCommandLine
        )
    }
}

/// One unit.
#[derive(Debug, Serialize)]
pub(super) struct UnitStatus {
    pub(super) unit: String,
    /// It only gets variables, and runs from no venv itself.
    pub(super) only_variables: bool,
    /// How it stands; nothing where systemd can't be asked.
    #[serde(flatten)]
    pub(super) state: Option<UnitState>,
    pub(super) files: Files,
}

/// What a unit's files say.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Files {
    /// Whether there is such a unit.
    pub(super) load: Load,
    /// Its own file, as the host names it.
    pub(super) fragment: Option<PathBuf>,
    /// Its drop-ins, in the order in which they apply.
    pub(super) drop_ins: Vec<PathBuf>,
    /// Which of all these venvd wrote.
    pub(super) generated: Option<PathBuf>,
    /// The tag of the venv that its next start runs.
    pub(super) tag: Option<String>,
    /// The `ExecStart=` lines of its next start.
    pub(super) exec_start: Vec<Line>,
    /// What keeps venvd's lines from having their effect.
    pub(super) shadowed_by: Vec<Shadow>,
    /// Drop-ins whose command lines and variables venvd took over into its own.
    pub(super) taken_into_account: Vec<PathBuf>,
    /// What the generator says it did: `spliced`, `exec`, `environment`, `whole`, `absent`, `skipped`.
    pub(super) generator: Option<String>,
    /// Why it left the unit as it is.
    pub(super) skipped: Option<String>,
    /// What it found odd all the same.
    pub(super) warnings: Vec<String>,
    /// What systemd ignores in these files.
    pub(super) ignored: Vec<String>,
}

/// Whether systemd can load a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Load {
    #[default]
    NotFound,
    Masked,
    Broken,
    Loaded,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) path: PathBuf,
    pub(super) line: u32,
    pub(super) text: String,
}

/// What stands in front of venvd's drop-in or unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Shadow {
    pub(super) kind: ShadowKind,
    pub(super) path: PathBuf,
    /// 0 where it is the file as a whole.
    pub(super) line: u32,
    /// The setting, where it is one.
    pub(super) key: Option<String>,
    /// What it does.
    pub(super) what: String,
}

/// In what way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ShadowKind {
    /// A later drop-in takes lines of ours back.
    LaterDropIn,
    /// A file of our drop-in's name in a directory that comes first.
    SameName,
    /// A unit file in a directory that comes before the generator's.
    UnitFile,
    /// The unit is masked.
    Mask,
}

/// What is wrong, and what to type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) code: &'static str,
    pub(super) unit: Option<String>,
    pub(super) message: String,
    pub(super) path: Option<PathBuf>,
    pub(super) line: Option<u32>,
    pub(super) advice: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// Something does not run what it should.
    Wrong,
    /// Somebody wanted it so; good to know.
    Note,
}

impl Problem {
    pub(super) fn wrong(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Wrong,
            code,
            unit: None,
            message: message.into(),
            path: None,
            line: None,
            advice: None,
        }
    }

    pub(super) fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::wrong(code, message)
        }
    }

    pub(super) fn of(self, unit: &str) -> Self {
        Self {
            unit: Some(unit.to_owned()),
            ..self
        }
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }

    /// Spells the commands in it as they have to be typed for these venvs.
    pub(super) fn spell(&mut self) {
        self.message = spelled(&self.message).into_owned();
        self.advice = self.advice.take().map(typed);
    }
}
