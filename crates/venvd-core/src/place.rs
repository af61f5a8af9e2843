//! A venv in another place, made of what the host has already.
//!
//! All but the few files that name the venv's place is linked from the store, or copied from a source and hashed on the
//! way. The work is grouped by directory and done by all processors: making names is what it costs, and a directory is
//! locked while one is made in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use venvd_fs::IoContext;
use venvd_fs::beneath::Tree;

use crate::error::Error;
use crate::manifest::{self, Link, Manifest};
use crate::relocate::Moved;
use crate::seal::sealed_times;
use crate::store::{Check, Lent, Object, Spot, Store, create, hash_into};

/// What a venv is placed from.
#[derive(Debug, Clone, Copy)]
pub struct Material<'a> {
    /// What the host has already.
    pub store: &'a Store,
    /// How well the store's objects are looked at.
    pub check: Check,
    /// Where the rest is taken from. It is compared with the manifest.
    pub source: Option<&'a Tree>,
}

/// How a venv was placed.
#[derive(Debug, Default)]
pub struct Placed {
    /// Files that share their content with the store's objects.
    pub shared: u64,
    /// The bytes of these.
    pub shared_bytes: u64,
    /// Files that were copied from the source. The store does not have them yet: [`Store::share`].
    pub copied: Vec<manifest::File>,
    /// Objects that were found damaged, and not taken.
    pub damaged: u64,
}

impl Placed {
    fn and(mut self, mut other: Self) -> Self {
        self.shared += other.shared;
        self.shared_bytes += other.shared_bytes;
        self.damaged += other.damaged;
        self.copied.append(&mut other.copied);
        self
    }
}

/// Fills the existing, empty directory `tree` with the venv that `moved` describes, its manifest included.
///
/// Nothing is synced. Whoever takes objects of the store holds its lock, lest they are swept meanwhile.
///
/// # Errors
/// When something is in neither store nor source, or is not what the manifest says. What was made until then stays.
pub fn place(moved: &Moved, tree: &Path, material: &Material<'_>) -> Result<Placed, Error> {
    let placed = fill(moved, tree, material)?;
    write_manifest(tree, &moved.manifest)?;
    Ok(placed)
}

/// As [`place`], without the manifest.
pub(crate) fn fill(moved: &Moved, tree: &Path, material: &Material<'_>) -> Result<Placed, Error> {
    let groups = groups(&moved.manifest);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(tree, flags, Mode::empty()).at("open", tree)?;
    for path in groups.keys() {
        let path = Path::new(path);
        match rustix::fs::mkdirat(&directory, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            // The tree itself, and what a caller has put there.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at("create the directory", &tree.join(path))?,
        }
    }
    let work = Work {
        moved,
        tree,
        directory,
        material,
    };
    groups
        .into_par_iter()
        .map(|(path, group)| work.group(path, &group))
        .try_reduce(Placed::default, |one, other| Ok(one.and(other)))
}

/// What lies in one directory.
#[derive(Default)]
struct Group<'a> {
    files: Vec<&'a manifest::File>,
    links: Vec<&'a Link>,
}

/// Returns every directory with what lies in it, those above before those below. The tree itself is `.`.
fn groups(manifest: &Manifest) -> BTreeMap<&str, Group<'_>> {
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::from([(".", Group::default())]);
    for file in &manifest.files {
        group(&mut groups, &file.path).files.push(file);
    }
    for link in &manifest.links {
        group(&mut groups, &link.path).links.push(link);
    }
    groups
}

fn group<'g, 'a>(groups: &'g mut BTreeMap<&'a str, Group<'a>>, path: &'a str) -> &'g mut Group<'a> {
    let (directory, _) = split(path);
    // Files are sorted: most often it is there.
    if !groups.contains_key(directory) {
        let mut above = directory;
        while let Some((parent, _)) = above.rsplit_once('/') {
            groups.entry(parent).or_default();
            above = parent;
        }
    }
    groups.entry(directory).or_default()
}

/// Returns a path's directory and its name there.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

struct Work<'a> {
    moved: &'a Moved,
    tree: &'a Path,
    directory: OwnedFd,
    material: &'a Material<'a>,
}

impl Work<'_> {
    fn group(&self, path: &str, group: &Group<'_>) -> Result<Placed, Error> {
        let on_disk = self.tree.join(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, path, flags, Mode::empty()).at("open", &on_disk)?;
        let mut placed = Placed::default();
        for file in &group.files {
            self.file(file, directory.as_fd(), &mut placed)?;
        }
        for link in &group.links {
            let (_, name) = split(&link.path);
            rustix::fs::symlinkat(&link.target, &directory, name).at("create the link", &self.tree.join(&link.path))?;
            set_link_time(directory.as_fd(), name).at("set the time of", &self.tree.join(&link.path))?;
        }
        // The umask has no say; and nothing tells when it was made.
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755)).at("set the mode of", &on_disk)?;
        rustix::fs::futimens(&directory, &sealed_times()).at("set the time of", &on_disk)?;
        Ok(placed)
    }

    fn file(&self, file: &manifest::File, directory: BorrowedFd<'_>, placed: &mut Placed) -> Result<(), Error> {
        let (_, name) = split(&file.path);
        let spot = Spot { directory, path: name };
        if let Some(content) = self.moved.contents.get(&file.path) {
            let on_disk = self.tree.join(&file.path);
            return Ok(write(spot, content, file.mode).at("write", &on_disk)?);
        }
        if let Some(object) = Object::of(file) {
            match self.material.store.lend(&object, spot, self.material.check)? {
                Lent::Shared | Lent::Successor => {
                    placed.shared += 1;
                    placed.shared_bytes += file.size;
                    return Ok(());
                }
                Lent::Missing => {}
                Lent::Damaged => placed.damaged += 1,
            }
        }
        let source = self.material.source.ok_or_else(|| Error::NoContent {
            path: file.path.clone().into(),
        })?;
        copy(source, file, spot, self.tree)?;
        placed.copied.push(file.clone());
        Ok(())
    }
}

/// Copies a file of a source, and compares what it copies with what the manifest says.
pub(crate) fn copy(source: &Tree, file: &manifest::File, to: Spot<'_>, tree: &Path) -> Result<(), Error> {
    let on_disk = tree.join(&file.path);
    let other = || Error::Foreign {
        directory: source.path().to_owned(),
        reasons: vec![format!("{} is not what its manifest says", file.path)],
    };
    let mut from = source.file(Path::new(&file.path))?;
    // There is space for what the manifest says, not for what a file with holes pretends to have.
    if from.metadata().at("look at", &on_disk)?.len() != file.size {
        return Err(other());
    }
    let target = File::from(create(to).at("create", &on_disk)?);
    let found = hash_into(&mut from, &mut &target).at("copy", &on_disk)?;
    if found.hash != file.blake3 {
        return Err(other());
    }
    rustix::fs::fchmod(&target, Mode::from_raw_mode(file.mode)).at("set the mode of", &on_disk)?;
    rustix::fs::futimens(&target, &sealed_times()).at("set the time of", &on_disk)?;
    Ok(())
}

/// Writes a new file.
pub(crate) fn write(to: Spot<'_>, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut target = File::from(create(to)?);
    target.write_all(content)?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(mode))?;
    rustix::fs::futimens(&target, &sealed_times())?;
    Ok(())
}

pub(crate) fn set_link_time(directory: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    rustix::fs::utimensat(directory, name, &sealed_times(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
}

/// Writes the manifest into a tree that is still in staging.
pub(crate) fn write_manifest(tree: &Path, manifest: &Manifest) -> Result<(), Error> {
    let path = tree.join(manifest::PATH);
    let json = manifest.to_json().map_err(std::io::Error::from).at("write", &path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(tree, flags, Mode::empty()).at("open", tree)?;
    let (own, name) = split(manifest::PATH);
    let parent = tree.join(own);
    match rustix::fs::mkdirat(&top, own, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).at("create the directory", &parent)?,
    }
    let directory = rustix::fs::openat(&top, own, flags, Mode::empty()).at("open", &parent)?;
    let spot = Spot {
        directory: directory.as_fd(),
        path: name,
    };
    write(spot, &json, 0o644).at("write", &path)?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755)).at("set the mode of", &parent)?;
    for (directory, path) in [(&directory, parent.as_path()), (&top, tree)] {
        rustix::fs::futimens(directory, &sealed_times()).at("set the time of", path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
