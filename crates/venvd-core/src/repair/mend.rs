//! Putting single entries of a venv right, each by one rename.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use venvd_fs::IoContext;
use venvd_fs::beneath::Tree;

use super::supply::{Found, Supply};
use super::{Origin, parent_of};
use crate::error::Error;
use crate::manifest::{File, LOG, Manifest};
use crate::place::{set_link_time, split};
use crate::seal::sealed_times;
use crate::store::{Check, Lent, Object, Spot, Store, create, hash, hash_into};
use crate::verify::attributes;

/// What temporary names begin with. One that a crash leaves is an extra file, which the next repair removes.
const TEMPORARY: &str = ".venvd-repair";

/// Access lists: acl(5). A capability is only on files, and those get a new inode.
const ACCESS_LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Puts entries of one venv right. Its user holds the store's lock.
pub(super) struct Mender<'a> {
    pub(super) store: &'a Store,
    pub(super) tree: &'a Tree,
    pub(super) manifest: &'a Manifest,
}

impl Mender<'_> {
    /// Makes directories what they should be, those above first, so that nobody else can change what is done below.
    pub(super) fn directories(&self, paths: &BTreeSet<&str>) -> Result<(), Error> {
        for path in paths {
            let path = if *path == "." { "" } else { *path };
            let directory = self.directory(Path::new(path))?;
            let on_disk = self.tree.path().join(path);
            give_to_us(&directory, &on_disk)?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755)).at("set the mode of", &on_disk)?;
            self.set_time(&directory, &on_disk)?;
        }
        Ok(())
    }

    /// Gives venvd's own files back to root; what lies in the log's place and is no file is removed.
    pub(super) fn own(&self, path: &str) -> Result<(), Error> {
        let on_disk = self.tree.path().join(path);
        let (file, mode) = match self.tree.file(Path::new(path)) {
            Ok(file) => (file, if path == LOG { 0o600 } else { 0o644 }),
            Err(_) if path == LOG => return self.remove(path),
            Err(error) => return Err(error.into()),
        };
        give_to_us(&file, &on_disk)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at("set the mode of", &on_disk)?;
        Ok(())
    }

    /// Removes what does not belong to the venv.
    pub(super) fn remove(&self, path: &str) -> Result<(), Error> {
        let on_disk = self.tree.path().join(path);
        let (_, name) = split(path);
        let directory = self.directory(&parent_of(path))?;
        clear(&directory, name, &on_disk)?;
        self.set_time(&directory, &self.tree.path().join(parent_of(path)))
    }

    /// Makes a link lead where it should.
    pub(super) fn link(&self, path: &str) -> Result<(), Error> {
        let on_disk = self.tree.path().join(path);
        let Some(link) = self.manifest.links.iter().find(|link| link.path == path) else {
            return Ok(());
        };
        let directory = self.directory(&parent_of(path))?;
        clear(&directory, TEMPORARY, &on_disk)?;
        rustix::fs::symlinkat(&link.target, &directory, TEMPORARY).at("create the link", &on_disk)?;
        set_link_time(directory.as_fd(), TEMPORARY).at("set the time of", &on_disk)?;
        self.put(&directory, path)
    }

    /// Gives a file its right content, and says where that came from.
    pub(super) fn file(&self, file: &File, supply: &Supply) -> Result<Origin, Error> {
        let on_disk = self.tree.path().join(&file.path);
        let Some(object) = Object::of(file) else {
            let (found, origin) = supply.find(file).ok_or_else(|| no_content(file))?;
            self.write(file, found)?;
            return Ok(origin);
        };
        let mut from = Origin::Store;
        if self.store.sound(&object)?.is_none() {
            let (found, origin) = supply.find(file).ok_or_else(|| no_content(file))?;
            from = origin;
            let good = match found {
                Found::File(mut opened) => self.store.admit(&object, &mut opened)?,
                Found::Bytes(bytes) => {
                    let mut copy = tempfile::tempfile_in(self.tree.path()).at("create a copy of", &on_disk)?;
                    copy.write_all(bytes).at("write a copy of", &on_disk)?;
                    std::io::Seek::rewind(&mut copy).at("write a copy of", &on_disk)?;
                    self.store.admit(&object, &mut copy)?
                }
            };
            if !good {
                return Err(no_content(file));
            }
        }
        self.share(file)?;
        Ok(from)
    }

    /// Lets a file share the store's object.
    pub(super) fn share(&self, file: &File) -> Result<(), Error> {
        let object = Object::of(file).ok_or_else(|| no_content(file))?;
        let directory = self.directory(&parent_of(&file.path))?;
        clear(&directory, TEMPORARY, &self.tree.path().join(&file.path))?;
        let spot = Spot {
            directory: directory.as_fd(),
            path: TEMPORARY,
        };
        match self.store.lend(&object, spot, Check::Content)? {
            Lent::Shared | Lent::Successor => self.put(&directory, &file.path),
            Lent::Missing | Lent::Damaged => Err(no_content(file)),
        }
    }

    /// Returns whether a file is what its manifest says.
    pub(super) fn is_sound(&self, file: &File) -> bool {
        // What can't be opened is not.
        self.tree.file(Path::new(&file.path)).is_ok_and(|mut opened| {
            let metadata = opened.metadata().is_ok_and(|metadata| {
                metadata.mode() & 0o7777 == file.mode && attributes::is_ours(metadata.uid(), metadata.gid())
            });
            metadata
                && !attributes::adds_rights(opened.as_fd())
                && hash(&mut opened).is_ok_and(|found| found.hash == file.blake3)
        })
    }

    /// Makes everything durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let directory = self.tree.directory(Path::new(""))?;
        rustix::fs::syncfs(&directory).at("sync the file system of", self.tree.path())?;
        Ok(())
    }

    fn write(&self, file: &File, found: Found<'_>) -> Result<(), Error> {
        let on_disk = self.tree.path().join(&file.path);
        let directory = self.directory(&parent_of(&file.path))?;
        clear(&directory, TEMPORARY, &on_disk)?;
        let spot = Spot {
            directory: directory.as_fd(),
            path: TEMPORARY,
        };
        let mut target = fs::File::from(create(spot).at("create a copy of", &on_disk)?);
        let right = match found {
            Found::Bytes(bytes) => {
                target.write_all(bytes).at("write", &on_disk)?;
                true
            }
            Found::File(mut opened) => hash_into(&mut opened, &mut target).at("write", &on_disk)?.hash == file.blake3,
        };
        if !right {
            clear(&directory, TEMPORARY, &on_disk)?;
            return Err(no_content(file));
        }
        rustix::fs::fchmod(&target, Mode::from_raw_mode(file.mode)).at("set the mode of", &on_disk)?;
        rustix::fs::futimens(&target, &sealed_times()).at("set the time of", &on_disk)?;
        target.sync_all().at("sync", &on_disk)?;
        self.put(&directory, &file.path)
    }

    /// Renames what lies under the temporary name to its own.
    fn put(&self, directory: &OwnedFd, path: &str) -> Result<(), Error> {
        let on_disk = self.tree.path().join(path);
        let (_, name) = split(path);
        match rustix::fs::renameat(directory, TEMPORARY, directory, name) {
            // A directory lies where a file belongs.
            Err(Errno::ISDIR) => {
                clear(directory, name, &on_disk)?;
                rustix::fs::renameat(directory, TEMPORARY, directory, name).at("rename to", &on_disk)?;
            }
            other => other.at("rename to", &on_disk)?,
        }
        // Both names may have been the same inode; then rename(2) does nothing.
        clear(directory, TEMPORARY, &on_disk)?;
        self.set_time(directory, &self.tree.path().join(parent_of(path)))
    }

    /// Opens a directory of the venv, and makes it where it is not, or is something else.
    fn directory(&self, path: &Path) -> Result<OwnedFd, Error> {
        if let Ok(directory) = self.tree.directory(path) {
            return Ok(directory);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Ok(self.tree.directory(path)?);
        };
        let on_disk = self.tree.path().join(path);
        let above = self.directory(parent)?;
        clear(&above, name, &on_disk)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)).at("create the directory", &on_disk)?;
        let made = self.tree.directory(path)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).at("set the mode of", &on_disk)?;
        self.set_time(&above, &self.tree.path().join(parent))?;
        Ok(made)
    }

    fn set_time(&self, directory: &OwnedFd, on_disk: &Path) -> Result<(), Error> {
        Ok(rustix::fs::futimens(directory, &sealed_times()).at("set the time of", on_disk)?)
    }
}

/// Takes a file or directory from whoever else it belongs to or is open to.
fn give_to_us(file: impl AsFd, on_disk: &Path) -> Result<(), Error> {
    let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1)).at("set the owner of", on_disk)?;
    for list in ACCESS_LISTS {
        match rustix::fs::fremovexattr(&file, list) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error).at("remove the access list of", on_disk)?,
        }
    }
    Ok(())
}

/// Removes whatever lies under a name; nothing is fine.
fn clear(directory: &OwnedFd, name: &str, on_disk: &Path) -> Result<(), Error> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let path = on_disk.with_file_name(name);
            // It follows no link, and the directories above are root's alone by now.
            Ok(fs::remove_dir_all(&path).at("remove", &path)?)
        }
        Err(error) => Err(error).at("remove", &on_disk.with_file_name(name))?,
    }
}

fn no_content(file: &File) -> Error {
    Error::NoContent {
        path: file.path.clone().into(),
    }
}
