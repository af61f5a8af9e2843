//! One writer at a time, by `flock(2)`: the lock goes with the process, however that ends.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::atomic;
use crate::error::{Error, IoContext};

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock(Flock<std::fs::File>);

impl Lock {
    /// Waits for the exclusive lock on the file `path`, which is created (with its directory, 0700) where missing.
    ///
    /// # Errors
    /// When the file can't be created or locked.
    pub fn exclusive(path: &Path) -> Result<Self, Error> {
        let file = open(path)?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map(Self)
            .map_err(|(_, errno)| errno)
            .at("lock", path)
    }

    /// As [`Lock::exclusive`], but returns `None` at once when another process holds it.
    ///
    /// # Errors
    /// When the file can't be created or locked.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, Error> {
        let file = open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).at("lock", path),
        }
    }

    /// Returns whether `path` still is the file that is locked. Where holders remove it at their end, one who had opened
    /// it before that has locked what nobody else will ever see.
    ///
    /// # Errors
    /// When one of the two can't be looked at.
    pub fn is_at(&self, path: &Path) -> Result<bool, Error> {
        let locked = self.0.metadata().at("look at", path)?;
        match std::fs::symlink_metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at("look at", path),
        }
    }
}

fn open(path: &Path) -> Result<std::fs::File, Error> {
    if let Some(parent) = path.parent() {
        // Not 0700: definitions may lie beside the locks, and ordinary users read those. The locks are 0600, so only
        // their owner can hold one.
        atomic::create_directories(parent, 0o755)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(path)
        .at("open the lock", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excludes_and_releases() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/app.lock");
        let held = Lock::exclusive(&path).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn knows_when_its_file_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::exclusive(&path).unwrap();
        assert!(first.is_at(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!first.is_at(&path).unwrap());
        let second = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(second.is_at(&path).unwrap() && !first.is_at(&path).unwrap());
    }

    #[test]
    fn others_may_look_beside_a_lock_but_not_open_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/app.lock");
        let _held = Lock::exclusive(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o755);
        assert_eq!(mode(&path), 0o600);
    }
}
