//! Venvs that are never collected, because somebody said so.
//!
//! A hold is a [`Note`] of its own for each venv.

use venvd_app::{Layout, VenvName};
use venvd_fs::atomic::{self, Change};
use venvd_fs::lock::Lock;

use crate::error::Error;
use crate::list;
use crate::note::Note;

/// Keeps a venv from being collected or removed. A hold that is there already is replaced.
///
/// # Errors
/// When there is no such venv, or the file can't be written.
pub fn hold(layout: &Layout, venv: &VenvName, why: &Note) -> Result<Change, Error> {
    // Not while it is being removed.
    let _lock = Lock::exclusive(&layout.store_lock())?;
    list::find(layout, venv)?;
    why.write(&layout.held(venv))
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
pub fn read(layout: &Layout, venv: &VenvName) -> Result<Option<Note>, Error> {
    Note::read(&layout.held(venv))
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
        let why = Note {
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
        let error = hold(&layout, &venv, &Note::default()).unwrap_err();
        assert_eq!(error.code(), "no-such-venv");
        assert!(!layout.held(&venv).exists());
    }
}
