//! The locks that were made before, and which of them serves a wish again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use venvd_app::{Layout, Tag, VenvName};
use venvd_fs::{IoContext, atomic};

use super::Request;
use super::plan::existing;
use crate::error::Error;
use crate::lock::{Format, Inputs, Lock};

/// Returns the lock that was made from the same inputs before: the tag's own, or else the newest of the app.
///
/// # Errors
/// When the tag has a lock, or a venv, that was made from something else.
pub(super) fn find(layout: &Layout, request: &Request, inputs: &Inputs) -> Result<Option<Lock>, Error> {
    if let Some(tag) = &request.tag
        && let Some(lock) = of_tag(layout, &VenvName::new(request.app.name.clone(), tag.clone())?, inputs)?
    {
        return Ok(Some(lock));
    }
    newest(&layout.locks(&request.app.name), inputs)
}

fn of_tag(layout: &Layout, name: &VenvName, inputs: &Inputs) -> Result<Option<Lock>, Error> {
    let directory = layout.locks(name.app());
    for format in [Format::Requirements, Format::Pylock] {
        let path = kept_path(&directory, name.tag(), format);
        let Some(bytes) = atomic::read(&path)? else { continue };
        // What is no text was not made from any inputs.
        let text = String::from_utf8(bytes).unwrap_or_default();
        if inputs.made(&text) {
            return Ok(Some(Lock::parse(&path, format, text)?));
        }
        let (venv, differences) = (name.clone(), inputs.differences(&text));
        return Err(match existing(layout, name)? {
            Some(_) => Error::OtherLock { venv, differences },
            None => Error::KeptLock {
                venv,
                path,
                differences,
            },
        });
    }
    // Whoever removed the lock did not change the venv.
    let Some((venv, head)) = existing(layout, name)? else {
        return Ok(None);
    };
    if inputs.made(&head.lock.text) {
        let path = venv.path().join(crate::manifest::PATH);
        return Ok(Some(Lock::parse(&path, head.lock.format, head.lock.text)?));
    }
    Err(Error::OtherLock {
        venv: name.clone(),
        differences: inputs.differences(&head.lock.text),
    })
}

/// Returns where the lock of a venv is kept.
pub(super) fn kept_path(directory: &Path, tag: &Tag, format: Format) -> PathBuf {
    directory.join(format!("{tag}.{}", format.extension()))
}

fn newest(directory: &Path, inputs: &Inputs) -> Result<Option<Lock>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("list", directory).map_err(Error::Io),
    };
    let mut candidates: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in entries {
        let entry = entry.at("list", directory)?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let metadata = entry.metadata().and_then(|metadata| metadata.modified());
            candidates.push((metadata.at("look at", &path)?, path));
        }
    }
    candidates.sort();
    for (_, path) in candidates.into_iter().rev() {
        let Some(bytes) = atomic::read(&path)? else { continue };
        // Locks that were given, in whatever form, are none of those that were made.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if inputs.made(&text) {
            return Ok(Some(Lock::parse(&path, Format::Requirements, text)?));
        }
    }
    Ok(None)
}
