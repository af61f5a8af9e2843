//! All that a program of a venv loads when root runs it: the venv's own files, and what they lead to.
//!
//! Whoever can write or replace any of it is root with the next call.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use venvd_app::links::VenvPath;
use venvd_fs::{IoContext, atomic, chain};
use walkdir::{DirEntry, WalkDir};

use super::check::Checker;
use crate::Error;

/// What a manifest says of the links that may leave the venv. The rest of it is the business of others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Links {
    host_modules: Vec<HostModule>,
}

#[derive(Debug, Deserialize)]
struct HostModule {
    links: BTreeSet<String>,
}

impl Checker<'_> {
    /// Checks the directories on the way to a venv, everything in it, where its links lead, and its interpreter.
    pub(crate) fn venv(&self, venv: &VenvPath) -> Result<(), Error> {
        let real = self.path(&venv.path())?;
        let on_disk = self.layout.on_disk(&real);
        let allowed = self.links_of_host_modules(&on_disk)?;
        for entry in self.walk(&on_disk) {
            let entry = entry?;
            let path = self.layout.root().on_host(entry.path());
            if entry.path_is_symlink() {
                let relative = path.strip_prefix(&real).unwrap_or(&path);
                self.link(&real, relative, &allowed)?;
            } else if path.extension().is_some_and(|extension| extension == "pth") {
                self.path_file(&real, &path)?;
            }
        }
        self.interpreters(&real)
    }

    /// Walks a directory and checks owner and mode of each entry.
    fn walk(&self, on_disk: &Path) -> impl Iterator<Item = Result<DirEntry, Error>> {
        let top = on_disk.to_owned();
        WalkDir::new(on_disk).into_iter().map(move |entry| {
            let entry = entry.map_err(|error| venvd_fs::Error {
                action: "look at",
                path: error.path().unwrap_or(&top).to_owned(),
                source: error.into(),
            })?;
            let metadata = fs::symlink_metadata(entry.path()).at("look at", entry.path())?;
            self.entry(&self.layout.root().on_host(entry.path()), &metadata)?;
            Ok(entry)
        })
    }

    pub(super) fn entry(&self, path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
        let uid = metadata.uid();
        let path = path.to_owned();
        let owners = self.layout.owners();
        if !owners.admit(uid) {
            return Err(self.unsafe_path(chain::Error::Owner {
                component: path.clone(),
                path,
                uid,
                owners,
            }));
        }
        if !metadata.is_symlink() && metadata.mode() & 0o022 != 0 {
            return Err(self.unsafe_path(chain::Error::Writable {
                component: path.clone(),
                path,
                mode: metadata.mode() & 0o7777,
            }));
        }
        Ok(())
    }

    fn links_of_host_modules(&self, on_disk: &Path) -> Result<BTreeSet<PathBuf>, Error> {
        let text = atomic::read(&on_disk.join(".venvd/manifest.json"))?.unwrap_or_default();
        // One that can't be read allows nothing; preflight has more to say about it.
        let links: Links = serde_json::from_slice(&text).unwrap_or_default();
        let links = links.host_modules.into_iter().flat_map(|module| module.links);
        Ok(links.map(PathBuf::from).collect())
    }

    /// Refuses a link that leaves the venv, but the interpreter's and those that the manifest has.
    fn link(&self, venv: &Path, relative: &Path, allowed: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let path = venv.join(relative);
        let target = self.path(&path)?;
        let is_interpreter = relative.parent() == Some(Path::new("bin"))
            && relative
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"python"));
        if target.starts_with(venv) || is_interpreter {
            return Ok(());
        }
        if !allowed.contains(relative) {
            return Err(Error::Leaves { path, target });
        }
        // A package of the host is as much run as the venv is.
        self.walk(&self.layout.on_disk(&target))
            .try_for_each(|entry| entry.map(drop))
    }

    /// Refuses a `.pth` file with a directory outside of the venv, also one that is not there: Python skips it until
    /// somebody makes it. Its `import` lines are code of the venv as any other.
    fn path_file(&self, venv: &Path, path: &Path) -> Result<(), Error> {
        let text = atomic::read(&self.layout.on_disk(path))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // As site.py, also that blanks in front are part of the name.
        let directories = text.split(['\n', '\r']).map(str::trim_end).filter(|line| {
            let is_code = line.starts_with("import ") || line.starts_with("import\t");
            !line.is_empty() && !line.starts_with('#') && !is_code
        });
        for directory in directories {
            // As site.py: relative to the file's own directory, and `..` is taken away before any link is looked at.
            let target = without_dots(&path.parent().unwrap_or(venv).join(directory));
            let leads_out =
                !target.starts_with(venv) || self.path_if_there(&target)?.is_some_and(|real| !real.starts_with(venv));
            if leads_out {
                let path = path.to_owned();
                return Err(Error::Leaves { path, target });
            }
        }
        Ok(())
    }
}

/// Returns an absolute path without `.` and `..`, as os.path.abspath.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}
