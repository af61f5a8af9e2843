//! Exposed commands: programs of venvs that everybody can type.
//!
//! Each is a link to `venv-activate`, which finds itself called by the command's name. A link can't say which app that
//! is, so a [`Table`] beside the links of venvs does; whoever makes links writes it with them. Nothing here names a
//! venv: that is looked up when the command is typed, and so an activation has nothing to change.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use venvd_fs::diagnose::Diagnostic;

use crate::Layout;
use crate::name::{AppName, ProgramName};
use crate::search::{LoadError, read_text};
use crate::settings::COMMANDS_DIRECTORY;

mod plan;
mod problem;

pub use plan::{Plan, check, follow, plan};
pub use problem::Problem;

/// The program that all links lead to.
pub const PROGRAM: &str = "venv-activate";

/// Where that is, as packages and `make install` put it. A link to either is ours, whichever of them there is.
const PLACES: [&str; 2] = ["/usr/bin/venv-activate", "/usr/local/bin/venv-activate"];

/// Whose the exposed commands are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The directory of their links, as a path of the host.
    pub directory: PathBuf,
    /// Each command's app.
    pub commands: BTreeMap<ProgramName, AppName>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            directory: COMMANDS_DIRECTORY.into(),
            commands: BTreeMap::new(),
        }
    }
}

impl Table {
    /// Reads the host's table; an empty one where there is none.
    ///
    /// # Errors
    /// When it can't be read or understood, or somebody who is not root could change it.
    pub fn load(layout: &Layout) -> Result<Self, LoadError> {
        let on_disk = layout.exposed_commands();
        if fs::symlink_metadata(&on_disk).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(Self::default());
        }
        let path = layout.root().on_host(&on_disk);
        let text = read_text(layout, &path)?;
        serde_json::from_str(&text).map_err(|error| Diagnostic::of_file(&path, error.to_string()).into())
    }
}

/// Returns whether the link of a command is one of ours: it leads to `venv-activate`, and nothing else counts.
#[must_use]
pub fn is_ours(on_disk: &Path) -> bool {
    fs::read_link(on_disk).is_ok_and(|target| PLACES.iter().any(|place| target == Path::new(place)))
}

#[cfg(test)]
mod tests;
