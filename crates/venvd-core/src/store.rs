//! The store: one copy of each content, whatever number of venvs has it.
//!
//! An object is a file whose name is the hash of its content, in a directory that only root can enter. Venvs share it by
//! reflink where the file system can (each file then has an inode of its own), else by hard link. A hard-linked file is
//! the object itself: who damages one damages all, so no object is shared before its content was hashed again, and a
//! damaged one is replaced by the good file that was to be shared.
//!
//! Every change is one `linkat(2)` or `rename(2)`. A crash leaves at most a temporary name, which [`Store::sweep`] removes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use venvd_app::Layout;
use venvd_fs::{IoContext, atomic};

use crate::error::Error;
use crate::manifest;
use crate::seal::SEALED_TIME;
use crate::verify::attributes;

mod lend;
mod share;
mod sweep;

pub use lend::Check;
pub(crate) use lend::{Lent, create};
pub use share::Shared;
pub use sweep::Swept;

/// What temporary names begin with; no object's name does.
const TEMPORARY: &str = ".new-";

/// How much of a file is hashed at once.
const CHUNK: usize = 1 << 17;

/// How venvs share an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The same blocks, and an inode for each: `ioctl_ficlone(2)`.
    Reflink,
    /// The same inode.
    Link,
    /// Not at all: the store lies on another file system than the venvs.
    None,
}

/// The objects of a host. Whoever changes it holds [`Layout::store_lock`].
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: OwnedFd,
    mount: (u32, u32, u64),
    sharing: Sharing,
    max_links: u64,
    names: AtomicU64,
}

impl Store {
    /// Opens the store, and makes it where there is none.
    ///
    /// # Errors
    /// When it can't be made, or somebody other than root could change it.
    pub fn open(layout: &Layout) -> Result<Self, Error> {
        let (path, venvs) = (layout.store(), layout.venvs());
        atomic::create_directories(&path, 0o700)?;
        atomic::create_directories(&venvs, 0o755)?;
        layout.trusted(&layout.root().on_host(&path))?;
        let metadata = std::fs::symlink_metadata(&path).at("look at", &path)?;
        if metadata.mode() & 0o077 != 0 {
            // A listing would tell anybody what exactly runs here.
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).at("set the mode of", &path)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty()).at("open", &path)?;
        let mount = mount(&path)?;
        let sharing = if self::mount(&venvs)? != mount {
            Sharing::None
        } else if can_reflink(&path)? {
            Sharing::Reflink
        } else {
            Sharing::Link
        };
        Ok(Self {
            path,
            directory,
            mount,
            sharing,
            max_links: u64::MAX,
            names: AtomicU64::new(0),
        })
    }

    /// Returns the store with a lower limit of links to one inode than the file system's own.
    #[must_use]
    pub fn with_max_links(mut self, max_links: u64) -> Self {
        self.max_links = max_links;
        self
    }

    /// Returns how venvs share its objects.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Returns the object's file if it is what it should be: root's regular file with this mode, size and content, and
    /// without capabilities and access lists.
    pub(crate) fn sound(&self, object: &Object<'_>) -> Result<Option<File>, Error> {
        let Some(mut file) = self.find(object)? else {
            return Ok(None);
        };
        let found = hash(&mut file).at("read", &self.path.join(object.name()))?;
        Ok((found.hash == object.hash).then_some(file))
    }

    /// Returns the object's file if all but its content is what it should be.
    pub(crate) fn find(&self, object: &Object<'_>) -> Result<Option<File>, Error> {
        let name = object.name();
        // NONBLOCK: nothing but regular files is put here, but opening must not wait in any case.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, &name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error).at("open", &self.path.join(&name))?,
        };
        let metadata = file.metadata().at("look at", &self.path.join(&name))?;
        // Capabilities and access lists are the inode's: a venv that got it would be born unsound.
        let fits = object.fits(&metadata) && !attributes::adds_rights(file.as_fd());
        Ok(fits.then_some(file))
    }

    /// Makes a file the object, instead of any that is there.
    pub(crate) fn put(&self, object: &Object<'_>, file: Spot<'_>) -> Result<(), Error> {
        let name = object.name();
        let path = self.path.join(&name);
        self.make_directory(object)?;
        let temporary = self.temporary();
        match self.sharing {
            Sharing::None => return Ok(()),
            Sharing::Link => {
                rustix::fs::linkat(file.directory, file.path, &self.directory, &temporary, AtFlags::empty())
                    .at("link to", &path)?
            }
            Sharing::Reflink => self.copy_in(object, file, &temporary).at("copy to", &path)?,
        }
        rustix::fs::renameat(&self.directory, &temporary, &self.directory, &name).at("rename to", &path)?;
        if self.sharing == Sharing::Link {
            // Where both names were the same inode already, rename(2) does nothing, and leaves the temporary one.
            match rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).at("remove", &self.path.join(&temporary))?,
            }
        }
        Ok(())
    }

    /// Makes a reflink of a file under a temporary name of the store.
    fn copy_in(&self, object: &Object<'_>, file: Spot<'_>, temporary: &str) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(file.directory, file.path, flags, Mode::empty())?;
        let target = self.create(temporary)?;
        rustix::fs::ioctl_ficlone(&target, &source)?;
        dress(&target, object, &source)
    }

    fn create(&self, name: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o600))
    }

    fn make_directory(&self, object: &Object<'_>) -> Result<(), Error> {
        let name = object.directory();
        match rustix::fs::mkdirat(&self.directory, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error).at("create the directory", &self.path.join(name))?,
        }
    }

    /// Returns a name that nothing has: this process holds the store's lock, and another's are swept.
    fn temporary(&self) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{TEMPORARY}{}-{number}", std::process::id())
    }
}

/// A file, by the directory it is below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) path: &'a str,
}

/// The name of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Object<'a> {
    hash: &'a str,
    size: u64,
    executable: bool,
}

impl<'a> Object<'a> {
    /// Returns the object of a file that may be shared: not what is written anew in each place.
    pub(crate) fn of(file: &'a manifest::File) -> Option<Self> {
        let executable = match file.mode {
            0o644 => false,
            0o755 => true,
            _ => return None,
        };
        let is_hash = file.blake3.len() == blake3::OUT_LEN * 2
            && file
                .blake3
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hash && !file.placed).then_some(Self {
            hash: &file.blake3,
            size: file.size,
            executable,
        })
    }

    fn directory(&self) -> &'a str {
        self.hash.split_at(2).0
    }

    fn name(&self) -> String {
        let (directory, rest) = self.hash.split_at(2);
        // Modes are the inode's: what is a program in one venv and none in another is two objects.
        let suffix = if self.executable { "-x" } else { "" };
        format!("{directory}/{rest}{suffix}")
    }

    fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }

    fn fits(&self, metadata: &std::fs::Metadata) -> bool {
        metadata.is_file()
            && metadata.mode() & 0o7777 == self.mode()
            && attributes::is_ours(metadata.uid(), metadata.gid())
            && metadata.len() == self.size
    }

    fn fits_status(&self, status: &rustix::fs::Statx) -> bool {
        let mode = u32::from(status.stx_mode);
        FileType::from_raw_mode(mode) == FileType::RegularFile
            && mode & 0o7777 == self.mode()
            && attributes::is_ours(status.stx_uid, status.stx_gid)
            && status.stx_size == self.size
    }
}

/// Returns whether nothing was written to a file since it was sealed.
fn untouched(status: &rustix::fs::Statx) -> bool {
    status.stx_mtime.tv_sec == SEALED_TIME && status.stx_mtime.tv_nsec == 0
}

/// Gives a new file the object's mode, and the time of what it was made from.
fn dress(target: impl AsFd, object: &Object<'_>, source: impl AsFd) -> rustix::io::Result<()> {
    let status = rustix::fs::fstat(source)?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(object.mode()))?;
    rustix::fs::futimens(target, &times_of(&status))
}

fn times_of(status: &rustix::fs::Stat) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec {
        tv_sec: status.st_mtime,
        tv_nsec: i64::try_from(status.st_mtime_nsec).unwrap_or(0),
    };
    rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) hash: String,
    pub(crate) size: u64,
}

/// Returns the hash of what is left to read of a file.
pub(crate) fn hash(file: &mut File) -> io::Result<Hashed> {
    hash_into(file, &mut io::sink())
}

/// Copies what is left to read of a file, and hashes what it copies.
pub(crate) fn hash_into(file: &mut File, to: &mut dyn Write) -> io::Result<Hashed> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(CHUNK);
    let mut hasher = blake3::Hasher::new();
    // One more than there is: the end is seen without another turn.
    let mut buffer = vec![0; CHUNK.min(length + 1)];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                let chunk = buffer.get(..length).unwrap_or_default();
                hasher.update(chunk);
                to.write_all(chunk)?;
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let hash = hasher.finalize().to_hex().to_string();
    Ok(Hashed { hash, size })
}

/// Returns device and mount: the same file system mounted twice is two, for `linkat(2)`.
fn mount(path: &Path) -> Result<(u32, u32, u64), Error> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let status = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), flags).at("look at", path)?;
    Ok((status.stx_dev_major, status.stx_dev_minor, status.stx_mnt_id))
}

/// Tries whether the file system has reflinks: nothing else tells it for sure.
fn can_reflink(directory: &Path) -> Result<bool, Error> {
    let file = || tempfile::tempfile_in(directory).at("create a file in", directory);
    let (mut source, target) = (file()?, file()?);
    source.write_all(&[0; 4096]).at("write a file in", directory)?;
    // Any error means no; hard links do.
    Ok(rustix::fs::ioctl_ficlone(&target, &source).is_ok())
}

#[cfg(test)]
mod tests;
