//! The last steps: what is in the tree goes into the manifest, all of it to the disk, and then into place at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use venvd_app::ProgramName;
use venvd_fs::IoContext;

use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::manifest::{File, Link};
use crate::record::Installed;

/// What a tree holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) files: Vec<File>,
    pub(crate) links: Vec<Link>,
    pub(crate) programs: Vec<ProgramName>,
    pub(crate) uncompiled: Vec<String>,
}

/// Looks at and hashes everything in a tree, except `.venvd`.
pub(crate) fn contents(tree: &Path, interpreter: &Interpreter, installed: &Installed) -> Result<Contents, Error> {
    let mut found = Found::default();
    found.walk(tree, Path::new(""))?;
    let hash = |path: &PathBuf| hash_file(tree, path, owner(path, installed));
    let mut files = found.files.par_iter().map(hash).collect::<Result<Vec<_>, _>>()?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    found.links.sort_by(|one, other| one.path.cmp(&other.path));
    let programs = files
        .iter()
        .filter(|file| file.mode & 0o100 != 0)
        .filter_map(|file| program(&file.path))
        .collect();
    let uncompiled = uncompiled(&files, interpreter);
    Ok(Contents {
        files,
        links: found.links,
        programs,
        uncompiled,
    })
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    links: Vec<Link>,
}

impl Found {
    fn walk(&mut self, tree: &Path, relative: &Path) -> Result<(), Error> {
        let directory = tree.join(relative);
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            let path = relative.join(entry.file_name());
            let kind = entry.file_type().at("look at", &entry.path())?;
            if kind.is_dir() && path != Path::new(".venvd") {
                self.walk(tree, &path)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).at("read the link", &entry.path())?;
                self.links.push(Link {
                    path: text(&path),
                    target,
                });
            } else if kind.is_file() {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

fn hash_file(tree: &Path, path: &Path, dist: Option<String>) -> Result<File, Error> {
    let on_disk = tree.join(path);
    let content = fs::read(&on_disk).at("read", &on_disk)?;
    let mode = fs::metadata(&on_disk).at("look at", &on_disk)?.permissions().mode() & 0o7777;
    let blake3 = blake3::hash(&content).to_hex().to_string();
    Ok(File {
        path: text(path),
        dist,
        size: content.len() as u64,
        mode,
        placed: false,
        blake3,
    })
}

/// All names are UTF-8: the copy refused others.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns the distribution that a file belongs to; bytecode belongs where its source does.
fn owner(path: &Path, installed: &Installed) -> Option<String> {
    let source = || {
        let cache = path.parent().filter(|parent| parent.ends_with("__pycache__"))?;
        let (stem, _) = path.file_name()?.to_str()?.strip_suffix(".pyc")?.rsplit_once('.')?;
        Some(cache.parent()?.join(format!("{stem}.py")))
    };
    installed
        .owners
        .get(path)
        .or_else(|| installed.owners.get(&source()?))
        .cloned()
}

fn program(path: &str) -> Option<ProgramName> {
    path.strip_prefix("bin/")?.parse().ok()
}

/// Returns the sources without bytecode.
fn uncompiled(files: &[File], interpreter: &Interpreter) -> Vec<String> {
    let all: std::collections::HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let site = text(&interpreter.site_packages());
    let has_bytecode = |path: &str| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.trim_end_matches(".py");
        all.contains(format!("{directory}/__pycache__/{stem}.{}.pyc", interpreter.cache_tag).as_str())
    };
    let sources = all
        .iter()
        .filter(|path| path.ends_with(".py") && path.starts_with(&site));
    let mut without: Vec<String> = sources
        .filter(|path| !has_bytecode(path))
        .map(|path| (*path).to_owned())
        .collect();
    without.sort();
    without
}
