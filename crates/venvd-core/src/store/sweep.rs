//! Objects that no venv needs any more.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;
use venvd_app::Layout;
use venvd_fs::{IoContext, atomic};

use super::{Object, Store, TEMPORARY, hash};
use crate::error::Error;
use crate::{list, manifest};

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects.
    pub objects: u64,
    /// What they took on disk.
    pub bytes: u64,
    /// Venvs whose manifest can't be read. What they need is not known, so while there is one, no object goes.
    pub unread: Vec<PathBuf>,
    /// What lies at the store's top and is none of its directories. It stays: venvd has not put it there.
    pub stray: Vec<PathBuf>,
}

/// What is read of a manifest here; the whole is several times as slow.
#[derive(Deserialize)]
struct Names {
    files: Vec<manifest::File>,
}

impl Store {
    /// Removes the objects that no manifest names and no other file shares, and what crashes left.
    ///
    /// The caller holds the store's lock.
    ///
    /// # Errors
    /// When the store can't be listed or something in it not be removed.
    pub fn sweep(&self, layout: &Layout) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let venvs: Vec<PathBuf> = list::paths(layout, None)?
            .iter()
            .map(|venv| layout.on_disk(venv.path()))
            .collect();
        let named: Vec<_> = venvs.par_iter().map(|venv| (venv, names_of(venv))).collect();
        let mut needed = HashSet::new();
        for (venv, names) in named {
            match names {
                Some(names) => needed.extend(names),
                None => swept.unread.push(venv.clone()),
            }
        }
        let Entries { entries, stray } = self.list()?;
        swept.stray = stray;
        for (path, name) in entries {
            if name.starts_with(TEMPORARY) {
                fs::remove_file(&path).at("remove", &path)?;
                continue;
            }
            let metadata = fs::symlink_metadata(&path).at("look at", &path)?;
            // A venv that is being placed is named by no manifest yet, and shares it. It would gain nothing anyway.
            if swept.unread.is_empty() && metadata.nlink() == 1 && !needed.contains(&name) {
                fs::remove_file(&path).at("remove", &path)?;
                swept.objects += 1;
                swept.bytes += metadata.blocks() * 512;
            }
        }
        Ok(swept)
    }

    /// Returns the names of the objects whose content is not what their name says.
    ///
    /// # Errors
    /// When the store can't be listed or an object not be read.
    pub fn damaged(&self) -> Result<Vec<String>, Error> {
        let entries = self.entries()?;
        let checked = entries.par_iter().map(|(path, name)| {
            let mut file = fs::File::open(path).at("open", path)?;
            let found = hash(&mut file).at("read", path)?;
            Ok((name.trim_end_matches("-x").replacen('/', "", 1) != found.hash).then(|| name.clone()))
        });
        let checked: Vec<Option<String>> = checked.collect::<Result<_, venvd_fs::Error>>()?;
        Ok(checked.into_iter().flatten().collect())
    }

    /// Returns everything that is the store's: its path, and its name relative to the store.
    pub(super) fn entries(&self) -> Result<Vec<(PathBuf, String)>, Error> {
        Ok(self.list()?.entries)
    }

    fn list(&self) -> Result<Entries, Error> {
        let mut listed = Entries::default();
        for (path, name) in children(&self.path)? {
            if name.starts_with(TEMPORARY) {
                listed.entries.push((path, name));
            } else if fs::symlink_metadata(&path).at("look at", &path)?.is_dir() {
                let below = children(&path)?;
                let named = below.into_iter().map(|(path, child)| (path, format!("{name}/{child}")));
                listed.entries.extend(named);
            } else {
                listed.stray.push(path);
            }
        }
        listed.stray.sort();
        Ok(listed)
    }
}

#[derive(Default)]
struct Entries {
    /// Path, and name relative to the store.
    entries: Vec<(PathBuf, String)>,
    stray: Vec<PathBuf>,
}

fn children(directory: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut children = Vec::new();
    for entry in fs::read_dir(directory).at("list", directory)? {
        let entry = entry.at("list", directory)?;
        children.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(children)
}

/// Returns the names of the objects that a venv has; none when that can't be known.
fn names_of(venv: &Path) -> Option<Vec<String>> {
    let path = venv.join(manifest::PATH);
    match fs::symlink_metadata(&path) {
        // It was never sealed, so it shares nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
        _ => {}
    }
    let bytes = atomic::read(&path).ok()??;
    let names: Names = serde_json::from_slice(&bytes).ok()?;
    Some(
        names
            .files
            .iter()
            .filter_map(Object::of)
            .map(|object| object.name())
            .collect(),
    )
}
