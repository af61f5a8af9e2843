//! A user id that nobody has, for a phase in namespaces. (A transient unit gets its own from systemd.)

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use venvd_app::Layout;
use venvd_fs::IoContext;
use venvd_fs::lock::Lock;

use crate::error::Error;

/// The range of systemd's `DynamicUser=`: no package and no administrator gives these to anybody, systemd.exec(5).
pub(super) const USERS: std::ops::RangeInclusive<u32> = 61184..=65519;

/// Where systemd notes which of them are in use.
const DYNAMIC: &str = "/run/systemd/dynamic-uid";

/// A user id, ours alone while this lives.
#[derive(Debug)]
pub(super) struct FreeUser {
    pub(super) uid: u32,
    /// Keeps other builds from taking the same.
    _taken: Mark,
    /// Keeps systemd from taking it, where there is one.
    _dynamic: Option<Mark>,
}

impl FreeUser {
    /// Takes a user id of the range that no entry, no process, no unit and no other build has.
    pub(super) fn take(layout: &Layout) -> Result<Self, Error> {
        let used = users_of_processes()?;
        let count = USERS.end() - USERS.start() + 1;
        // Builds that begin together look at different places first.
        let first = std::process::id().wrapping_mul(2_654_435_761) % count;
        for offset in 0..count {
            let uid = USERS.start() + (first + offset) % count;
            let known = User::from_uid(Uid::from_raw(uid)).is_ok_and(|user| user.is_some());
            if used.contains(&uid) || known {
                continue;
            }
            // No app name begins with an underscore, so this is no app's lock.
            let path = layout.builder_lock(uid);
            let Some(taken) = Mark::take(path)? else {
                continue;
            };
            let dynamic = if Path::new(DYNAMIC).is_dir() {
                // As systemd itself marks those that it gives away: a locked file with the number as name.
                match Mark::take(Path::new(DYNAMIC).join(uid.to_string()))? {
                    None => continue,
                    dynamic => dynamic,
                }
            } else {
                None
            };
            return Ok(Self {
                uid,
                _taken: taken,
                _dynamic: dynamic,
            });
        }
        Err(Error::NoUser {
            first: *USERS.start(),
            last: *USERS.end(),
        })
    }

    /// Returns whether any process is this user's.
    pub(super) fn has_processes(&self) -> Result<bool, Error> {
        Ok(users_of_processes()?.contains(&self.uid))
    }
}

/// A locked file, whose name says what is taken. Dropping removes it.
#[derive(Debug)]
struct Mark {
    path: PathBuf,
    _lock: Lock,
}

impl Mark {
    /// Takes a name; none when somebody else has it.
    fn take(path: PathBuf) -> Result<Option<Self>, Error> {
        // Also one that was left by a crash: as for systemd, only the lock counts.
        let Some(lock) = Lock::try_exclusive(&path)? else {
            return Ok(None);
        };
        // Its last holder may have removed it since it was opened here: the name may be another's now.
        Ok(lock.is_at(&path)?.then_some(Self { path, _lock: lock }))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // While it is locked still. One that stays is taken by the next who wants it.
        drop(fs::remove_file(&self.path));
    }
}

fn users_of_processes() -> Result<BTreeSet<u32>, Error> {
    let proc = Path::new("/proc");
    let mut users = BTreeSet::new();
    for entry in fs::read_dir(proc).at("list", proc)? {
        // A process that has ended meanwhile uses nothing.
        if let Ok(metadata) = entry.at("list", proc)?.metadata() {
            users.insert(metadata.uid());
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn builds_at_the_same_time_have_users_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let taken: Vec<_> = (0..3).map(|_| FreeUser::take(&layout).unwrap()).collect();
        let users: BTreeSet<u32> = taken.iter().map(|taken| taken.uid).collect();
        assert_eq!(users.len(), 3);
        let marks = || fs::read_dir(layout.on_disk("/run/venvd")).unwrap().count();
        assert_eq!(marks(), 3);
        drop(taken);
        assert_eq!(marks(), 0, "none stays");
    }
}
