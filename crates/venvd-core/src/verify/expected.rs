//! What a manifest says that a tree holds, by path.

use std::collections::HashMap;

use crate::manifest::{LOG, Manifest, PATH};

/// What must lie at a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Directory,
    File,
    Link,
    /// venvd's own, which the manifest does not list: the mode it must have.
    Own {
        mode: u32,
    },
}

/// All paths of a venv that must be there, and those of venvd that may be.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    entries: HashMap<&'a str, Entry>,
}

impl<'a> Expected<'a> {
    pub(super) fn of(manifest: &'a Manifest) -> Self {
        let mut entries = HashMap::with_capacity(manifest.files.len() + manifest.files.len() / 4);
        let own = [(PATH, Entry::Own { mode: 0o644 }), (LOG, Entry::Own { mode: 0o600 })];
        let files = manifest.files.iter().map(|file| (file.path.as_str(), Entry::File));
        let links = manifest.links.iter().map(|link| (link.path.as_str(), Entry::Link));
        entries.insert("", Entry::Directory);
        for (path, entry) in files.chain(links).chain(own) {
            entries.insert(path, entry);
            let mut rest = path;
            // Files come sorted: most of a path's directories are known already.
            while let Some((directory, _)) = rest.rsplit_once('/') {
                if entries.insert(directory, Entry::Directory).is_some() {
                    break;
                }
                rest = directory;
            }
        }
        Self { entries }
    }

    pub(super) fn get(&self, path: &str) -> Option<Entry> {
        self.entries.get(path).copied()
    }
}
