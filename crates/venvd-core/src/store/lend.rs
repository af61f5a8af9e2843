//! From an object to a new file of a venv.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Access, AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use venvd_fs::IoContext;

use super::{Object, Sharing, Spot, Store, dress, hash_into};
use crate::error::Error;
use crate::manifest;

/// How well an object is looked at before a venv gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Its content is hashed.
    Content,
    /// Size, mode, owner, and that nothing was written since it was sealed: its time. Finds what was written to it by
    /// any file of it, not what a disk did by itself. For content that was hashed just before, and for figures.
    Metadata,
}

/// What became of a wish for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lent {
    /// The new file shares it.
    Shared,
    /// The new file has its content, and is the object now: the old one has all links it can have.
    Successor,
    /// There is none.
    Missing,
    /// There is one, and it is not what it should be.
    Damaged,
}

impl Store {
    /// Returns how many bytes of these files the store does not have, rounded up to what a file system takes for them.
    pub(crate) fn missing(&self, files: &[manifest::File]) -> Result<u64, Error> {
        const BLOCK: u64 = 4096;
        let mut bytes = 0;
        for file in files {
            let there = match Object::of(file) {
                Some(object) if self.sharing != Sharing::None => {
                    rustix::fs::accessat(&self.directory, object.name(), Access::EXISTS, AtFlags::empty()).is_ok()
                }
                _ => false,
            };
            // An entry of a directory, and an inode where it keeps its own.
            bytes += if there {
                300
            } else {
                file.size.div_ceil(BLOCK) * BLOCK + 300
            };
        }
        Ok(bytes + bytes / 10)
    }

    /// Makes a new file that shares an object.
    ///
    /// # Errors
    /// When the object can't be read, or the file not be made; half a file may be there then.
    pub(crate) fn lend(&self, object: &Object<'_>, to: Spot<'_>, check: Check) -> Result<Lent, Error> {
        let name = object.name();
        let path = self.path.join(&name);
        let wanted = StatxFlags::BASIC_STATS;
        let status = match rustix::fs::statx(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Ok(Lent::Missing),
            Err(error) => return Err(error).at("look at", &path)?,
        };
        if !object.fits_status(&status) || (check == Check::Metadata && !super::untouched(&status)) {
            return Ok(Lent::Damaged);
        }
        if check == Check::Content && self.sound(object)?.is_none() {
            return Ok(Lent::Damaged);
        }
        match self.sharing {
            Sharing::Link if u64::from(status.stx_nlink) < self.max_links => {
                match rustix::fs::linkat(&self.directory, &name, to.directory, to.path, AtFlags::empty()) {
                    Ok(()) => return Ok(Lent::Shared),
                    // Somebody used up the last link meanwhile, or what is below 0700 here is another mount elsewhere.
                    Err(Errno::MLINK | Errno::XDEV) => {}
                    Err(error) => return Err(error).at("link", &path)?,
                }
            }
            Sharing::Link | Sharing::None => {}
            Sharing::Reflink => {
                self.reflink(object, to).at("reflink", &path)?;
                return Ok(Lent::Shared);
            }
        }
        if !self.copy_out(object, to)? {
            return Ok(Lent::Damaged);
        }
        if self.sharing == Sharing::Link {
            self.put(object, to)?;
        }
        Ok(Lent::Successor)
    }

    /// Copies a file's content into the store, instead of the object that is there; false when it is not the object's.
    pub(crate) fn admit(&self, object: &Object<'_>, file: &mut File) -> Result<bool, Error> {
        let path = self.path.join(object.name());
        self.make_directory(object)?;
        let temporary = self.temporary();
        let spot = Spot {
            directory: self.directory.as_fd(),
            path: &temporary,
        };
        let target = File::from(create(spot).at("create a copy for", &path)?);
        let found = hash_into(file, &mut &target).at("copy to", &path)?;
        if found.hash != object.hash {
            rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty()).at("remove a copy for", &path)?;
            return Ok(false);
        }
        rustix::fs::fchmod(&target, Mode::from_raw_mode(object.mode())).at("set the mode of", &path)?;
        rustix::fs::futimens(&target, &crate::seal::sealed_times()).at("set the time of", &path)?;
        target.sync_all().at("sync", &path)?;
        rustix::fs::renameat(&self.directory, &temporary, &self.directory, object.name()).at("rename to", &path)?;
        Ok(true)
    }

    fn open_object(&self, object: &Object<'_>) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, object.name(), flags, Mode::empty())
    }

    fn reflink(&self, object: &Object<'_>, to: Spot<'_>) -> rustix::io::Result<()> {
        let source = self.open_object(object)?;
        let target = create(to)?;
        rustix::fs::ioctl_ficlone(&target, &source)?;
        dress(&target, object, &source)
    }

    /// Copies an object; false when what was copied is not what its name says, and then nothing stays of it.
    fn copy_out(&self, object: &Object<'_>, to: Spot<'_>) -> Result<bool, Error> {
        let path = self.path.join(object.name());
        let source = self.open_object(object).at("open", &path)?;
        let target = File::from(create(to).at("create a copy of", &path)?);
        let mut source = File::from(source);
        let found = hash_into(&mut source, &mut &target).at("copy", &path)?;
        if found.hash != object.hash {
            rustix::fs::unlinkat(to.directory, to.path, AtFlags::empty()).at("remove a copy of", &path)?;
            return Ok(false);
        }
        dress(&target, object, &source).at("set mode and time of a copy of", &path)?;
        Ok(true)
    }
}

/// Makes a new file.
pub(crate) fn create(at: Spot<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at.directory, at.path, flags, Mode::from_raw_mode(0o600))
}
