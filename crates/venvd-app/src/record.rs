//! What lies beside a committed or previous link: what must be known about its venv where the venv can't be looked at.
//!
//! Generators run before `/var` is mounted (systemd.generator(7)), so whoever moves a link writes this down with it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use venvd_fs::atomic;

use crate::Layout;
use crate::links::{Link, VenvPath};
use crate::name::{ProgramName, VenvName};

/// A venv's interpreter and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The venv, `app:tag`.
    pub venv: VenvName,
    /// The interpreter it is bound to.
    pub interpreter: PathBuf,
    /// `3.11`
    pub minor: String,
    /// What its extension modules are built for.
    pub soabi: String,
    /// The interpreter's version when the venv was built.
    pub version: String,
    /// The programs in its `bin`.
    pub programs: Vec<ProgramName>,
}

/// Why there is no record of a venv.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is none.
    #[error("there is no {path:?}")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// It is not a record.
    #[error("{path:?} can't be understood: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: serde_json::Error,
    },
    /// It is another venv's: the link was moved by hand, or a crash came between the two.
    #[error("{path:?} is about {found}, not about {venv}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The venv it is about.
        found: VenvName,
        /// The venv that the link names.
        venv: VenvName,
    },
}

impl Record {
    /// Reads the record beside a link that names `venv`.
    ///
    /// # Errors
    /// When there is none of that venv.
    pub fn load(layout: &Layout, link: Link, venv: &VenvPath) -> Result<Self, RecordError> {
        let path = link.record(layout, venv.name().app());
        let bytes = atomic::read(&path)?.ok_or_else(|| RecordError::Missing { path: path.clone() })?;
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(record) if record.venv == *venv.name() => Ok(record),
            Ok(record) => Err(RecordError::Foreign {
                path,
                found: record.venv,
                venv: venv.name().clone(),
            }),
            Err(reason) => Err(RecordError::Invalid { path, reason }),
        }
    }

    /// Writes it beside a link; to be done before the link is moved, so that a link is never there without it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), venvd_fs::Error> {
        // Strings and lists of strings only: this can't fail, and an empty file would be refused by `load`.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        atomic::write(path, &text, 0o644)?;
        Ok(())
    }
}
