//! What keeps commands from being exposed.

use std::path::PathBuf;

use venvd_fs::chain;

use crate::name::{AppName, ProgramName};

/// Why a command can't be exposed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Another app has it.
    #[error(
        "{app} ({definition:?}) exposes {name}, but so does {other} ({others_definition:?}), which has it; take it out of \
         `expose` in one of the two"
    )]
    Twice {
        /// The command.
        name: ProgramName,
        /// The app that does not get it.
        app: AppName,
        /// Its definition.
        definition: PathBuf,
        /// The app that has it.
        other: AppName,
        /// Its definition.
        others_definition: PathBuf,
    },
    /// Something is there that we did not make.
    #[error(
        "{app} exposes {name}, but {link:?} is there and is not venvd's; move it away, or take {name} out of `expose` in \
         {definition:?}"
    )]
    Foreign {
        /// The command.
        name: ProgramName,
        /// The app.
        app: AppName,
        /// Its definition.
        definition: PathBuf,
        /// What is in the way, as a path of the host.
        link: PathBuf,
    },
    /// Others than root could put something in place of the links.
    #[error("{directory:?} is no place for exposed commands; `commands-directory` in {settings:?} names another one")]
    Directory {
        /// The directory, as a path of the host.
        directory: PathBuf,
        /// Where it is set.
        settings: PathBuf,
        /// The component at fault.
        #[source]
        source: chain::Error,
    },
    /// The directory is read-only.
    #[error("no links can be made for exposed commands; `commands-directory` in {settings:?} names another directory")]
    ReadOnly {
        /// Where it is set.
        settings: PathBuf,
        /// What the system said.
        #[source]
        source: venvd_fs::Error,
    },
    /// A link or the table can't be written.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
}

impl Problem {
    /// The word by which scripts tell this from other errors.
    pub const CODE: &'static str = "command-refused";

    /// Returns the app that lacks a command by it; none where that are all of them.
    #[must_use]
    pub fn app(&self) -> Option<&AppName> {
        match self {
            Self::Twice { app, .. } | Self::Foreign { app, .. } => Some(app),
            Self::Directory { .. } | Self::ReadOnly { .. } | Self::Io(_) => None,
        }
    }
}
