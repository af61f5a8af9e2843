//! The cache: roots, wheels, tools, and the directories of the machines that run now.
//!
//! Nothing in it is ever half there under its final name: everything is made under another name, with the lock of
//! that thing held, and renamed when it is whole.

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Where the cache is when `VENVD_CACHE` does not say: kept over reboots, and on a real file system nearly everywhere.
const DEFAULT: &str = "/var/tmp/venvd";

/// The cache directory: `$VENVD_CACHE`, or `/var/tmp/venvd`. It is made if it is missing.
///
/// # Errors
/// When it can't be made, or its path can't be used in mount options.
pub fn dir() -> Result<PathBuf> {
    let path = PathBuf::from(env::var_os("VENVD_CACHE").unwrap_or_else(|| OsString::from(DEFAULT)));
    // Commas and colons separate the options of an overlay mount and the fields of nspawn's --bind=.
    let usable = path
        .to_str()
        .is_some_and(|text| text.starts_with('/') && !text.contains([',', ':', '\\', '"']));
    if !usable {
        bail!(
            "VENVD_CACHE must be an absolute path without commas, colons, quotes and backslashes: {}",
            path.display()
        );
    }
    make_dir(&path)?;
    Ok(path)
}

/// Makes the directory `name` in the cache, open to read for everybody (users in a machine walk through it).
///
/// # Errors
/// When it can't be made.
pub fn subdir(name: &str) -> Result<PathBuf> {
    let path = dir()?.join(name);
    make_dir(&path)?;
    Ok(path)
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("can't make the cache directory {}", path.display()))
}

/// Takes the lock `name` in the cache, waiting for it: one process at a time makes one thing.
///
/// The lock is held until the file is dropped, or its process ends.
///
/// # Errors
/// When the lock file can't be opened.
pub fn lock(name: &str) -> Result<File> {
    let path = subdir("locks")?.join(name);
    let file = File::create(&path).with_context(|| format!("can't open the lock {}", path.display()))?;
    file.lock().with_context(|| format!("can't lock {}", path.display()))?;
    Ok(file)
}

/// The first 12 hex digits of the SHA-256 of `parts`: the name of a thing that is made from them.
#[must_use]
pub fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length first, so that ["ab", "c"] and ["a", "bc"] differ.
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Removes the directories of machines whose test process is gone.
///
/// A machine cleans up after itself even when its test is killed; this is for a host that lost its power.
///
/// # Errors
/// When the directory of machines can't be read or a left-over can't be removed.
pub fn sweep() -> Result<()> {
    let _gate = lock("machines")?;
    let machines = subdir("machines")?;
    for entry in fs::read_dir(&machines).with_context(|| format!("can't read {}", machines.display()))? {
        let path = entry?.path();
        match File::open(&path).map(|dir| dir.try_lock()) {
            Ok(Ok(())) => remove_tree(&path)?,
            // Alive.
            Ok(Err(TryLockError::WouldBlock)) => {}
            Ok(Err(TryLockError::Error(error))) => {
                return Err(error).with_context(|| format!("can't lock {}", path.display()));
            }
            // It removed itself meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("can't open {}", path.display())),
        }
    }
    Ok(())
}

/// Makes a directory for one machine, locked for as long as the returned file is open.
pub(crate) fn machine_dir() -> Result<(PathBuf, File)> {
    // The gate keeps a sweep from finding the directory between its making and its locking.
    let _gate = lock("machines")?;
    let path = tempfile::Builder::new()
        .prefix("m-")
        .rand_bytes(8)
        .tempdir_in(subdir("machines")?)
        .context("can't make a directory for the machine")?
        .keep();
    let dir = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
    dir.lock().with_context(|| format!("can't lock {}", path.display()))?;
    Ok((path, dir))
}

/// Removes a tree; that it is gone already is no error (a machine's launcher removes it too).
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_when_any_part_or_border_does() {
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_eq!(key(&["a"]).len(), 12);
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", "b"]), key(&["a", "b", ""]));
    }
}
