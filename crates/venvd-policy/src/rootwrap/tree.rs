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

/// Where the dynamic loader looks without being told, see ld.so(8).
const LIBRARIES: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];
/// What tells the dynamic loader more, see ld.so(8) and ldconfig(8).
const LOADER_FILES: [&str; 3] = ["/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/ld.so.conf"];

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
        let python = venv.path().join("bin/python");
        if fs::symlink_metadata(self.layout.on_disk(&python)).is_ok() {
            let interpreter = self.path(&python)?;
            self.interpreter(&interpreter)?;
            self.modules_in_bin(venv, &interpreter)?;
        }
        Ok(())
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

    fn entry(&self, path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
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

    /// Checks what the interpreter loads: its standard library, and the directories of shared objects.
    fn interpreter(&self, interpreter: &Path) -> Result<(), Error> {
        if let Some(library) = self.standard_library(interpreter) {
            self.path(&library)?;
            let walk = WalkDir::new(self.layout.on_disk(&library)).into_iter();
            // What comes with the distribution for its own programs is not on a venv's path.
            let walk = walk.filter_entry(|entry| {
                !["site-packages", "dist-packages"]
                    .iter()
                    .any(|name| entry.file_name() == *name)
            });
            for entry in walk.filter_map(Result::ok) {
                let metadata = fs::symlink_metadata(entry.path()).at("look at", entry.path())?;
                self.entry(&self.layout.root().on_host(entry.path()), &metadata)?;
            }
        }
        for file in LOADER_FILES {
            self.path_if_there(Path::new(file))?;
        }
        let own = interpreter
            .parent()
            .and_then(Path::parent)
            .map(|prefix| prefix.join("lib"));
        let directories = LIBRARIES
            .iter()
            .map(PathBuf::from)
            .chain(self.configured_libraries())
            .chain(own);
        directories
            .collect::<BTreeSet<_>>()
            .iter()
            .try_for_each(|directory| self.libraries(directory))
    }

    fn path_if_there(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        match fs::symlink_metadata(self.layout.on_disk(path)) {
            Ok(_) => self.path(path).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Checks a directory and the shared objects in it.
    fn libraries(&self, directory: &Path) -> Result<(), Error> {
        let Some(real) = self.path_if_there(directory)? else {
            return Ok(());
        };
        let on_disk = self.layout.on_disk(&real);
        for entry in fs::read_dir(&on_disk).at("list", &on_disk)? {
            let entry = entry.at("list", &on_disk)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".so") || name.contains(".so.") {
                let metadata = entry.metadata().at("look at", &entry.path())?;
                self.entry(&real.join(&*name), &metadata)?;
            }
        }
        Ok(())
    }

    /// Returns the directories in `/etc/ld.so.conf` and what it includes, see ldconfig(8).
    fn configured_libraries(&self) -> Vec<PathBuf> {
        let read = |path: &Path| fs::read_to_string(self.layout.on_disk(path)).unwrap_or_default();
        let mut text = read(Path::new("/etc/ld.so.conf"));
        // Every distribution includes this directory, and nothing else.
        let fragments = fs::read_dir(self.layout.on_disk("/etc/ld.so.conf.d"));
        for entry in fragments.into_iter().flatten().flatten() {
            text.push_str(&read(&Path::new("/etc/ld.so.conf.d").join(entry.file_name())));
            text.push('\n');
        }
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with('/'));
        lines.map(PathBuf::from).collect()
    }

    /// Returns the directory of the standard library: `lib/python3.11` beside the interpreter's `bin`.
    fn standard_library(&self, interpreter: &Path) -> Option<PathBuf> {
        let name = interpreter.file_name()?.to_str()?;
        let library = interpreter.parent()?.parent()?.join("lib").join(name);
        self.layout.on_disk(&library).is_dir().then_some(library)
    }

    /// Refuses files in `bin` that Python would import instead of a module of the standard library: a script's own
    /// directory is the first in `sys.path`.
    fn modules_in_bin(&self, venv: &VenvPath, interpreter: &Path) -> Result<(), Error> {
        let Some(library) = self.standard_library(interpreter) else {
            return Ok(());
        };
        let mut standard = BTreeSet::new();
        for directory in [library.clone(), library.join("lib-dynload")] {
            let entries = fs::read_dir(self.layout.on_disk(&directory))
                .into_iter()
                .flatten()
                .flatten();
            standard.extend(entries.filter_map(|entry| module_of(&entry.path())));
        }
        let bin = self.layout.on_disk(venv.path()).join("bin");
        for entry in fs::read_dir(&bin).at("list", &bin)? {
            let path = entry.at("list", &bin)?.path();
            if let Some(module) = module_of(&path)
                && standard.contains(&module)
            {
                return Err(Error::HidesModule {
                    path: self.layout.root().on_host(&path),
                    module,
                });
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

/// Returns the module that Python would import from a file or directory.
fn module_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if path.is_dir() {
        return Some(name.to_owned()).filter(|name| name != "__pycache__");
    }
    let is_module = [".py", ".pyc", ".so"].iter().any(|suffix| name.ends_with(suffix));
    let stem = name.split('.').next().filter(|stem| is_module && !stem.is_empty());
    stem.map(str::to_owned)
}
