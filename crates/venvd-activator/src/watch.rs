//! Notices flips: inotify on the directory of active links.
//!
//! On the directory, not on the links: `mv -T`, `ln -sfn` and Ansible all replace the link, and a watch on it would be
//! on the old inode. So it would be when the directory goes away together with the one it is in, of which it hears
//! nothing itself; that one is watched for this alone. An event only means "look again"; so it doesn't matter which events
//! come, how often, or whether some were lost (inotify(7), "Limitations and caveats").

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use venvd_fs::{IoContext, atomic};

/// How long to wait before the directory is watched anew when that failed.
const RETRY: Duration = Duration::from_secs(1);

const MODE: u32 = 0o755;

/// A watch on a directory. It blocks, so it has a thread of its own.
#[derive(Debug)]
pub(crate) struct Watch {
    directory: PathBuf,
    inotify: Inotify,
}

impl Watch {
    /// Begins to watch a directory, which is made (0755) where missing. Look at it after this, not before.
    ///
    /// # Errors
    /// When it can't be made or watched.
    pub(crate) fn new(directory: &Path) -> Result<Self, venvd_fs::Error> {
        atomic::create_directories(directory, MODE)?;
        Ok(Self {
            inotify: arm(directory)?,
            directory: directory.to_owned(),
        })
    }

    /// Waits until something in the directory may have changed.
    ///
    /// # Errors
    /// When the watch itself is broken.
    pub(crate) fn changed(&mut self) -> io::Result<()> {
        loop {
            match look(&self.inotify)? {
                Seen::Nothing => {}
                Seen::Change => return Ok(()),
                Seen::Gone => {
                    self.arm_again();
                    return Ok(());
                }
            }
        }
    }

    /// Waits until nothing has changed for `quiet`, but not much longer than `at_most`; returns whether something did.
    ///
    /// # Errors
    /// When the watch itself is broken.
    pub(crate) fn calm_down(&mut self, quiet: Duration, at_most: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        let mut changed = false;
        while begun.elapsed() < at_most && self.is_ready_within(quiet)? {
            changed |= match look(&self.inotify)? {
                Seen::Nothing => false,
                Seen::Change => true,
                Seen::Gone => {
                    self.arm_again();
                    true
                }
            };
        }
        Ok(changed)
    }

    fn is_ready_within(&self, time: Duration) -> io::Result<bool> {
        let mut events = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut events, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The directory was moved, removed or unmounted, or events were lost: begins anew, however long it takes.
    fn arm_again(&mut self) {
        let mut is_said = false;
        loop {
            match arm(&self.directory) {
                Ok(inotify) => {
                    self.inotify = inotify;
                    if is_said {
                        tracing::info!("flips are noticed again");
                    }
                    return;
                }
                Err(error) if !is_said => {
                    tracing::error!("flips are not noticed now: {}", venvd_fs::report(&error));
                    is_said = true;
                }
                Err(_) => {}
            }
            std::thread::sleep(RETRY);
        }
    }
}

enum Seen {
    Nothing,
    Change,
    Gone,
}

/// Waits for events and reads those that are there.
fn look(inotify: &Inotify) -> io::Result<Seen> {
    let events = loop {
        match inotify.read_events() {
            Ok(events) => break events,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let gone = AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_IGNORED
        | AddWatchFlags::IN_UNMOUNT
        | AddWatchFlags::IN_Q_OVERFLOW;
    // Names that begin with a dot are links in the making.
    let is_hidden = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b".");
    if events.iter().any(|event| event.mask.intersects(gone)) {
        Ok(Seen::Gone)
    } else if events.iter().all(|event| event.name.as_ref().is_some_and(is_hidden)) {
        Ok(Seen::Nothing)
    } else {
        Ok(Seen::Change)
    }
}

/// Makes the directory where missing, but not the one it is in: if that was moved away, whoever did it wants to put
/// something in its place, and `mv` would put it below what is there.
fn arm(directory: &Path) -> Result<Inotify, venvd_fs::Error> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).at("watch", directory)?;
    let itself = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_ONLYDIR;
    // From the top, so that what is moved between the two is told.
    if let Some(above) = directory.parent() {
        inotify.add_watch(above, itself).at("watch", above)?;
    }
    atomic::create_directories(directory, MODE)?;
    let flips = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    inotify.add_watch(directory, itself | flips).at("watch", directory)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{self, Receiver};

    const SOON: Duration = Duration::from_secs(10);
    const QUIET: Duration = Duration::from_millis(50);

    fn flip(directory: &Path, target: &str) {
        let temporary = directory.join(".nova.tmp");
        symlink(target, &temporary).unwrap();
        fs::rename(&temporary, directory.join("nova")).unwrap();
    }

    /// Watches on a thread of its own, which ends with the test.
    fn watch(directory: &Path) -> Receiver<()> {
        let mut watch = Watch::new(directory).unwrap();
        let (told, changes) = mpsc::channel();
        std::thread::spawn(move || while watch.changed().is_ok() && told.send(()).is_ok() {});
        changes
    }

    /// Waits for a change, and for all that belongs to it.
    fn settle(changes: &Receiver<()>) {
        changes.recv_timeout(SOON).unwrap();
        while changes.recv_timeout(QUIET).is_ok() {}
    }

    #[test]
    fn a_missing_directory_is_made_and_all_ways_to_flip_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let links = directory.path().join("etc/venvd/active");
        let changes = watch(&links);
        assert!(changes.recv_timeout(QUIET).is_err());
        let link = links.join("nova");
        let elsewhere = directory.path().join("elsewhere");
        let ways: [&dyn Fn(); 4] = [
            &|| symlink("v1", &link).unwrap(),
            &|| flip(&links, "v2"),
            &|| {
                fs::remove_file(&link).unwrap();
                symlink("v3", &link).unwrap();
            },
            &|| {
                symlink("v4", &elsewhere).unwrap();
                fs::rename(&elsewhere, &link).unwrap();
            },
        ];
        for way in ways {
            way();
            settle(&changes);
        }
        symlink("v5", links.join(".CuXXXXXX")).unwrap();
        assert!(changes.recv_timeout(QUIET).is_err(), "a link in the making");
    }

    #[test]
    fn of_a_hundred_flips_the_last_one_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let links = directory.path().join("active");
        let changes = watch(&links);
        let flips = links.clone();
        let flipping = std::thread::spawn(move || {
            for number in 0..100 {
                flip(&flips, &format!("v{number}"));
            }
        });
        let begun = Instant::now();
        let mut last = PathBuf::new();
        while last != Path::new("v99") {
            assert!(begun.elapsed() < SOON, "stuck at {last:?}");
            changes.recv_timeout(SOON).unwrap();
            last = fs::read_link(links.join("nova")).unwrap();
        }
        flipping.join().unwrap();
    }

    #[test]
    fn what_comes_in_quick_succession_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let links = directory.path().join("active");
        let mut watch = Watch::new(&links).unwrap();
        assert!(!watch.calm_down(QUIET, SOON).unwrap());
        let flips = links.clone();
        let flipping = std::thread::spawn(move || {
            for number in 0..20 {
                flip(&flips, &format!("v{number}"));
                std::thread::sleep(QUIET / 10);
            }
        });
        watch.changed().unwrap();
        assert!(watch.calm_down(QUIET * 10, SOON).unwrap());
        assert!(flipping.is_finished() || fs::read_link(links.join("nova")).unwrap() == Path::new("v19"));
        flipping.join().unwrap();

        flip(&links, "v20");
        let begun = Instant::now();
        assert!(watch.calm_down(SOON, Duration::ZERO).is_ok_and(|changed| !changed));
        assert!(begun.elapsed() < SOON);
    }

    #[test]
    fn a_directory_that_is_moved_or_removed_is_made_and_watched_again() {
        let directory = tempfile::tempdir().unwrap();
        let links = directory.path().join("active");
        let changes = watch(&links);
        fs::rename(&links, directory.path().join("away")).unwrap();
        settle(&changes);
        flip(&links, "v1");
        settle(&changes);
        fs::remove_dir_all(&links).unwrap();
        settle(&changes);
        flip(&links, "v2");
        settle(&changes);
        assert_eq!(fs::read_link(links.join("nova")).unwrap(), Path::new("v2"));
    }

    #[test]
    fn what_goes_away_with_the_directory_above_is_watched_where_it_belongs() {
        let directory = tempfile::tempdir().unwrap();
        let [above, away, other] = ["venvd", "away", "other"].map(|name| directory.path().join(name));
        let links = above.join("active");
        let changes = watch(&links);
        fs::create_dir_all(other.join("active")).unwrap();
        fs::rename(&above, &away).unwrap();
        assert!(changes.recv_timeout(QUIET).is_err());
        assert!(!above.exists(), "what comes back must not find its place taken");
        fs::rename(&other, &above).unwrap();
        settle(&changes);
        flip(&links, "v1");
        settle(&changes);
        fs::rename(&above, &other).unwrap();
        fs::rename(&away, &above).unwrap();
        settle(&changes);
        flip(&links, "v2");
        settle(&changes);
    }

    #[test]
    fn whoever_missed_events_looks() {
        let directory = tempfile::tempdir().unwrap();
        let links = directory.path().join("active");
        let mut watch = Watch::new(&links).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let [one, other] = [".one", ".other"].map(|name| links.join(name));
        symlink("v1", &one).unwrap();
        // None of these is worth a look.
        for number in 0..most.trim().parse().unwrap() {
            let [from, to] = if number % 2 == 0 {
                [&one, &other]
            } else {
                [&other, &one]
            };
            fs::rename(from, to).unwrap();
        }
        assert!(watch.calm_down(QUIET, SOON).unwrap());
        flip(&links, "v2");
        assert!(watch.calm_down(QUIET, SOON).unwrap());
    }
}
