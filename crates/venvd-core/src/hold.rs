//! Venvs that are never collected, because somebody said so.
//!
//! A hold is a file in `/etc`, so that it is seen, copied and backed up with the rest of the configuration: one for
//! each venv, TOML. What else is written there (`touch` is enough) holds too, its text being the reason.

use serde::{Deserialize, Serialize};
use venvd_app::{Layout, VenvName};
use venvd_fs::atomic::{self, Change};
use venvd_fs::lock::Lock;

use crate::error::Error;
use crate::list;

/// Why a venv is held, by whom and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
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

impl Hold {
    /// Returns what the file says. Whatever it says, it holds.
    fn parse(text: &str) -> Self {
        toml::from_str(text).unwrap_or_else(|_| Self {
            reason: Some(text.trim().to_owned()).filter(|reason| !reason.is_empty()),
            ..Self::default()
        })
    }
}

/// Keeps a venv from being collected or removed. A hold that is there already is replaced.
///
/// # Errors
/// When there is no such venv, or the file can't be written.
pub fn hold(layout: &Layout, venv: &VenvName, hold: &Hold) -> Result<Change, Error> {
    // Not while it is being removed.
    let _lock = Lock::exclusive(&layout.store_lock())?;
    list::find(layout, venv)?;
    // Strings and numbers only: this can't fail, and an empty file holds as well.
    let text = toml::to_string(hold).unwrap_or_default();
    Ok(atomic::write(&layout.held(venv), text.as_bytes(), 0o644)?)
}

/// Lets a venv be collected again. It need not exist any more.
///
/// # Errors
/// When the file can't be removed.
pub fn unhold(layout: &Layout, venv: &VenvName) -> Result<Change, Error> {
    Ok(atomic::remove(&layout.held(venv))?)
}

/// Returns why a venv is held, if it is.
///
/// # Errors
/// When the file is there and can't be read.
pub fn read(layout: &Layout, venv: &VenvName) -> Result<Option<Hold>, Error> {
    let bytes = atomic::read(&layout.held(venv))?;
    Ok(bytes.map(|bytes| Hold::parse(&String::from_utf8_lossy(&bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use venvd_fs::Root;

    fn names() -> (tempfile::TempDir, Layout, VenvName) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        (directory, layout, "nova:1".parse().unwrap())
    }

    #[test]
    fn a_hold_says_why_by_whom_and_since_when_until_it_is_lifted() {
        let (_directory, layout, venv) = names();
        fs::create_dir_all(layout.venv(&venv)).unwrap();
        let why = Hold {
            reason: Some("the auditors want \"it\"\nstill".into()),
            by: Some("alice".into()),
            since: Some(1_800_000_000),
        };
        assert_eq!(read(&layout, &venv).unwrap(), None);
        assert_eq!(hold(&layout, &venv, &why).unwrap(), Change::Changed);
        assert_eq!(read(&layout, &venv).unwrap(), Some(why));
        assert_eq!(unhold(&layout, &venv).unwrap(), Change::Changed);
        assert_eq!(unhold(&layout, &venv).unwrap(), Change::Unchanged);
        assert_eq!(read(&layout, &venv).unwrap(), None);
    }

    #[test]
    fn what_does_not_exist_is_not_held() {
        let (_directory, layout, venv) = names();
        let error = hold(&layout, &venv, &Hold::default()).unwrap_err();
        assert_eq!(error.code(), "no-such-venv");
        assert!(!layout.held(&venv).exists());
    }

    #[test]
    fn any_file_holds() {
        let (_directory, layout, venv) = names();
        fs::create_dir_all(layout.held(&venv).parent().unwrap()).unwrap();
        for (text, reason) in [
            ("", None),
            ("ask Bob first\n", Some("ask Bob first")),
            ("reason = \"x\"\n", Some("x")),
            ("surprise = 1\n", Some("surprise = 1")),
        ] {
            fs::write(layout.held(&venv), text).unwrap();
            let hold = read(&layout, &venv).unwrap().unwrap();
            assert_eq!(hold.reason.as_deref(), reason, "{text:?}");
        }
    }
}
