//! Which file is a unit's: systemd's search path, aliases, linked units, templates and masks.
//!
//! Follows `unit_file_build_name_map()` and `unit_file_find_fragment()` of systemd's `unit-file.c`. The generators'
//! directories are left out: when a generator runs they have just been emptied, and the others are filling them.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::chase::{Last, below, chase};
use crate::contents;
use crate::name::{self, UnitId};

/// The directories of system units, highest priority first (systemd.unit(5); `lookup_paths_init()`).
///
/// `/lib` is there for systems where it is not a link to `/usr/lib`; elsewhere it adds nothing.
pub const SYSTEM_DIRECTORIES: [&str; 10] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// In front of which of them those of generators come.
const GENERATED: [(&str, &str); 2] = [
    ("/etc/systemd/system", "/run/systemd/generator.early"),
    ("/usr/local/lib/systemd/system", "/run/systemd/generator"),
];

/// And the one that comes last.
const GENERATED_LATE: &str = "/run/systemd/generator.late";

/// As many aliases of aliases as systemd follows (`FOLLOW_MAX`).
const FOLLOW_MAX: usize = 8;

/// The unit types that may have aliases (`unit_type_may_alias()`).
const ALIAS_TYPES: [&str; 6] = ["service", "socket", "target", "device", "timer", "path"];

/// A directory or link that could not be read; systemd goes on without it, and so do we.
#[derive(Debug, thiserror::Error)]
#[error("can't read {path}: {source}", path = path.display())]
pub struct Unreadable {
    /// The path on the host.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What a name in the search path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Another name in the search path.
    Alias(UnitId),
    /// A file: its path on the host, perhaps a link to outside of the search path.
    File(PathBuf),
}

/// A unit's file and all of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file, as the host names it; links in it are not resolved.
    pub fragment: Option<PathBuf>,
    /// The name that was asked for and every alias. Drop-ins of all of them count.
    pub names: BTreeSet<UnitId>,
    /// The name under which systemd lists the unit: that of its file.
    pub id: UnitId,
}

/// Returns [`SYSTEM_DIRECTORIES`] with those of generators, for a system whose generators have run.
#[must_use]
pub fn directories_with_generated() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for directory in SYSTEM_DIRECTORIES {
        let before = GENERATED.iter().filter(|(other, _)| *other == directory);
        directories.extend(before.map(|(_, generated)| PathBuf::from(generated)));
        directories.push(PathBuf::from(directory));
    }
    directories.push(PathBuf::from(GENERATED_LATE));
    directories
}

/// An index of all unit files below a root.
#[derive(Debug)]
pub struct UnitFiles {
    root: PathBuf,
    directories: Vec<PathBuf>,
    /// Where each of them is on disk, its links resolved: most files are looked for by their directory's.
    on_disk: HashMap<PathBuf, PathBuf>,
    targets: HashMap<UnitId, Target>,
    /// For the names that aliases end at: those aliases.
    aliases: HashMap<UnitId, Vec<UnitId>>,
    /// For templates: the instances that have something of their own.
    instances: HashMap<UnitId, BTreeSet<UnitId>>,
    /// For what a drop-in directory is called, without the `.d` of `a.service.d`: in which of the directories there is one, as indices.
    dropin_directories: HashMap<String, Vec<usize>>,
    unreadable: Vec<Unreadable>,
}

impl UnitFiles {
    /// Reads the directories of system units below `root`.
    #[must_use]
    pub fn scan(root: &Path) -> Self {
        Self::scan_directories(root, &SYSTEM_DIRECTORIES.map(PathBuf::from))
    }

    /// Reads `directories`, paths on the host, highest priority first, below `root`.
    #[must_use]
    pub fn scan_directories(root: &Path, directories: &[PathBuf]) -> Self {
        let mut files = Self {
            root: root.to_owned(),
            directories: directories.to_vec(),
            on_disk: HashMap::new(),
            targets: HashMap::new(),
            aliases: HashMap::new(),
            instances: HashMap::new(),
            dropin_directories: HashMap::new(),
            unreadable: Vec::new(),
        };
        let inside = files.resolve_directories();
        for (index, directory) in directories.iter().enumerate() {
            if let Err(source) = files.read_directory((index, directory), &inside)
                && source.kind() != io::ErrorKind::NotFound
            {
                files.unreadable.push(Unreadable {
                    path: directory.clone(),
                    source,
                });
            }
        }
        files.index_aliases();
        files.index_instances();
        files
    }

    /// Returns the root that all paths of the host are read below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what could not be read.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Returns the directories of the search path, as the host names them.
    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Returns in which of [`Self::directories`] there is a drop-in directory `name.d`, as indices in order.
    pub(crate) fn dropin_directories(&self, name: &str) -> &[usize] {
        self.dropin_directories.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns where a file of one of the directories is on disk, unless it is a link itself.
    pub(crate) fn on_disk(&self, path: &Path) -> Option<PathBuf> {
        Some(self.on_disk.get(path.parent()?)?.join(path.file_name()?))
    }

    /// Finds the file and the names of a unit.
    ///
    /// An instance without a file of its own has its template's.
    #[must_use]
    pub fn find(&self, name: &UnitId) -> Found {
        let mut names = self.names_of(name, name, None);
        let template = name.template();
        let fragment = self
            .resolve(name)
            .or_else(|| template.as_ref().and_then(|template| self.resolve(template)));
        let own = fragment.and_then(file_id);
        if let Some(own) = own.as_ref().filter(|own| *own != name) {
            names.extend(self.names_of(own, name, fragment));
        }
        let id = match (own, name.instance()) {
            (Some(own), Some(instance)) if own.is_template() => own.with_instance(instance),
            (own, _) => own,
        };
        // With an instance's own file elsewhere, it is an alias here and not the name (`merge_by_names()`).
        let file_name = id.unwrap_or_else(|| name.clone());
        let id = if file_name != *name && self.leads_elsewhere(&file_name, fragment) {
            name.clone()
        } else {
            file_name.clone()
        };
        names.insert(file_name);
        names.retain(|each| !each.is_template() || name.is_template());
        Found {
            fragment: fragment.map(Path::to_owned),
            names,
            id,
        }
    }

    /// Returns the file that a name stands for by itself, not through its template.
    #[must_use]
    pub fn own_file(&self, name: &UnitId) -> Option<&Path> {
        self.resolve(name)
    }

    /// Returns the instances of a template that have a file, a link or a drop-in directory of their own.
    ///
    /// Others may run all the same; those are what the template says and nothing else.
    #[must_use]
    pub fn instances(&self, template: &UnitId) -> BTreeSet<UnitId> {
        self.instances.get(template).cloned().unwrap_or_default()
    }

    /// `add_names()`: `of` itself and its aliases, for the unit `name`.
    fn names_of(&self, of: &UnitId, name: &UnitId, fragment: Option<&Path>) -> BTreeSet<UnitId> {
        let mut names = BTreeSet::from([of.clone()]);
        for alias in self.aliases.get(of).into_iter().flatten() {
            let Some(instance) = name.instance().filter(|_| alias.is_template()) else {
                names.insert(alias.clone());
                continue;
            };
            let Some(alias) = alias.with_instance(instance) else {
                continue;
            };
            if !self.leads_elsewhere(&alias, fragment) {
                names.insert(alias);
            }
        }
        names
    }

    /// Returns whether a name has another file than `fragment`: an instance may have been pointed elsewhere.
    fn leads_elsewhere(&self, name: &UnitId, fragment: Option<&Path>) -> bool {
        fragment.is_some_and(|fragment| {
            self.resolve(name)
                .is_some_and(|other| other.file_name() != fragment.file_name())
        })
    }

    /// `unit_ids_map_get()`: follows aliases to a file.
    fn resolve(&self, name: &UnitId) -> Option<&Path> {
        let mut target = self.targets.get(name)?;
        for _ in 0..FOLLOW_MAX {
            let next = match target {
                Target::File(path) => return Some(path),
                Target::Alias(next) => next,
            };
            target = self.targets.get(next).or_else(|| self.targets.get(&next.template()?))?;
        }
        None
    }

    fn index_instances(&mut self) {
        let directories = self.dropin_directories.keys();
        let directories: Vec<_> = directories.filter_map(|name| UnitId::parse(name).ok()).collect();
        let mut instances: HashMap<UnitId, BTreeSet<UnitId>> = HashMap::new();
        for name in self.targets.keys().chain(&directories) {
            if let Some(template) = name.template() {
                // What an alias of it has counts for the instance itself.
                let own = self.find(name).id;
                if let Some(template) = own.template() {
                    instances.entry(template).or_default().insert(own);
                }
                instances.entry(template).or_default().insert(name.clone());
            }
        }
        self.instances = instances;
    }

    fn index_aliases(&mut self) {
        let mut aliases: HashMap<UnitId, Vec<UnitId>> = HashMap::new();
        let links = self
            .targets
            .iter()
            .filter(|(_, target)| matches!(target, Target::Alias(_)));
        for (name, _) in links {
            let Some(own) = self.resolve(name).filter(|path| !self.is_mask(path)).and_then(file_id) else {
                continue;
            };
            // An instance that points to a template is an alias of that instance alone.
            let own = match name.instance() {
                Some(instance) if own.is_template() => own.with_instance(instance),
                _ => Some(own),
            };
            if let Some(own) = own {
                aliases.entry(own).or_default().push(name.clone());
            }
        }
        self.aliases = aliases;
    }

    /// Returns whether the host's file is empty or leads to `/dev/null`.
    #[must_use]
    pub fn is_mask(&self, path: &Path) -> bool {
        let near = self.on_disk(path);
        match near.map(fs::symlink_metadata) {
            Some(Ok(data)) if !data.is_symlink() => contents::is_null_or_empty(&data),
            _ => chase(&self.root, path, Last::Follow).is_ok_and(|resolved| {
                contents::is_null(&resolved)
                    || fs::metadata(below(&self.root, &resolved)).is_ok_and(|data| contents::is_null_or_empty(&data))
            }),
        }
    }

    /// Finds where the directories are, and returns all that counts as "inside" for a link's target: the directories
    /// as they are and as they resolve.
    fn resolve_directories(&mut self) -> Vec<PathBuf> {
        let mut inside = self.directories.clone();
        for path in &self.directories {
            // One that can't be resolved can't be read either, and is told of then.
            if let Ok(resolved) = chase(&self.root, path, Last::Follow) {
                self.on_disk.insert(path.clone(), below(&self.root, &resolved));
                inside.push(resolved);
            }
        }
        inside
    }

    fn read_directory(&mut self, (index, directory): (usize, &Path), inside: &[PathBuf]) -> io::Result<()> {
        let on_disk = match self.on_disk.get(directory) {
            Some(on_disk) => on_disk.clone(),
            None => below(&self.root, &chase(&self.root, directory, Last::Follow)?),
        };
        for entry in fs::read_dir(on_disk)? {
            let entry = entry?;
            let name = entry.file_name();
            // Unit names are ASCII: anything else is no unit.
            let Some(name) = name.to_str() else { continue };
            let added = self.add_name(name, (&entry, inside), (index, directory));
            // One that went in the meantime, as in an upgrade of packages, is none; the others are there all the same.
            if let Err(source) = added
                && source.kind() != io::ErrorKind::NotFound
            {
                let path = directory.join(name);
                self.unreadable.push(Unreadable { path, source });
            }
        }
        Ok(())
    }

    fn add_name(
        &mut self,
        name: &str,
        (entry, inside): (&DirEntry, &[PathBuf]),
        (index, directory): (usize, &Path),
    ) -> io::Result<()> {
        match UnitId::parse(name) {
            Ok(id) if !self.targets.contains_key(&id) => self.add_entry(id, directory.join(name), (entry, inside))?,
            Ok(_) => {}
            Err(_) => {
                if let Some(unit) = dropins_of(name)
                    && self.is_dropin_directory(entry)?
                {
                    self.dropin_directories.entry(unit.to_owned()).or_default().push(index);
                }
            }
        }
        Ok(())
    }

    /// Returns whether systemd takes an entry for a drop-in directory.
    ///
    /// It looks at what a link says from its own working directory, which is `/`: a relative one leads nowhere.
    fn is_dropin_directory(&self, entry: &DirEntry) -> io::Result<bool> {
        let kind = entry.file_type()?;
        if !kind.is_symlink() {
            return Ok(kind.is_dir());
        }
        let target = Path::new("/").join(fs::read_link(entry.path())?);
        let resolved = chase(&self.root, &target, Last::Follow);
        Ok(resolved.is_ok_and(|path| below(&self.root, &path).is_dir()))
    }

    fn add_entry(&mut self, id: UnitId, path: PathBuf, (entry, inside): (&DirEntry, &[PathBuf])) -> io::Result<()> {
        let kind = entry.file_type()?;
        if kind.is_file() {
            self.targets.insert(id, Target::File(path));
            return Ok(());
        }
        if !kind.is_symlink() {
            return Ok(());
        }
        if let Some(target) = self.link_target(&id, &path, (&entry.path(), inside))? {
            self.targets.insert(id, target);
        }
        Ok(())
    }

    /// `unit_file_resolve_symlink()`: an alias when it stays inside the search path, else a linked unit or a mask.
    fn link_target(&self, id: &UnitId, path: &Path, (real, inside): (&Path, &[PathBuf])) -> io::Result<Option<Target>> {
        let target = path.parent().unwrap_or(path).join(fs::read_link(real)?);
        let target = chase(&self.root, &target, Last::Keep)?;
        if !inside.iter().any(|directory| target.starts_with(directory)) {
            return Ok(Some(Target::File(path.to_owned())));
        }
        Ok(file_id(&target)
            .filter(|target| may_alias(id, target))
            .map(Target::Alias))
    }
}

fn file_id(path: &Path) -> Option<UnitId> {
    UnitId::parse(path.file_name()?.to_str()?).ok()
}

/// `directory_name_is_valid()`: returns what a directory of that name has drop-ins of, a unit or a type.
fn dropins_of(name: &str) -> Option<&str> {
    name.strip_suffix(".d")
        .filter(|name| name::TYPES.contains(name) || UnitId::parse(name).is_ok())
}

/// `unit_validate_alias_symlink_or_warn()`
fn may_alias(source: &UnitId, target: &UnitId) -> bool {
    let plain = |id: &UnitId| id.instance().is_none() && !id.is_template();
    let same_sort = match (source.instance(), target.instance()) {
        (Some(source), Some(target)) => source == target,
        (Some(_), None) => target.is_template(),
        (None, Some(_)) => false,
        (None, None) => plain(source) == plain(target),
    };
    // A link to a file of its own name, lower in the search path, is not an alias: systemd finds that file without it.
    source != target && source.kind() == target.kind() && ALIAS_TYPES.contains(&source.kind()) && same_sort
}

#[cfg(test)]
mod tests;
