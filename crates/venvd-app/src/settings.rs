//! Global settings: `/etc/venvd/venvd.toml` and what `venvd.toml.d/*.toml` merge over it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::later::Later;
use crate::name::Tag;
use crate::value::{AbsolutePath, Span};

/// What holds for all apps of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `false` turns every app off, whatever its definition says.
    pub enabled: bool,
    /// A word for this deployment that goes into tags made by default.
    pub deployment: Option<Tag>,
    /// How many of an app's newest venvs `gc` keeps in any case.
    pub keep: u32,
    /// How long after a restart the rights of the venv before may last, while units' processes still run it.
    pub policy_grace: Duration,
    /// Where the links of exposed commands are, as a path of the host.
    pub commands_directory: PathBuf,
}

/// The one in force, the one before, and the one that comes next.
const KEEP: u32 = 3;

/// Longer than what a service takes to stop in good order; and `oslo.rootwrap` keeps its daemon for as long.
const POLICY_GRACE: Duration = Duration::from_secs(600);
/// In everybody's PATH, in front of what the distribution installed, and in sudo's `secure_path` on Debian.
pub(crate) const COMMANDS_DIRECTORY: &str = "/usr/local/bin";

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            deployment: None,
            keep: KEEP,
            policy_grace: POLICY_GRACE,
            commands_directory: COMMANDS_DIRECTORY.into(),
        }
    }
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RawSettings {
    enabled: Option<bool>,
    deployment: Option<Tag>,
    keep: Option<u32>,
    policy_grace: Option<Span>,
    pub(crate) commands_directory: Option<AbsolutePath>,
    registry: Option<Later<String>>,
    trust: Option<Later<AbsolutePath>>,
}

impl From<RawSettings> for Settings {
    fn from(raw: RawSettings) -> Self {
        Self {
            enabled: raw.enabled.unwrap_or(true),
            deployment: raw.deployment,
            keep: raw.keep.unwrap_or(KEEP),
            policy_grace: raw.policy_grace.map_or(POLICY_GRACE, |grace| *grace),
            commands_directory: raw
                .commands_directory
                .map_or_else(|| COMMANDS_DIRECTORY.into(), |directory| directory.to_path_buf()),
        }
    }
}
