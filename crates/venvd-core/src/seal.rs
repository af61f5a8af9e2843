//! The last steps: what is in the tree goes into the manifest, all of it to the disk, and then into place at once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Timespec, Timestamps};
use venvd_app::ProgramName;
use venvd_fs::IoContext;

use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::manifest::{File, LOG, Link, Manifest, PATH};
use crate::record::Installed;

/// What a tree holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) files: Vec<File>,
    pub(crate) links: Vec<Link>,
    pub(crate) programs: Vec<ProgramName>,
    pub(crate) uncompiled: Vec<String>,
}

/// The time of change of everything in a sealed tree, in seconds since 1970: the beginning of 1980, before which a zip
/// file can't name any. One constant, so that venvs can share inodes, and nothing tells when a tree was made.
pub(crate) const SEALED_TIME: i64 = 315_532_800;

/// Looks at and hashes everything in a tree, except `.venvd`, and sets the times of its files.
///
/// `placed` are the files that name the venv's place.
pub(crate) fn contents(
    tree: &Path,
    interpreter: &Interpreter,
    installed: &Installed,
    placed: &BTreeSet<PathBuf>,
) -> Result<Contents, Error> {
    let mut found = Found::default();
    found.walk(tree, Path::new(""))?;
    let hash = |path: &PathBuf| {
        let mut file = hash_file(tree, path)?;
        file.dist = owner(path, installed);
        file.placed = placed.contains(path);
        Ok::<_, Error>(file)
    };
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

fn hash_file(tree: &Path, path: &Path) -> Result<File, Error> {
    let on_disk = tree.join(path);
    let mut file = fs::File::open(&on_disk).at("open", &on_disk)?;
    let metadata = file.metadata().at("look at", &on_disk)?;
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut content).at("read", &on_disk)?;
    rustix::fs::futimens(&file, &sealed_times()).at("set the time of", &on_disk)?;
    Ok(File {
        path: text(path),
        dist: None,
        size: content.len() as u64,
        mode: metadata.permissions().mode() & 0o7777,
        placed: false,
        blake3: blake3::hash(&content).to_hex().to_string(),
    })
}

pub(crate) fn sealed_times() -> Timestamps {
    let time = Timespec {
        tv_sec: SEALED_TIME,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Sets the times of a tree's directories and links, and of what lies in `.venvd`: the last change before it is in place.
pub(crate) fn set_times(tree: &Path, manifest: &Manifest) -> Result<(), Error> {
    let mut paths: BTreeSet<&Path> = [PATH, LOG].map(Path::new).into();
    paths.extend(manifest.links.iter().map(|link| Path::new(&link.path)));
    let files = manifest.files.iter().map(|file| Path::new(&file.path));
    let above: BTreeSet<&Path> = files.chain(paths.iter().copied()).filter_map(Path::parent).collect();
    paths.extend(above.into_iter().flat_map(Path::ancestors));
    paths.into_par_iter().try_for_each(|path| {
        let on_disk = tree.join(path);
        let times = sealed_times();
        rustix::fs::utimensat(rustix::fs::CWD, &on_disk, &times, AtFlags::SYMLINK_NOFOLLOW)
            .at("set the time of", &on_disk)
    })?;
    Ok(())
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
        let stem = name.strip_suffix(".py").unwrap_or(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_bytecode_of_its_whole_name() {
        let interpreter = Interpreter::probe(Path::new("/usr/bin/python3")).unwrap();
        let site = text(&interpreter.site_packages());
        let file = |path: String| File {
            path,
            dist: None,
            size: 0,
            mode: 0o644,
            placed: false,
            blake3: String::new(),
        };
        let tag = &interpreter.cache_tag;
        let files = [
            file(format!("{site}/x.py.py")),
            file(format!("{site}/__pycache__/x.py.{tag}.pyc")),
            file(format!("{site}/y.py")),
            file(format!("{site}/y.py.py")),
            file(format!("{site}/__pycache__/y.py.{tag}.pyc")),
        ];
        assert_eq!(uncompiled(&files, &interpreter), [format!("{site}/y.py")]);
    }
}
