//! From files of its own to shared ones.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use venvd_fs::IoContext;

use super::{Object, Sharing, Spot, Store, times_of};
use crate::error::Error;
use crate::manifest;

/// What came of sharing a tree's files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// No: the store is on another file system than the venvs, so that nothing can be shared.
    pub apart: bool,
    /// Files that share their content now with what was there before.
    pub files: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// Objects that are new in the store.
    pub added: u64,
    /// Objects that were found damaged, and replaced. Venvs that share the damaged one need a repair.
    pub damaged: u64,
    /// Objects that had as many links as the file system allows, and got a successor.
    pub full: u64,
}

impl Shared {
    fn and(self, other: Self) -> Self {
        Self {
            apart: self.apart || other.apart,
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            added: self.added + other.added,
            damaged: self.damaged + other.damaged,
            full: self.full + other.full,
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.apart {
            return formatter.write_str("shares nothing with other venvs: the store is on another file system");
        }
        let Self { files, added, .. } = self;
        write!(
            formatter,
            "{files} files shared with other venvs ({} MiB), {added} new",
            self.bytes >> 20
        )?;
        if self.damaged > 0 {
            // The build is sound; whoever shares the damaged files is not.
            write!(
                formatter,
                "; {} damaged in the store, and replaced there: look for the venvs that have them with `venvctl verify`",
                self.damaged
            )?;
        }
        Ok(())
    }
}

impl Store {
    /// Lets the files of a tree share their content with the store's objects, and makes objects of what is new.
    ///
    /// The tree is still in staging, written by root alone, and its files have just been hashed: they are believed. No
    /// object is, before it has been hashed. The caller holds the store's lock, and syncs the file system afterwards.
    ///
    /// # Errors
    /// When a file can't be linked or an object not be read. The tree is whole then, but shared in part.
    pub fn share(&self, tree: &Path, files: &[manifest::File]) -> Result<Shared, Error> {
        if self.sharing == Sharing::None || super::mount(tree)? != self.mount {
            return Ok(Shared {
                apart: true,
                ..Shared::default()
            });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(tree, flags, Mode::empty()).at("open", tree)?;
        // Equal files of one tree together: two threads would both make the object.
        let mut groups: HashMap<Object<'_>, Vec<&str>> = HashMap::new();
        for file in files {
            if let Some(object) = Object::of(file) {
                groups.entry(object).or_default().push(&file.path);
            }
        }
        let groups: Vec<_> = groups.into_iter().collect();
        let work = Work {
            store: self,
            tree,
            directory,
        };
        groups
            .par_iter()
            .map(|(object, paths)| work.group(object, paths))
            .try_reduce(Shared::default, |one, other| Ok(one.and(other)))
    }
}

struct Work<'a> {
    store: &'a Store,
    tree: &'a Path,
    directory: OwnedFd,
}

impl Work<'_> {
    fn group(&self, object: &Object<'_>, paths: &[&str]) -> Result<Shared, Error> {
        let mut shared = Shared::default();
        let Some((first, others)) = paths.split_first() else {
            return Ok(shared);
        };
        if self.store.sound(object)?.is_some() {
            shared = shared.and(self.file(object, first)?);
        } else {
            let there = rustix::fs::statat(&self.store.directory, object.name(), AtFlags::SYMLINK_NOFOLLOW).is_ok();
            self.store.put(object, self.spot(first))?;
            shared.damaged += u64::from(there);
            shared.added += u64::from(!there);
        }
        for path in others {
            shared = shared.and(self.file(object, path)?);
        }
        Ok(shared)
    }

    fn spot<'a>(&'a self, path: &'a str) -> Spot<'a> {
        Spot {
            directory: self.directory.as_fd(),
            path,
        }
    }

    /// Lets one file share an object that is sound.
    fn file(&self, object: &Object<'_>, path: &str) -> Result<Shared, Error> {
        let one = Shared {
            files: 1,
            bytes: object.size,
            ..Shared::default()
        };
        match self.store.sharing {
            Sharing::None => Ok(Shared::default()),
            Sharing::Reflink => self.clone_to(object, path).map(|()| one),
            Sharing::Link => {
                if self.link_to(object, path)? {
                    return Ok(one);
                }
                self.store.put(object, self.spot(path))?;
                Ok(Shared {
                    full: 1,
                    ..Shared::default()
                })
            }
        }
    }

    /// Puts the object's blocks into the file, which keeps its inode.
    fn clone_to(&self, object: &Object<'_>, path: &str) -> Result<(), Error> {
        let on_disk = self.tree.join(path);
        let open = |directory: &OwnedFd, name: &str, flags: OFlags| {
            rustix::fs::openat(
                directory,
                name,
                flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let source = open(&self.store.directory, &object.name(), OFlags::RDONLY).at("open the object of", &on_disk)?;
        let target = open(&self.directory, path, OFlags::WRONLY).at("open", &on_disk)?;
        let status = rustix::fs::fstat(&target).at("look at", &on_disk)?;
        rustix::fs::ioctl_ficlone(&target, &source).at("reflink", &on_disk)?;
        rustix::fs::futimens(&target, &times_of(&status)).at("set the time of", &on_disk)?;
        Ok(())
    }

    /// Makes the file a link to the object; false when the object has as many links as it can have.
    fn link_to(&self, object: &Object<'_>, path: &str) -> Result<bool, Error> {
        let on_disk = self.tree.join(path);
        let name = object.name();
        let look = |directory: &OwnedFd, name: &str| {
            rustix::fs::statx(
                directory,
                name,
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::INO | StatxFlags::NLINK,
            )
        };
        let status = look(&self.store.directory, &name).at("look at the object of", &on_disk)?;
        if status.stx_ino == look(&self.directory, path).at("look at", &on_disk)?.stx_ino {
            return Ok(true);
        }
        if u64::from(status.stx_nlink) >= self.store.max_links {
            return Ok(false);
        }
        // At the tree's top: a crash leaves it in staging, which is removed as a whole.
        let temporary = self.store.temporary();
        match rustix::fs::linkat(
            &self.store.directory,
            &name,
            &self.directory,
            &temporary,
            AtFlags::empty(),
        ) {
            Ok(()) => {}
            Err(Errno::MLINK) => return Ok(false),
            Err(error) => return Err(error).at("link", &on_disk)?,
        }
        rustix::fs::renameat(&self.directory, &temporary, &self.directory, path).at("rename to", &on_disk)?;
        Ok(true)
    }
}
