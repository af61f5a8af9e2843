//! What venvs take on disk, and what goes with them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::IoContext;

use crate::error::Error;

/// The unit of `st_blocks`: stat(2).
const BLOCK: u64 = 512;

/// What venvs take on disk. Files that they share as hard links are counted once.
///
/// Blocks that a file system shares between files (reflinks) look to stat(2) as if each file had its own.
#[derive(Debug, Default)]
pub struct Sizes {
    trees: BTreeMap<VenvPath, Tree>,
}

#[derive(Debug, Default)]
struct Tree {
    /// Of directories, and of files with one name.
    own: u64,
    /// Of files with several.
    linked: HashMap<Inode, Linked>,
}

type Inode = (u64, u64);

#[derive(Debug, Clone, Copy)]
struct Linked {
    bytes: u64,
    /// All names it has.
    links: u64,
    /// Those that were seen.
    seen: u64,
}

impl Sizes {
    /// Looks at every file of the venvs.
    ///
    /// # Errors
    /// When a directory can't be read. What vanishes meanwhile is no error.
    pub fn measure(layout: &Layout, venvs: &[VenvPath]) -> Result<Self, Error> {
        let trees = venvs.par_iter().map(|venv| {
            let tree = Tree::measure(&layout.on_disk(venv.path()))?;
            Ok::<_, Error>((venv.clone(), tree))
        });
        Ok(Self {
            trees: trees.collect::<Result<_, _>>()?,
        })
    }

    /// Returns what goes with a venv if only it goes.
    #[must_use]
    pub fn alone(&self, venv: &VenvPath) -> u64 {
        self.together(std::iter::once(venv))
    }

    /// Returns what goes if all of these go: more than the sum of each alone, when they share files.
    pub fn together<'a>(&self, venvs: impl Iterator<Item = &'a VenvPath>) -> u64 {
        let (own, linked) = self.sum(venvs);
        // One further name is the store's, which lets go of what no venv has.
        let gone = linked.values().filter(|file| file.seen + 1 >= file.links);
        own + gone.map(|file| file.bytes).sum::<u64>()
    }

    /// Returns what all venvs take.
    #[must_use]
    pub fn total(&self) -> u64 {
        let (own, linked) = self.sum(self.trees.keys());
        own + linked.values().map(|file| file.bytes).sum::<u64>()
    }

    fn sum<'a>(&self, venvs: impl Iterator<Item = &'a VenvPath>) -> (u64, HashMap<Inode, Linked>) {
        let mut own = 0;
        let mut linked: HashMap<Inode, Linked> = HashMap::new();
        for tree in venvs.filter_map(|venv| self.trees.get(venv)) {
            own += tree.own;
            for (inode, file) in &tree.linked {
                let sum = linked.entry(*inode).or_insert(Linked { seen: 0, ..*file });
                sum.seen += file.seen;
            }
        }
        (own, linked)
    }
}

impl Tree {
    fn measure(directory: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        let mut pending: Vec<PathBuf> = Vec::new();
        match fs::symlink_metadata(directory) {
            Ok(metadata) => {
                tree.add(&metadata);
                if metadata.is_dir() {
                    pending.push(directory.to_owned());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).at("look at", directory)?,
        }
        while let Some(directory) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.at("list", &directory)?,
            };
            for entry in entries {
                let entry = entry.at("list", &directory)?;
                match entry.metadata() {
                    Ok(metadata) => {
                        tree.add(&metadata);
                        if metadata.is_dir() {
                            pending.push(entry.path());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).at("look at", &entry.path())?,
                }
            }
        }
        Ok(tree)
    }

    fn add(&mut self, metadata: &Metadata) {
        let bytes = metadata.blocks() * BLOCK;
        if metadata.is_dir() || metadata.nlink() == 1 {
            self.own += bytes;
            return;
        }
        let linked = self.linked.entry((metadata.dev(), metadata.ino())).or_insert(Linked {
            bytes,
            links: metadata.nlink(),
            seen: 0,
        });
        linked.seen += 1;
    }
}
