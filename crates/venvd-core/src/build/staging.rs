//! The place where a venv is made, and who sweeps it when a build died.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use tempfile::TempDir;
use venvd_app::{AppName, Layout};
use venvd_fs::lock::Lock;
use venvd_fs::{IoContext, atomic, chain};

use super::confine::{Backend, stop_all};
use super::log::Log;
use crate::error::Error;

/// A build's own directory. Dropping it removes it; when that is not possible any more, the next build sweeps it.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: TempDir,
    /// Says that this build lives.
    _alive: Lock,
    /// What happened.
    pub(super) log: Log,
}

impl Staging {
    /// Makes the place for a build, and removes those of builds that have died.
    pub(crate) fn open(layout: &Layout, app: &AppName) -> Result<Self, Error> {
        prepare(layout, app)?;
        let base = layout.staging();
        // Between a directory's making and its lock it looks dead: nobody sweeps meanwhile.
        let _store = Lock::exclusive(&layout.store_lock())?;
        sweep(layout)?;
        let directory = tempfile::Builder::new()
            .prefix(&format!("{app}."))
            .tempdir_in(&base)
            .at("create a directory in", &base)?;
        let alive = Lock::exclusive(&alive_lock(directory.path()))?;
        for name in ["input", "wheels", "sdists", "built", "tree"] {
            atomic::create_directories(&directory.path().join(name), 0o755)?;
        }
        let log = Log::begin(directory.path().join("log"), base.join(format!("{app}.log")))?;
        Ok(Self {
            directory,
            _alive: alive,
            log,
        })
    }

    /// Returns the directory of all this, which only root can look into.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns root's own directory of what the confined user is given to read.
    pub(super) fn input(&self) -> PathBuf {
        self.directory.path().join("input")
    }

    /// Returns root's own directory of the wheels to install.
    pub(super) fn wheels(&self) -> PathBuf {
        self.directory.path().join("wheels")
    }

    /// Returns root's own directory of the source distributions to build.
    pub(super) fn sdists(&self) -> PathBuf {
        self.directory.path().join("sdists")
    }

    /// Returns root's own directory for what was built, until it lies with the other wheels.
    pub(super) fn built(&self) -> PathBuf {
        self.directory.path().join("built")
    }

    /// Returns root's own copy, that becomes the venv.
    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }
}

fn alive_lock(directory: &Path) -> PathBuf {
    directory.join("alive.lock")
}

/// Makes the directories that builds need, and refuses places where a venv could not live.
fn prepare(layout: &Layout, app: &AppName) -> Result<(), Error> {
    let venvs = layout.venvs();
    atomic::create_directories(&venvs, 0o755)?;
    atomic::create_directories(&layout.staging(), 0o711)?;
    layout
        .trusted(&layout.root().on_host(&venvs.join(app.as_str())))
        .or_else(missing_is_fine)?;
    layout.trusted(&layout.root().on_host(&layout.staging()))?;
    refuse_flag(
        &venvs,
        FsFlags::ST_NOEXEC,
        "noexec",
        "programs of a venv could not be started",
    )?;
    refuse_flag(
        &layout.configuration(),
        FsFlags::ST_RDONLY,
        "read-only",
        "locks and links could not be written",
    )
}

fn missing_is_fine(error: chain::Error) -> Result<PathBuf, chain::Error> {
    match error {
        chain::Error::Io(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(PathBuf::new()),
        error => Err(error),
    }
}

fn refuse_flag(path: &Path, flag: FsFlags, name: &'static str, reason: &'static str) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let status = statvfs(path).at("look at the file system of", path)?;
    if status.flags().contains(flag) {
        return Err(Error::FileSystem {
            path: path.to_owned(),
            flag: name,
            reason,
        });
    }
    Ok(())
}

/// Removes what dead builds and removals left, and returns it. Logs stay: one for each app at most.
///
/// The caller holds the store lock: a build that has just made its directory looks dead until it has locked it.
pub(crate) fn sweep(layout: &Layout) -> Result<Vec<PathBuf>, Error> {
    let dead = dead(layout)?;
    let has_units = Backend::choose().is_ok_and(Backend::is_unit);
    for path in &dead {
        // A build that was killed leaves its unit; what runs in namespaces ends with it.
        if let (true, Some(build)) = (has_units, path.file_name()) {
            stop_all(&build.to_string_lossy()).at("stop the programs of", path)?;
        }
        fs::remove_dir_all(path).at("remove", path)?;
    }
    Ok(dead)
}

/// Returns what dead builds and removals left.
pub(crate) fn dead(layout: &Layout) -> Result<Vec<PathBuf>, Error> {
    let base = layout.staging();
    let entries = match fs::read_dir(&base) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", &base)?,
    };
    let mut dead = Vec::new();
    for entry in entries {
        let path = entry.at("list", &base)?.path();
        if !fs::symlink_metadata(&path).at("look at", &path)?.is_dir() {
            continue;
        }
        // Trying to lock makes the file where there is none: whoever only looks changes nothing.
        let lock = alive_lock(&path);
        let is_locked = fs::symlink_metadata(&lock).is_ok() && Lock::try_exclusive(&lock)?.is_none();
        if !is_locked {
            dead.push(path);
        }
    }
    dead.sort();
    Ok(dead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn dead_builds_are_swept_and_living_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let app: AppName = "nova".parse().unwrap();
        let living = Staging::open(&layout, &app).unwrap();
        let dead = layout.staging().join("nova.dead");
        fs::create_dir_all(dead.join("work/venv")).unwrap();
        fs::write(layout.staging().join("nova.log"), "why it failed").unwrap();
        let second = Staging::open(&layout, &app).unwrap();
        assert!(!dead.exists());
        assert!(living.log.path().exists() && second.log.path().exists());
        drop((living, second));
        let left: Vec<_> = fs::read_dir(layout.staging())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["nova.log"]);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        fs::create_dir_all(layout.venvs().join("nova")).unwrap();
        fs::set_permissions(layout.venvs().join("nova"), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Staging::open(&layout, &"nova".parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), "unsafe-owner", "{error}");
    }
}
