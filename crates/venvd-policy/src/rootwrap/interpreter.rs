//! What Python loads when it runs a program of a venv as root: the interpreter, its standard library, shared objects.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use venvd_fs::IoContext;
use walkdir::WalkDir;

use super::check::{Checker, is_interpreter};
use crate::Error;

/// Where the dynamic loader looks without being told, see ld.so(8).
const LIBRARIES: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];
/// What tells the dynamic loader more, see ld.so(8) and ldconfig(8).
const LOADER_FILES: [&str; 3] = ["/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/ld.so.conf"];

impl Checker<'_> {
    /// Checks each interpreter in the `bin` of a venv, with what it loads.
    pub(super) fn interpreters(&self, real: &Path) -> Result<(), Error> {
        let bin = real.join("bin");
        let mut interpreters = BTreeSet::new();
        for entry in fs::read_dir(self.layout.on_disk(&bin)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(is_interpreter) {
                interpreters.insert(self.path(&bin.join(name))?);
            }
        }
        // A venv without one runs nothing of Python.
        for interpreter in interpreters {
            let libraries = self.standard_library(real, &interpreter)?;
            self.interpreter(&interpreter, &libraries)?;
            self.modules_in_bin(&bin, &libraries)?;
        }
        Ok(())
    }

    /// Checks what the interpreter loads: its standard library, and the directories of shared objects.
    fn interpreter(&self, interpreter: &Path, libraries: &[PathBuf]) -> Result<(), Error> {
        for library in libraries {
            let library = self.path(library)?;
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

    pub(super) fn path_if_there(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
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

    /// Returns the directories of the standard library: `lib/python3.11` beside the interpreter's `bin`, or `lib64` where
    /// that is the `sys.platlibdir` of the distribution, or both.
    ///
    /// The version is that of the venv's own directories, since the interpreter may be called `python3`.
    fn standard_library(&self, venv: &Path, interpreter: &Path) -> Result<Vec<PathBuf>, Error> {
        let entries = fs::read_dir(self.layout.on_disk(venv.join("lib")))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: BTreeSet<OsString> = entries.map(|entry| entry.file_name()).collect();
        names.extend(interpreter.file_name().map(OsString::from));
        names.retain(|name| name.to_str().is_some_and(is_interpreter));
        let prefix = interpreter.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let on = |library: &Path, name: &str| self.layout.on_disk(library).join(name).exists();
        let libraries: Vec<PathBuf> = ["lib", "lib64"]
            .iter()
            .flat_map(|lib| names.iter().map(move |name| prefix.join(lib).join(name)))
            .filter(|library| on(library, "."))
            .collect();
        // By os.py Python itself knows it, see Modules/getpath.py.
        if !libraries.iter().any(|library| on(library, "os.py")) {
            return Err(Error::NoStandardLibrary {
                app: self.app.name.clone(),
                interpreter: interpreter.to_owned(),
            });
        }
        Ok(libraries)
    }

    /// Refuses files in `bin` that Python would import instead of a module of the standard library: a script's own
    /// directory is the first in `sys.path`.
    fn modules_in_bin(&self, bin: &Path, libraries: &[PathBuf]) -> Result<(), Error> {
        let mut standard = BTreeSet::new();
        let dynload = libraries.iter().map(|library| library.join("lib-dynload"));
        for directory in libraries.iter().cloned().chain(dynload) {
            let entries = fs::read_dir(self.layout.on_disk(&directory))
                .into_iter()
                .flatten()
                .flatten();
            standard.extend(entries.filter_map(|entry| module_of(&entry.path())));
        }
        let bin = self.layout.on_disk(bin);
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
