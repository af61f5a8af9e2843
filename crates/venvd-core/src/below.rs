//! Reading a tree that somebody may have tampered with: no step leaves it, follows a link or crosses a mount.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// An open tree.
#[derive(Debug)]
pub(crate) struct Below(OwnedFd);

impl Below {
    /// Opens the tree in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(directory, flags, Mode::empty()).map(Self)
    }

    /// Opens what lies at a path of the tree, for reading; an empty path is the tree itself.
    pub(crate) fn get(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        // NONBLOCK: a fifo must not make us wait for a writer.
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), RESOLVE | ResolveFlags::NO_SYMLINKS)
    }

    /// Opens the symbolic link itself that lies at a path of the tree: `readlinkat(2)` with an empty path reads it.
    pub(crate) fn link(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.get(directory, OFlags::DIRECTORY)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&directory, name, flags, Mode::empty(), RESOLVE)
    }

    /// Reads at most so many bytes of the regular file at a path of the tree.
    pub(crate) fn read(&self, path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
        let file = std::fs::File::from(self.get(path, OFlags::empty())?);
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let mut content = Vec::new();
        file.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }
}

/// Within the tree, on its mount: `openat2(2)`.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

impl AsFd for Below {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
