//! What keeps a venv from being put in force although nothing is wrong with it: an administrator's word that the app stays
//! as it is, and the memory of a try that failed on this host.

use venvd_app::{AppName, Layout, VenvName};
use venvd_fs::atomic::{self, Change};

use crate::error::Error;
use crate::note::Note;

/// Keeps an app at the venv that is in force. What was said before is replaced.
///
/// # Errors
/// When the file can't be written.
pub fn freeze(layout: &Layout, app: &AppName, why: &Note) -> Result<Change, Error> {
    why.write(&layout.frozen(app))
}

/// Lets an app be activated again.
///
/// # Errors
/// When the file can't be removed.
pub fn thaw(layout: &Layout, app: &AppName) -> Result<Change, Error> {
    Ok(atomic::remove(&layout.frozen(app))?)
}

/// Returns why an app is kept, if it is.
///
/// # Errors
/// When the file is there and can't be read.
pub fn frozen(layout: &Layout, app: &AppName) -> Result<Option<Note>, Error> {
    Note::read(&layout.frozen(app))
}

/// Remembers that a venv did not run well on this host.
///
/// # Errors
/// When the file can't be written.
pub fn condemn(layout: &Layout, venv: &VenvName, why: &Note) -> Result<Change, Error> {
    why.write(&layout.known_bad(venv))
}

/// Forgets that: it ran well since, or is not there any more.
///
/// # Errors
/// When the file can't be removed.
pub fn acquit(layout: &Layout, venv: &VenvName) -> Result<Change, Error> {
    Ok(atomic::remove(&layout.known_bad(venv))?)
}

/// Returns what was remembered of a venv.
///
/// # Errors
/// When the file is there and can't be read.
pub fn known_bad(layout: &Layout, venv: &VenvName) -> Result<Option<Note>, Error> {
    Note::read(&layout.known_bad(venv))
}
