//! The venvs that are there.

use std::fs;
use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, VenvName};
use venvd_fs::{IoContext, atomic};

use crate::collect::Links;
use crate::error::Error;
use crate::manifest;

/// A venv that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name and place.
    pub venv: VenvPath,
    /// What its manifest says; none when it is not sealed.
    pub summary: Option<Summary>,
    /// Whether it is asked for.
    pub active: bool,
    /// Whether it is in force.
    pub committed: bool,
    /// Whether it is the way back.
    pub previous: bool,
}

/// What a manifest says, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of all its files.
    pub size: u64,
    /// How many distributions are installed.
    pub distributions: usize,
    /// When it was sealed, in seconds since 1970.
    pub created: u64,
    /// The version of its Python when it was sealed.
    pub python: String,
}

impl Listed {
    /// Returns whether the venv is sealed.
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.summary.is_some()
    }
}

/// Returns the venvs of one app or of all, by name, those built here before those that came with packages.
///
/// # Errors
/// When a directory or an app's link can't be read.
pub fn list(layout: &Layout, app: Option<&AppName>) -> Result<Vec<Listed>, Error> {
    let mut listed = paths(layout, app)?
        .into_par_iter()
        .map(|venv| look_at(layout, venv))
        .collect::<Result<Vec<_>, _>>()?;
    listed.sort_by(|one, other| one.venv.cmp(&other.venv));
    Ok(listed)
}

/// Returns where the venvs of one app or of all lie, without a look at what is in them, in no order.
///
/// # Errors
/// When a directory can't be read.
pub fn paths(layout: &Layout, app: Option<&AppName>) -> Result<Vec<VenvPath>, Error> {
    let mut paths = Vec::new();
    for base in layout.venv_directories() {
        let apps = match app {
            Some(app) => vec![app.to_string()],
            None => names(&layout.on_disk(base))?,
        };
        for app in apps {
            let directory = base.join(&app);
            for tag in names(&layout.on_disk(&directory))? {
                paths.extend(VenvPath::parse(layout, &directory.join(tag)));
            }
        }
    }
    Ok(paths)
}

fn look_at(layout: &Layout, venv: VenvPath) -> Result<Listed, Error> {
    let links = Links::of(layout, &venv)?;
    Ok(Listed {
        active: links.active,
        committed: links.committed,
        previous: links.previous,
        summary: summary(&layout.on_disk(venv.path())),
        venv,
    })
}

/// Reads of a manifest what a list shows: of 20,000 files only the sizes, which is several times as fast as all.
fn summary(directory: &Path) -> Option<Summary> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
        created: u64,
        python: Python,
        distributions: Vec<IgnoredAny>,
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    struct Python {
        version: String,
    }
    #[derive(Deserialize)]
    struct File {
        size: u64,
    }
    let bytes = atomic::read(&directory.join(manifest::PATH)).ok()??;
    let head: Head = serde_json::from_slice(&bytes).ok()?;
    (head.format == manifest::FORMAT).then(|| Summary {
        size: head.files.iter().map(|file| file.size).sum(),
        distributions: head.distributions.len(),
        created: head.created,
        python: head.python.version,
    })
}

/// Returns where a venv that is there lies.
///
/// # Errors
/// When it is nowhere.
pub fn find(layout: &Layout, name: &VenvName) -> Result<VenvPath, Error> {
    VenvPath::find(layout, name).ok_or_else(|| Error::NoSuchVenv { venv: name.clone() })
}

fn names(directory: &Path) -> Result<Vec<String>, venvd_fs::Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).at("list", directory),
    };
    let mut names = Vec::new();
    for entry in entries {
        // What is not UTF-8 is no name of ours.
        if let Ok(name) = entry.at("list", directory)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
