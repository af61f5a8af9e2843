//! Trees that somebody else filled: nothing outside them is ever reached.

use std::io;
use std::path::PathBuf;

/// Why a tree was not copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] crate::Error),
    /// There is something in it that a tree of plain files does not have.
    #[error("{path:?} is {what}; only plain files and directories are copied")]
    Refused {
        /// Relative to the tree.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
}

impl Error {
    /// Returns the I/O error, if it is one.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io(error) => Some(&error.source),
            Self::Refused { .. } => None,
        }
    }
}
