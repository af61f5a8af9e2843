//! Trees that somebody else filled: nothing outside them is ever reached, and nothing of them is kept but bytes.
//!
//! Whoever filled the tree may have left links, devices, files with other names somewhere else, or names that confuse.
//! So every step down is an `openat2(2)` that can't leave the directory, follows no link and crosses no mount, and what
//! comes out are new files with an owner and a mode of our own.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Error as FsError, IoContext};

mod tree;

pub use tree::{Entry, Tree};

/// Deeper than any package goes; each level holds two descriptors open.
const MAX_DEPTH: usize = 100;

/// Why a tree was not copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] FsError),
    /// There is something in it that a tree of plain files does not have.
    #[error("{path:?} {what}; only plain files and directories are copied")]
    Refused {
        /// Relative to the tree.
        path: PathBuf,
        /// What is wrong with it, as it reads after its name.
        what: &'static str,
    },
}

/// What an entry of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// Anything else: a device, a fifo, a socket.
    Other,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Copy it; links and the like are refused.
    Copy,
    /// Leave it out, with all below it.
    Skip,
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Copies the tree `from` into the existing directory `to`, file by file into new inodes.
///
/// `choose` is asked about every entry, by its path relative to the tree. Directories get mode 0755, files 0755 or 0644
/// by their owner's execute bit; all belong to this process's user. Directories with nothing in them are left out.
/// Whoever filled the tree must have ended: bytes that change during the copy are copied as they come.
///
/// # Errors
/// When something is no plain file or directory, has another name elsewhere (`nlink`), is setuid or setgid, lies on another
/// mount, or has a name that is not printable UTF-8. What was copied until then stays in `to`.
pub fn copy_tree(from: &Path, to: &Path, choose: &mut dyn FnMut(&Path, Kind) -> Choice) -> Result<Copied, Error> {
    copy_tree_and_tell(from, to, choose, &mut |_| {})
}

/// As [`copy_tree`], and tells after each file how much was copied.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_tree_and_tell(
    from: &Path,
    to: &Path,
    choose: &mut dyn FnMut(&Path, Kind) -> Choice,
    tell: &mut dyn FnMut(Copied),
) -> Result<Copied, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).at("open", path);
    let mut copy = Copy {
        choose,
        tell,
        copied: Copied::default(),
    };
    let (source, target) = (open(from)?, open(to)?);
    let pair = Pair {
        source,
        target,
        depth: 0,
    };
    match copy.directory(&pair, Path::new("")) {
        Ok(_) => Ok(copy.copied),
        // A path in the tree says nothing to whoever does not know the tree.
        Err(Error::Io(error)) => Err(Error::Io(FsError {
            path: to.join(error.path),
            ..error
        })),
        Err(refused) => Err(refused),
    }
}

/// The same directory on both sides.
struct Pair {
    source: OwnedFd,
    target: OwnedFd,
    depth: usize,
}

struct Copy<'a> {
    choose: &'a mut dyn FnMut(&Path, Kind) -> Choice,
    tell: &'a mut dyn FnMut(Copied),
    copied: Copied,
}

impl Copy<'_> {
    /// Copies what is in a directory; returns whether anything was.
    fn directory(&mut self, pair: &Pair, relative: &Path) -> Result<bool, Error> {
        if pair.depth > MAX_DEPTH {
            return Err(refused(relative, "lies too deep"));
        }
        let mut any = false;
        for name in names(pair.source.as_fd(), relative)? {
            let path = relative.join(&name);
            let status =
                rustix::fs::statat(&pair.source, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).at("look at", &path)?;
            let kind = match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory => Kind::Directory,
                FileType::RegularFile => Kind::File,
                FileType::Symlink => Kind::Link,
                _ => Kind::Other,
            };
            if (self.choose)(&path, kind) == Choice::Skip {
                continue;
            }
            any |= match kind {
                Kind::Directory => self.subdirectory(pair, &name, &path)?,
                Kind::File => self.file(pair, &name, &path)?,
                Kind::Link => return Err(refused(&path, "is a symbolic link")),
                Kind::Other => return Err(refused(&path, "is a device, fifo or socket")),
            };
        }
        Ok(any)
    }

    fn subdirectory(&mut self, above: &Pair, name: &str, path: &Path) -> Result<bool, Error> {
        let source = descend(above.source.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY).at("open", path)?;
        rustix::fs::mkdirat(&above.target, name, Mode::from_raw_mode(0o700)).at("create", path)?;
        let target = descend(above.target.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY).at("open", path)?;
        let depth = above.depth + 1;
        let pair = Pair { source, target, depth };
        let any = self.directory(&pair, path)?;
        if any {
            rustix::fs::fchmod(&pair.target, Mode::from_raw_mode(0o755)).at("set the mode of", path)?;
        } else {
            rustix::fs::unlinkat(&above.target, name, AtFlags::REMOVEDIR).at("remove", path)?;
        }
        Ok(any)
    }

    fn file(&mut self, pair: &Pair, name: &str, path: &Path) -> Result<bool, Error> {
        // NONBLOCK: should it have become a fifo meanwhile, this would wait for a writer for ever.
        let source = descend(pair.source.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK).at("open", path)?;
        let status = rustix::fs::fstat(&source).at("look at", path)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(refused(path, "is no regular file any more"));
        }
        if status.st_nlink != 1 {
            return Err(refused(path, "is a hard link to a file that may be elsewhere"));
        }
        if status.st_mode & 0o6000 != 0 {
            return Err(refused(path, "is setuid or setgid"));
        }
        let mode = if status.st_mode & 0o100 == 0 { 0o644 } else { 0o755 };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(&pair.target, name, flags, Mode::from_raw_mode(0o600)).at("create", path)?;
        let mut target = File::from(target);
        self.copied.bytes += io::copy(&mut File::from(source), &mut target).at("copy", path)?;
        self.copied.files += 1;
        (self.tell)(self.copied);
        // On the open file: the umask has no say.
        rustix::fs::fchmod(&target, Mode::from_raw_mode(mode)).at("set the mode of", path)?;
        Ok(true)
    }
}

fn descend(directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(directory, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Reads a small regular file of a directory in which anybody may have put anything. Links are followed as long as they
/// stay inside, and on its file system; nothing is waited for.
///
/// # Errors
/// When it is not there, lies elsewhere, is no regular file, or has more than `limit` bytes.
pub fn read_inside(directory: &Path, relative: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = rustix::fs::openat2(&directory, relative, flags | OFlags::NONBLOCK, Mode::empty(), resolve)?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Returns the names in a directory, sorted, so that every run goes the same way.
fn names(directory: BorrowedFd<'_>, relative: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).at("list", relative)? {
        let entry = entry.at("list", relative)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match name.to_str() {
            Ok(name) if !name.chars().any(char::is_control) => names.push(name.to_owned()),
            _ => {
                let shown = relative.join(name.to_string_lossy().as_ref());
                return Err(refused(&shown, "has a name that is not printable UTF-8"));
            }
        }
    }
    names.sort();
    Ok(names)
}

fn refused(path: &Path, what: &'static str) -> Error {
    Error::Refused {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn copy(from: &Path) -> (tempfile::TempDir, Result<Copied, Error>) {
        let to = tempfile::tempdir().unwrap();
        let result = copy_tree(from, to.path(), &mut |path, _| {
            if path.ends_with("skipped") {
                Choice::Skip
            } else {
                Choice::Copy
            }
        });
        (to, result)
    }

    #[test]
    fn copies_bytes_into_new_inodes_with_modes_of_its_own() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::create_dir_all(from.path().join("empty/er")).unwrap();
        fs::write(from.path().join("a/b/file"), "one").unwrap();
        fs::write(from.path().join("a/program"), "two").unwrap();
        symlink("/etc", from.path().join("skipped")).unwrap();
        for (path, mode) in [("a/b/file", 0o666), ("a/program", 0o777), ("a", 0o777)] {
            fs::set_permissions(from.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let (to, result) = copy(from.path());
        assert_eq!(result.unwrap(), Copied { files: 2, bytes: 6 });
        assert_eq!(fs::read(to.path().join("a/b/file")).unwrap(), b"one");
        let mode = |path: &str| fs::metadata(to.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a"), mode("a/b/file"), mode("a/program")), (0o755, 0o644, 0o755));
        let inode = |base: &tempfile::TempDir| fs::metadata(base.path().join("a/b/file")).unwrap().ino();
        assert_ne!(inode(&from), inode(&to));
        assert!(!to.path().join("empty").exists() && !to.path().join("skipped").exists());
    }

    #[test]
    fn refuses_all_that_is_no_plain_file() {
        type Plant = fn(&Path);
        let cases: [(&str, Plant); 7] = [
            ("symbolic link", |dir| symlink("/etc/shadow", dir.join("x")).unwrap()),
            ("symbolic link", |dir| symlink("/etc", dir.join("x")).unwrap()),
            ("hard link", |dir| {
                fs::write(dir.join("x"), "").unwrap();
                fs::hard_link(dir.join("x"), dir.join("y")).unwrap();
            }),
            ("fifo", |dir| {
                nix::unistd::mkfifo(&dir.join("x"), nix::sys::stat::Mode::S_IRWXU).unwrap()
            }),
            ("setuid", |dir| {
                fs::write(dir.join("x"), "").unwrap();
                fs::set_permissions(dir.join("x"), fs::Permissions::from_mode(0o4755)).unwrap();
            }),
            ("printable", |dir| fs::write(dir.join("x\ny"), "").unwrap()),
            ("printable", |dir| {
                fs::write(dir.join(OsStr::from_bytes(b"x\xff")), "").unwrap()
            }),
        ];
        for (what, plant) in cases {
            let from = tempfile::tempdir().unwrap();
            fs::create_dir(from.path().join("sub")).unwrap();
            plant(&from.path().join("sub"));
            let error = copy(from.path()).1.unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn refuses_a_link_as_the_tree_itself() {
        let from = tempfile::tempdir().unwrap();
        symlink("/etc", from.path().join("tree")).unwrap();
        assert!(matches!(copy(&from.path().join("tree")).1, Err(Error::Io(_))));
    }

    #[test]
    fn reads_small_files_that_lie_inside() {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join("etc").join(name);
        fs::create_dir_all(at("sub")).unwrap();
        fs::write(tree.path().join("outside"), "no").unwrap();
        fs::write(at("sub/file"), "four").unwrap();
        symlink("sub/file", at("link")).unwrap();
        symlink("../outside", at("up")).unwrap();
        symlink("/proc/kmsg", at("kmsg")).unwrap();
        symlink("loop", at("loop")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let read = |name: &str, limit| read_inside(&tree.path().join("etc"), Path::new(name), limit);
        assert_eq!(read("sub/file", 4).unwrap(), b"four");
        assert_eq!(read("link", 4).unwrap(), b"four");
        for (name, limit) in [
            ("sub/file", 3),
            ("up", 9),
            ("kmsg", 9),
            ("loop", 9),
            ("pipe", 9),
            ("sub", 9),
            ("none", 9),
        ] {
            assert!(read(name, limit).is_err(), "{name}");
        }
    }
}
