//! What somebody said about a venv or an app, by whom and since when: a small file in `/etc`, so that it is seen, copied
//! and backed up with the rest of the configuration. What else is written there (`touch` is enough) counts too, its text
//! being the reason.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use venvd_fs::atomic::{self, Change};

use crate::error::Error;

/// Why, by whom and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl fmt::Display for Note {
    /// ` by alice: the auditors come`, or nothing: what goes behind the word that says what was done.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(by) = &self.by {
            write!(formatter, " by {by}")?;
        }
        match &self.reason {
            Some(reason) => write!(formatter, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl Note {
    /// Returns what the file says. Whatever it says, it counts.
    fn parse(text: &str) -> Self {
        toml::from_str(text).unwrap_or_else(|_| Self {
            reason: Some(text.trim().to_owned()).filter(|reason| !reason.is_empty()),
            ..Self::default()
        })
    }

    /// Reads a file, if it is there.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = atomic::read(path)?;
        Ok(bytes.map(|bytes| Self::parse(&String::from_utf8_lossy(&bytes))))
    }

    /// Writes the file; one that is there is replaced.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<Change, Error> {
        // Strings and numbers only: this can't fail, and an empty file counts as well.
        let text = toml::to_string(self).unwrap_or_default();
        Ok(atomic::write(path, text.as_bytes(), 0o644)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("note");
        assert_eq!(Note::read(&path).unwrap(), None);
        for (text, reason) in [
            ("", None),
            ("ask Bob first\n", Some("ask Bob first")),
            ("reason = \"x\"\n", Some("x")),
            ("surprise = 1\n", Some("surprise = 1")),
        ] {
            std::fs::write(&path, text).unwrap();
            let note = Note::read(&path).unwrap().unwrap();
            assert_eq!(note.reason.as_deref(), reason, "{text:?}");
        }
    }
}
