//! Removing a venv that nothing needs any more.

use std::fs;

use venvd_app::links::VenvPath;
use venvd_app::{Layout, VenvName};
use venvd_fs::lock::Lock;
use venvd_fs::{IoContext, atomic};

use crate::brake;
use crate::collect::{self, Reason};
use crate::error::Error;
use crate::usage::Use;

/// How many processes an error names.
const NAMED_PROCESSES: usize = 5;

/// Removes a venv that was built on this host.
///
/// It vanishes by one rename, so that a crash leaves it whole or gone, never half.
///
/// # Errors
/// When it is linked, held, in use by a process, or not there, or when the caller can't see who uses it.
pub fn remove(layout: &Layout, name: &VenvName) -> Result<(), Error> {
    // An activation that has only just begun has left no mark yet. It waits for this lock, for as long as this takes.
    let Some(_activations) = Lock::try_exclusive(&layout.app_lock(name.app()))? else {
        return Err(Error::Pending { venv: name.clone() });
    };
    let _store = Lock::exclusive(&layout.store_lock())?;
    let directory = layout.venv(name);
    if fs::symlink_metadata(&directory).is_err() {
        return Err(Error::NoSuchVenv { venv: name.clone() });
    }
    let reasons = collect::reasons_against_removal(layout, &VenvPath::local(layout, name.clone()))?;
    match reasons.into_iter().find_map(|reason| refusal(name, reason)) {
        Some(error) => Err(error),
        None => bury(layout, name),
    }
}

/// Moves a venv out of the way, and then removes it. The caller holds the store's lock.
pub(crate) fn bury(layout: &Layout, name: &VenvName) -> Result<(), Error> {
    let directory = layout.venv(name);
    let staging = layout.staging();
    atomic::create_directories(&staging, 0o711)?;
    let grave = tempfile::Builder::new()
        .prefix(&format!("removed-{}-{}.", name.app(), name.tag()))
        .tempdir_in(&staging)
        .at("create a directory in", &staging)?;
    atomic::rename_new(&directory, &grave.path().join("venv"))?;
    brake::acquit(layout, name)?;
    let path = grave.path().to_owned();
    grave.close().at("remove", &path)?;
    // The app's directory goes with its last venv; that it is not empty is the usual case.
    if let Some(parent) = directory.parent() {
        match fs::remove_dir(parent) {
            Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                return Err(error).at("remove", parent)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn refusal(name: &VenvName, reason: Reason) -> Option<Error> {
    let linked = |role| {
        Some(Error::Linked {
            venv: name.clone(),
            role,
        })
    };
    match reason {
        Reason::AskedFor => linked("active"),
        Reason::InForce => linked("committed"),
        Reason::Previous => linked("previous"),
        Reason::Held(hold) => Some(Error::Held {
            venv: name.clone(),
            hold,
        }),
        Reason::Pending => Some(Error::Pending { venv: name.clone() }),
        Reason::Used { by } => Some(Error::InUse {
            venv: name.clone(),
            processes: by.iter().take(NAMED_PROCESSES).map(Use::to_string).collect(),
        }),
        Reason::Unknown { why } => Some(Error::Undecided {
            venv: name.clone(),
            why,
        }),
        Reason::Newest { .. } | Reason::NotSealed { .. } | Reason::Packaged => None,
    }
}
