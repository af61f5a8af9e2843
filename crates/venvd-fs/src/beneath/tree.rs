//! A tree that somebody else filled, read entry by entry.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Error, Kind, MAX_DEPTH, refused};
use crate::Root;
use crate::error::{Error as FsError, IoContext};

/// A directory that somebody else filled, and may still be changing. Nothing outside of it is ever reached.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    directory: OwnedFd,
}

/// Something in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the tree.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

impl Tree {
    /// Opens the directory at `path`, a path on disk. It may be reached through links, that is the caller's affair.
    ///
    /// # Errors
    /// When it is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            directory: rustix::fs::open(path, flags, Mode::empty()).at("open", path)?,
        })
    }

    /// Opens a directory of the host that must be reached through no link at all; `None` when it is not there.
    ///
    /// # Errors
    /// When there is a link on the way (`ELOOP`), or no directory.
    pub fn open_without_links(root: &Root, path: &Path) -> Result<Option<Self>, FsError> {
        let on_disk = root.join(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = root.join("/");
        let top = rustix::fs::open(&top, flags, Mode::empty()).at("open", &top)?;
        let below = Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&top, &below, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => Ok(None),
            directory => Ok(Some(Self {
                directory: directory.at("open without links", &on_disk)?,
                path: on_disk,
            })),
        }
    }

    /// Returns the directory, as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns everything in the tree, directories before what is in them.
    ///
    /// # Errors
    /// When a directory can't be listed, lies too deep or on another mount, or a name is not printable UTF-8.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        self.list(Path::new("."), 0, &mut entries)?;
        Ok(entries)
    }

    fn list(&self, relative: &Path, depth: usize, entries: &mut Vec<Entry>) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refused(relative, "lies too deep"));
        }
        let on_disk = self.path.join(relative);
        let directory = self
            .descend(relative, OFlags::RDONLY | OFlags::DIRECTORY)
            .at("open", &on_disk)?;
        for entry in Dir::read_from(&directory).at("list", &on_disk)? {
            let entry = entry.at("list", &on_disk)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let shown = relative.join(name.to_string_lossy().as_ref());
            let path = shown.strip_prefix(".").unwrap_or(&shown).to_owned();
            if !name.to_str().is_ok_and(|name| !name.chars().any(char::is_control)) {
                return Err(refused(&path, "has a name that is not printable UTF-8"));
            }
            let kind = match entry.file_type() {
                // Some file systems don't say: readdir(3).
                FileType::Unknown => {
                    let status = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
                    FileType::from_raw_mode(status.at("look at", &self.path.join(&path))?.st_mode)
                }
                kind => kind,
            };
            let kind = match kind {
                FileType::Directory => Kind::Directory,
                FileType::RegularFile => Kind::File,
                FileType::Symlink => Kind::Link,
                _ => Kind::Other,
            };
            let below = (kind == Kind::Directory).then(|| path.clone());
            entries.push(Entry { path, kind });
            if let Some(below) = below {
                self.list(&below, depth + 1, entries)?;
            }
        }
        Ok(())
    }

    /// Opens a directory of the tree; the empty path is the tree itself.
    ///
    /// # Errors
    /// When it is not there, is something else, or is reached through a link or another mount.
    pub fn directory(&self, relative: &Path) -> Result<OwnedFd, FsError> {
        let below = if relative == Path::new("") {
            Path::new(".")
        } else {
            relative
        };
        self.descend(below, OFlags::RDONLY | OFlags::DIRECTORY)
            .at("open", &self.path.join(relative))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// When it is not there, is something else, or is reached through a link or another mount.
    pub fn file(&self, relative: &Path) -> Result<File, Error> {
        let on_disk = self.path.join(relative);
        // NONBLOCK: opening a fifo would wait for a writer for ever.
        let file = self
            .descend(relative, OFlags::RDONLY | OFlags::NONBLOCK)
            .at("open", &on_disk)?;
        let file = File::from(file);
        if file.metadata().at("look at", &on_disk)?.is_file() {
            Ok(file)
        } else {
            Err(refused(relative, "is no regular file"))
        }
    }

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Tree::file`], or when it is larger.
    pub fn read(&self, relative: &Path, limit: u64) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        let mut file = self.file(relative)?.take(limit.saturating_add(1));
        file.read_to_end(&mut content).at("read", &self.path.join(relative))?;
        if content.len() as u64 > limit {
            return Err(refused(relative, "is larger than it may be"));
        }
        Ok(content)
    }

    /// Returns where a symbolic link leads, as it says itself.
    ///
    /// # Errors
    /// When it is none.
    pub fn link(&self, relative: &Path) -> Result<PathBuf, Error> {
        let on_disk = self.path.join(relative);
        let (parent, name) = (relative.parent().unwrap_or(Path::new("")), relative.file_name());
        let parent = if parent == Path::new("") {
            Path::new(".")
        } else {
            parent
        };
        let directory = self
            .descend(parent, OFlags::PATH | OFlags::DIRECTORY)
            .at("open", &on_disk)?;
        let target =
            rustix::fs::readlinkat(&directory, name.unwrap_or_default(), Vec::new()).at("read the link", &on_disk)?;
        Ok(PathBuf::from(
            <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target.as_bytes()),
        ))
    }

    fn descend(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = rustix::fs::openat2(
            self.directory.as_fd(),
            relative,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn reads_what_is_inside_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("tree/a/b")).unwrap();
        fs::write(at("outside"), "secret").unwrap();
        fs::write(at("tree/a/b/file"), "one").unwrap();
        symlink("../../outside", at("tree/a/link")).unwrap();
        symlink("/etc", at("tree/etc")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("tree/fifo"), Mode::from_raw_mode(0o600)).unwrap();

        let tree = Tree::open(&at("tree")).unwrap();
        let mut entries: Vec<(String, Kind)> = tree
            .entries()
            .unwrap()
            .into_iter()
            .map(|entry| (entry.path.display().to_string(), entry.kind))
            .collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("a", Kind::Directory),
            ("a/b", Kind::Directory),
            ("a/b/file", Kind::File),
            ("a/link", Kind::Link),
            ("etc", Kind::Link),
            ("fifo", Kind::Other),
        ];
        assert_eq!(entries, expected.map(|(path, kind)| (path.to_owned(), kind)));
        assert_eq!(tree.read(Path::new("a/b/file"), 3).unwrap(), b"one");
        assert!(tree.read(Path::new("a/b/file"), 2).is_err());
        assert_eq!(tree.link(Path::new("a/link")).unwrap(), Path::new("../../outside"));
        assert_eq!(tree.link(Path::new("etc")).unwrap(), Path::new("/etc"));
        for bad in [
            "a/link",
            "etc/hostname",
            "../outside",
            "/etc/hostname",
            "fifo",
            "a",
            "a/../../outside",
        ] {
            assert!(tree.file(Path::new(bad)).is_err(), "{bad}");
        }
        assert!(tree.link(Path::new("etc/mtab")).is_err());
    }

    #[test]
    fn names_that_confuse_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a\u{1b}b"), "").unwrap();
        let error = Tree::open(directory.path()).unwrap().entries().unwrap_err();
        assert!(error.to_string().contains("printable"), "{error}");
    }
}
