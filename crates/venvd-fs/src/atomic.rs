//! Files and links that are there whole or not at all, also after a power cut.
//!
//! The order is: temporary file in the same directory, `fchmod`, write, `fsync`, `rename`, `fsync` of the directory.
//! Without the first `fsync` a crash can leave an empty file under the final name; without the last one, what was
//! reported as done may be undone.
//!
//! Temporary names begin with a dot and contain one, so that sudo, systemd and oslo.rootwrap never read them
//! (sudoers(5), "files that ... contain a '.' character are skipped"). They say whose they are, so that what a killed
//! writer left can be swept.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink as make_symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::fcntl::{OFlag, RenameFlags, renameat2};
use nix::unistd::{AccessFlags, access};
use tempfile::TempPath;

use crate::error::{Error, IoContext};

/// Whether a write had to change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The file now has other contents, another mode or another owner than before, or is new.
    Changed,
    /// It was so already; nothing was written.
    Unchanged,
}

/// A file written and synced under a temporary name, waiting for its rename.
///
/// Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    temporary: TempPath,
    destination: PathBuf,
}

impl Staged {
    /// Returns the temporary path, for a validator to look at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the file to this owner and group, before it becomes visible.
    ///
    /// # Errors
    /// When the owner can't be changed or that can't be synced; the file is then dropped.
    pub fn owned_by(self, uid: u32, gid: u32) -> Result<Self, Error> {
        // By an open file of a directory that is ours, as for the mode: a path could be swapped.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&self.temporary)
            .at("open", &self.temporary)?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).at("set the owner of", &self.destination)?;
        file.sync_all().at("sync", &self.destination)?;
        Ok(self)
    }

    /// Puts the file in place and makes that durable.
    ///
    /// # Errors
    /// When the rename or the directory's `fsync` fails; after a failed rename the old file is still there.
    pub fn commit(self) -> Result<(), Error> {
        let parent = parent_of(&self.destination)?.to_owned();
        self.temporary
            .persist(&self.destination)
            .map_err(|error| error.error)
            .at("rename to", &self.destination)?;
        sync_directory(&parent)
    }
}

/// Writes `contents` under a temporary name beside `path` with `mode`, synced, not yet visible as `path`.
///
/// # Errors
/// When the directory does not exist or can't be written to.
pub fn stage(path: &Path, contents: &[u8], mode: u32) -> Result<Staged, Error> {
    let mut temporary = tempfile::Builder::new()
        .prefix(&temporary_prefix(path))
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(parent_of(path)?)
        .at("create a temporary file beside", path)?;
    temporary.write_all(contents).at("write", path)?;
    // The mode is set on the open file: the umask has no say, and no other path can be hit.
    temporary
        .as_file()
        .set_permissions(Permissions::from_mode(mode))
        .at("set the mode of", path)?;
    temporary.as_file().sync_all().at("sync", path)?;
    Ok(Staged {
        temporary: temporary.into_temp_path(),
        destination: path.to_owned(),
    })
}

/// Makes `path` a regular file with these contents and this mode, creating its directory (0755) where missing.
///
/// # Errors
/// When it can't be read, staged or renamed; the old file is then still there.
pub fn write(path: &Path, contents: &[u8], mode: u32) -> Result<Change, Error> {
    if is_already(path, contents, mode) {
        // It may have been renamed into place just before a kill: only now is it durable.
        sync_directory(parent_of(path)?)?;
        return Ok(Change::Unchanged);
    }
    create_directories(parent_of(path)?, 0o755)?;
    stage(path, contents, mode)?.commit()?;
    Ok(Change::Changed)
}

/// Removes the temporary files of `path` that killed writers left.
///
/// Only for who holds a lock that all writers of `path` take: a file that is staged now would go, too.
///
/// # Errors
/// When the directory can't be read, or one of them not removed.
pub fn sweep(path: &Path) -> Result<(), Error> {
    let (parent, prefix) = (parent_of(path)?, temporary_prefix(path));
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.at("list", parent)?,
    };
    for entry in entries {
        let entry = entry.at("list", parent)?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            fs::remove_file(entry.path()).at("remove", &entry.path())?;
        }
    }
    Ok(())
}

/// Makes `link` a symbolic link to `target` by one rename, so that it never is missing.
///
/// # Errors
/// When the link can't be made or renamed; the old one is then still there.
pub fn symlink(target: &Path, link: &Path) -> Result<Change, Error> {
    let parent = parent_of(link)?;
    if fs::read_link(link).is_ok_and(|present| present == target) {
        // As in `write`.
        sync_directory(parent)?;
        return Ok(Change::Unchanged);
    }
    create_directories(parent, 0o755)?;
    let temporary = tempfile::Builder::new()
        .prefix(&temporary_prefix(link))
        .make_in(parent, |path| make_symlink(target, path))
        .at("create a link beside", link)?;
    temporary
        .into_temp_path()
        .persist(link)
        .map_err(|error| error.error)
        .at("rename to", link)?;
    sync_directory(parent)?;
    Ok(Change::Changed)
}

/// Removes a file or link (never a directory) and makes that durable.
///
/// # Errors
/// When it is there and can't be removed.
pub fn remove(path: &Path) -> Result<Change, Error> {
    match fs::remove_file(path) {
        Ok(()) => {
            sync_directory(parent_of(path)?)?;
            Ok(Change::Changed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::Unchanged),
        Err(error) => Err(error).at("remove", path),
    }
}

/// Renames a directory to a name that must not exist yet, and syncs both parents.
///
/// # Errors
/// `EEXIST` when `to` exists; any error of `renameat2(2)`.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).at("rename to", to)?;
    sync_directory(parent_of(to)?)?;
    if parent_of(from)? != parent_of(to)? {
        sync_directory(parent_of(from)?)?;
    }
    Ok(())
}

/// Creates a directory and those above it with `mode`, each made durable. Existing ones are left as they are.
///
/// # Errors
/// When one can't be created.
pub fn create_directories(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path)?;
    create_directories(parent, mode)?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // A restrictive umask must not decide who can read a unit or a link.
            fs::set_permissions(path, Permissions::from_mode(mode)).at("set the mode of", path)?;
            sync_directory(parent)
        }
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error).at("create the directory", path),
    }
}

/// Reads a small regular file, never through a link.
///
/// # Errors
/// `None` when nothing is there; an error when it is a link, a device or unreadable.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match open_regular(path) {
        Ok(mut file) => {
            let mut contents = Vec::new();
            io::Read::read_to_end(&mut file, &mut contents).at("read", path)?;
            Ok(Some(contents))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at("open", path),
    }
}

/// Checks that entries can be made in a directory: by its owner and mode, and by its file system.
///
/// # Errors
/// What `access(2)` says: `EROFS` where it is mounted read-only.
pub fn writable(directory: &Path) -> Result<(), Error> {
    access(directory, AccessFlags::W_OK).at("write to", directory)
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// When it can't be opened or synced.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(path)
        .and_then(|directory| directory.sync_all())
        .at("sync the directory", path)
}

fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn is_already(path: &Path, contents: &[u8], mode: u32) -> bool {
    // Any doubt means "no": writing again is always right.
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_file() && metadata.mode() & 0o7777 == mode && metadata.uid() == nix::unistd::geteuid().as_raw()
    }) && matches!(read(path), Ok(Some(present)) if present == contents)
}

fn temporary_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.venvd-")
}

fn parent_of(path: &Path) -> Result<&Path, Error> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no directory"))
        .at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_is_idempotent_and_keeps_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/file");
        assert_eq!(write(&path, b"one", 0o440).unwrap(), Change::Changed);
        assert_eq!(write(&path, b"one", 0o440).unwrap(), Change::Unchanged);
        assert_eq!(write(&path, b"one", 0o644).unwrap(), Change::Changed);
        assert_eq!(write(&path, b"two", 0o644).unwrap(), Change::Changed);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn write_replaces_a_link_and_spares_its_target() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = directory.path().join("file");
        make_symlink(&victim, &path).unwrap();
        write(&path, b"ours", 0o644).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_dropped_stage_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let staged = stage(&path, b"new", 0o644).unwrap();
        let name = staged.path().file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with(".file."), "{name} would be read by sudo");
        drop(staged);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn sweeps_its_own_temporary_files_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        sweep(&path.join("in/no/directory")).unwrap();
        let others = [".file.swp", ".file.Ab12Cd", "file", "file.venvd-1", ".file2.venvd-1"];
        for other in others {
            fs::write(directory.path().join(other), "").unwrap();
        }
        // As a kill would leave it.
        let staged = stage(&path, b"new", 0o644).unwrap();
        sweep(&path).unwrap();
        assert!(!staged.path().exists());
        assert!(others.iter().all(|other| directory.path().join(other).exists()));
    }

    #[test]
    fn a_stage_takes_an_owner() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        stage(&path, b"new", 0o640)
            .unwrap()
            .owned_by(0, 12345)
            .unwrap()
            .commit()
            .unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
            (0, 12345, 0o640)
        );
    }

    #[test]
    fn symlink_flips_and_reports_change() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("links/app");
        assert_eq!(symlink(Path::new("/a"), &link).unwrap(), Change::Changed);
        assert_eq!(symlink(Path::new("/a"), &link).unwrap(), Change::Unchanged);
        assert_eq!(symlink(Path::new("/b"), &link).unwrap(), Change::Changed);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/b"));
    }

    #[test]
    fn rename_new_never_replaces() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let error = rename_new(&from, &to).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir(&to).unwrap();
        rename_new(&from, &to).unwrap();
        assert!(to.is_dir());
    }

    #[test]
    fn read_refuses_links() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        assert_eq!(read(&link).unwrap(), None);
        make_symlink("/etc/hostname", &link).unwrap();
        assert!(read(&link).is_err());
    }
}
