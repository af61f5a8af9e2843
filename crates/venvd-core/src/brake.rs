//! What keeps a venv from being put in force although nothing is wrong with it: an administrator's word that the app stays
//! as it is or that the venv must not run any more, and the memory of a try that failed on this host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use venvd_app::{AppName, Layout, Tag, VenvName};
use venvd_fs::IoContext;
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

/// Says that a venv must not run any more. It need not be there: it may be fetched later. What was said before is
/// replaced.
///
/// # Errors
/// When the file can't be written.
pub fn revoke(layout: &Layout, venv: &VenvName, why: &Note) -> Result<Change, Error> {
    why.write(&layout.revoked(venv))
}

/// Lets a venv be put in force again.
///
/// # Errors
/// When the file can't be removed.
pub fn unrevoke(layout: &Layout, venv: &VenvName) -> Result<Change, Error> {
    Ok(atomic::remove(&layout.revoked(venv))?)
}

/// Returns why a venv must not run any more, if that was said. [`venvd_app::revoked::is_revoked`] only tells whether.
///
/// # Errors
/// When the file is there and can't be read.
pub fn revoked(layout: &Layout, venv: &VenvName) -> Result<Option<Note>, Error> {
    Note::read(&layout.revoked(venv))
}

/// Returns the revoked venvs of an app, there or not.
///
/// # Errors
/// When a file is there and can't be read.
pub fn all_revoked(layout: &Layout, app: &AppName) -> Result<BTreeMap<Tag, Note>, Error> {
    notes(&layout.revoked_venvs().join(app.as_str()))
}

/// Returns the venvs of an app that did not run well on this host, there or not.
///
/// # Errors
/// When a file is there and can't be read.
pub fn all_known_bad(layout: &Layout, app: &AppName) -> Result<BTreeMap<Tag, Note>, Error> {
    notes(&layout.known_bad_venvs().join(app.as_str()))
}

/// Returns the notes in a directory, by the tags that they are named by.
fn notes(directory: &Path) -> Result<BTreeMap<Tag, Note>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(error).at("list", directory)?,
    };
    let mut notes = BTreeMap::new();
    for entry in entries {
        let name = entry.at("list", directory)?.file_name();
        // Hidden names are files in the making, and no tag begins with a dot.
        let Some(tag) = name.to_str().and_then(|name| name.parse::<Tag>().ok()) else {
            continue;
        };
        notes.extend(Note::read(&directory.join(&name))?.map(|note| (tag, note)));
    }
    Ok(notes)
}

/// Returns what is to be said to who asks for a revoked venv.
#[must_use]
pub fn revoked_text(venv: &VenvName, note: &Note) -> String {
    let app = venv.app();
    format!(
        "{venv} is revoked{note}; activate another one (`venvctl list {app}`), or lift it with `venvctl unrevoke {venv}`"
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn what_was_said_of_an_apps_venvs() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let app: AppName = "nova".parse().unwrap();
        assert!(all_revoked(&layout, &app).unwrap().is_empty());
        let note = |reason: &str| Note {
            reason: Some(reason.to_owned()),
            ..Note::default()
        };
        for (venv, reason) in [("nova:1", "a"), ("nova:2", "b"), ("glance:1", "c")] {
            revoke(&layout, &venv.parse().unwrap(), &note(reason)).unwrap();
            condemn(&layout, &venv.parse().unwrap(), &note("x")).unwrap();
        }
        fs::write(layout.revoked_venvs().join("nova/.3.tmp"), "").unwrap();
        let expected = [("1", "a"), ("2", "b")].map(|(tag, reason)| (tag.parse().unwrap(), note(reason)));
        assert_eq!(all_revoked(&layout, &app).unwrap(), expected.into());
        assert_eq!(all_known_bad(&layout, &app).unwrap().len(), 2);
        let one: VenvName = "nova:1".parse().unwrap();
        let text = revoked_text(&one, &revoked(&layout, &one).unwrap().unwrap());
        assert!(text.starts_with("nova:1 is revoked: a; "), "{text}");
        assert_eq!(unrevoke(&layout, &one).unwrap(), Change::Changed);
        assert_eq!(unrevoke(&layout, &one).unwrap(), Change::Unchanged);
        assert_eq!(revoked(&layout, &one).unwrap(), None);
    }
}
