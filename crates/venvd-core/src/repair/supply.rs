//! Where the right content of damaged files may be found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::beneath::Tree;

use super::Origin;
use crate::error::Error;
use crate::install::source::{MAX_MANIFEST, MAX_PLACED};
use crate::list;
use crate::manifest::{File, Manifest};
use crate::relocate;
use crate::store::{Object, Store, hash};

/// Directories that may have sound files. None is believed: what is taken is hashed.
pub(super) struct Supply {
    venv: VenvPath,
    places: Vec<Place>,
}

struct Place {
    tree: Tree,
    origin: Origin,
    /// Paths by content; only of files that are the same in every place.
    by_content: BTreeMap<String, Vec<PathBuf>>,
    /// What names a venv's place, made for the venv that is repaired.
    placed: BTreeMap<String, Vec<u8>>,
}

impl Supply {
    /// Opens the directory that was given, and the venvs of this host.
    pub(super) fn open(layout: &Layout, venv: &VenvPath, from: Option<&Path>) -> Result<Self, Error> {
        let mut supply = Self {
            venv: venv.clone(),
            places: Vec::new(),
        };
        if let Some(from) = from {
            supply.add(from, Origin::Directory)?;
        }
        for other in list::paths(layout, None)? {
            supply.add(&layout.on_disk(other.path()), Origin::Venv(other.name().clone()))?;
        }
        Ok(supply)
    }

    /// Adds a directory. One without a usable manifest may still have files in the right places.
    pub(super) fn add(&mut self, directory: &Path, origin: Origin) -> Result<(), Error> {
        let tree = Tree::open(directory)?;
        let mut place = Place {
            tree,
            origin,
            by_content: BTreeMap::new(),
            placed: BTreeMap::new(),
        };
        let manifest = place
            .tree
            .read(Path::new(crate::manifest::PATH), MAX_MANIFEST)
            .ok()
            .and_then(|text| Manifest::parse(&text).ok());
        if let Some(manifest) = manifest {
            place.index(&manifest, &self.venv);
        }
        self.places.push(place);
        Ok(())
    }

    /// Returns those files whose content is nowhere.
    pub(super) fn missing<'a>(&self, store: &Store, files: &[&'a File]) -> Result<Vec<&'a File>, Error> {
        let mut missing = Vec::new();
        for file in files {
            let in_store = match Object::of(file) {
                Some(object) => store.sound(&object)?.is_some(),
                None => false,
            };
            if !in_store && self.find(file).is_none() {
                missing.push(*file);
            }
        }
        Ok(missing)
    }

    /// Returns a file with the right content; it was hashed, and is at its beginning.
    pub(super) fn find(&self, file: &File) -> Option<(Found<'_>, Origin)> {
        self.places
            .iter()
            .find_map(|place| Some((place.find(file)?, place.origin.clone())))
    }
}

/// Content that is right.
pub(super) enum Found<'a> {
    File(std::fs::File),
    Bytes(&'a [u8]),
}

impl Place {
    fn index(&mut self, manifest: &Manifest, venv: &VenvPath) {
        for file in manifest.files.iter().filter(|file| !file.placed) {
            self.by_content
                .entry(file.blake3.clone())
                .or_default()
                .push(PathBuf::from(&file.path));
        }
        // A tree that is damaged itself may have none.
        let tree = &self.tree;
        let mut read = |file: &File| Ok(tree.read(Path::new(&file.path), MAX_PLACED)?);
        if let Ok(moved) = relocate::move_to(manifest, venv, &mut read) {
            self.placed = moved.contents;
        }
    }

    fn find(&self, file: &File) -> Option<Found<'_>> {
        let placed = self.placed.get(&file.path).map(Vec::as_slice);
        if let Some(content) = placed
            && blake3::hash(content).to_hex().as_str() == file.blake3
        {
            return Some(Found::Bytes(content));
        }
        let same_path = PathBuf::from(&file.path);
        let others = self.by_content.get(&file.blake3).into_iter().flatten();
        std::iter::once(&same_path)
            .chain(others)
            .find_map(|path| self.open(path, &file.blake3))
            .map(Found::File)
    }

    fn open(&self, path: &Path, wanted: &str) -> Option<std::fs::File> {
        // What can't be read is no source.
        let mut opened = self.tree.file(path).ok()?;
        let found = hash(&mut opened).ok()?;
        std::io::Seek::rewind(&mut opened).ok()?;
        (found.hash == wanted).then_some(opened)
    }
}
