//! Modules of the host's Python that a venv can import: linked one by one, never all of them.
//!
//! Bindings of libraries that the host has (libvirt, rbd, selinux) must be those of its own packages. They are found by
//! the interpreter's own directories, as files: nothing is imported, no `.pth` is read. What is linked is the module
//! itself, a file or a directory, so that a package keeps its structure, and the extension modules beside it that it
//! imports (`libvirt` its `libvirtmod`). Nothing else of the host gets into the venv.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use venvd_fs::{IoContext, Root, chain};

use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::lock::normalise;
use crate::manifest::{Distribution, HostModule, Manifest};

/// What looks for them.
const SCRIPT: &str = include_str!("host_modules/find.py");

/// Where host modules come from.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    interpreter: &'a Interpreter,
    root: Root,
    /// The directories to look in; none for the interpreter's own.
    directories: Vec<PathBuf>,
}

/// What is wrong with a host module of a sealed venv.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The module, as declared.
    pub module: String,
    /// The link at fault, relative to the venv; none where it is the module as a whole.
    pub link: Option<String>,
    /// What is wrong, for people.
    pub message: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    modules: Vec<Found>,
}

/// A module as it is found.
#[derive(Debug, Deserialize)]
struct Found {
    directory: Option<PathBuf>,
    /// Relative to the directory.
    links: Vec<PathBuf>,
    /// An extension module that is for another Python.
    unfit: Option<PathBuf>,
}

impl<'a> Host<'a> {
    /// Returns the running system, with an interpreter's own directories.
    pub(crate) fn of(interpreter: &'a Interpreter) -> Self {
        Self {
            interpreter,
            root: Root::host(),
            directories: Vec::new(),
        }
    }

    /// Returns a host below a root, with directories of packages there.
    #[cfg(test)]
    fn at(interpreter: &'a Interpreter, root: Root, directories: &[&str]) -> Self {
        let directories = directories.iter().map(PathBuf::from).collect();
        Self {
            interpreter,
            root,
            directories,
        }
    }

    /// Links modules into a tree, and returns what was linked.
    ///
    /// # Errors
    /// When one is not there, is for another Python, could be changed by others than root, or the venv has it already.
    pub(crate) fn link(
        &self,
        tree: &Path,
        names: &[String],
        distributions: &[Distribution],
    ) -> Result<Vec<HostModule>, Error> {
        let mut linked = Vec::new();
        let site = self.interpreter.site_packages();
        for (name, found) in names.iter().zip(self.find(names)?) {
            let (directory, links) = self.usable(name, found)?;
            if let Some(own) = distributions.iter().find(|own| own.name == normalise(name)) {
                let reason = format!(
                    "is in the lock too, as {} {}: remove one of them",
                    own.name, own.version
                );
                return Err(refused(name, reason));
            }
            let mut module = HostModule {
                name: name.clone(),
                links: Vec::new(),
            };
            for link in links {
                let (path, target) = (site.join(&link), directory.join(&link));
                let made = self.link_one(&tree.join(&path), &target, &module.name)?;
                if !made
                    && !linked
                        .iter()
                        .any(|other: &HostModule| other.links.iter().any(|one| Path::new(one) == path))
                {
                    let reason = format!("would lie at {path:?}, where the venv has something of its own");
                    return Err(refused(name, reason));
                }
                module.links.push(path.to_string_lossy().into_owned());
            }
            linked.push(module);
        }
        Ok(linked)
    }

    /// Makes a link; returns false if there is something already.
    fn link_one(&self, path: &Path, target: &Path, module: &str) -> Result<bool, Error> {
        if let Some(parent) = path.parent() {
            venvd_fs::atomic::create_directories(parent, 0o755)?;
        }
        // `x.py` and `x/` are the same module to Python, and so are extension modules, whatever their tags.
        let stem = |name: &Path| {
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.split('.').next().unwrap_or_default().to_owned()
        };
        let parent = path.parent().unwrap_or(path);
        for entry in fs::read_dir(parent).at("list", parent)? {
            let other = entry.at("list", parent)?.path();
            let is_module = other
                .extension()
                .is_none_or(|extension| extension == "py" || extension == "so");
            if is_module && stem(&other) == stem(path) {
                return Ok(false);
            }
        }
        self.require_root(&self.root.on_host(target), &mut BTreeSet::new())
            .map_err(|error| refused(module, format!("is not safe to run: {}", venvd_fs::report(&error))))?;
        symlink(target, path).at("create the link", path)?;
        Ok(true)
    }

    /// Checks that nobody but root can change a module, on the way to it or in it.
    fn require_root(&self, target: &Path, seen: &mut BTreeSet<PathBuf>) -> Result<(), chain::Error> {
        let real = chain::check(&self.root, chain::Owners::of_this_process(), target)?;
        let on_disk = self.root.join(&real);
        // A link may lead back up.
        if !seen.insert(real.clone()) {
            return Ok(());
        }
        if !fs::symlink_metadata(&on_disk).at("look at", &on_disk)?.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(&on_disk).at("list", &on_disk)? {
            let entry = entry.at("list", &on_disk)?;
            self.require_root(&real.join(entry.file_name()), seen)?;
        }
        Ok(())
    }

    /// Returns where a module lies, and its paths there.
    fn usable(&self, name: &str, found: Found) -> Result<(PathBuf, Vec<PathBuf>), Error> {
        if let Some(unfit) = found.unfit {
            let reason = format!(
                "has {unfit:?}, which is for another python than {:?} ({})",
                self.interpreter.path, self.interpreter.soabi
            );
            return Err(refused(name, reason));
        }
        let missing = || {
            let path = &self.interpreter.path;
            refused(
                name,
                format!("is not among the packages of {path:?}; install the host's package that has it"),
            )
        };
        Ok((found.directory.ok_or_else(missing)?, found.links))
    }

    fn find(&self, names: &[String]) -> Result<Vec<Found>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let all = || names.join(", ");
        let directories: Vec<String> = self
            .directories
            .iter()
            .map(|directory| self.root.join(directory).display().to_string())
            .collect();
        let output = Command::new(&self.interpreter.path)
            .args(["-I", "-S", "-W", "ignore", "-c", SCRIPT])
            .arg(directories.join(":"))
            .args(names)
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .at("run", &self.interpreter.path)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let failed = |what: &str| refused(&all(), format!("can't be looked for: {what}"));
        if !output.status.success() {
            return Err(failed(said.lines().last().unwrap_or_default()));
        }
        let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error.to_string()))?;
        Ok(answer.modules)
    }

    /// Checks the host modules of a sealed venv.
    fn check(&self, manifest: &Manifest) -> Result<Vec<Problem>, Error> {
        let names: Vec<String> = manifest.host_modules.iter().map(|module| module.name.clone()).collect();
        let mut problems = Vec::new();
        for (module, found) in manifest.host_modules.iter().zip(self.find(&names)?) {
            let mut tell = |link: Option<&String>, message: String| {
                problems.push(Problem {
                    module: module.name.clone(),
                    link: link.cloned(),
                    message,
                });
            };
            let (directory, now) = match self.usable(&module.name, found) {
                Ok(usable) => usable,
                Err(error) => {
                    tell(None, error.to_string());
                    continue;
                }
            };
            let site = self.interpreter.site_packages();
            for link in &module.links {
                let sealed = manifest.links.iter().find(|sealed| sealed.path == *link);
                let Some(target) = sealed.map(|sealed| &sealed.target) else {
                    tell(Some(link), format!("its link {link} is not in the manifest"));
                    continue;
                };
                let relative = Path::new(link)
                    .strip_prefix(&site)
                    .unwrap_or(Path::new(link))
                    .to_owned();
                if let Err(error) = self.require_root(&self.root.on_host(target), &mut BTreeSet::new()) {
                    let name = &module.name;
                    tell(
                        Some(link),
                        format!("the host's module {name}: {}", venvd_fs::report(&error)),
                    );
                } else if directory.join(&relative) != *target || !now.contains(&relative) {
                    let name = &module.name;
                    tell(
                        Some(link),
                        format!("the host's module {name} is in {directory:?} now, the venv has {target:?}"),
                    );
                }
            }
            for path in now.iter().map(|path| site.join(path)) {
                if !module.links.iter().any(|link| Path::new(link) == path) {
                    let name = &module.name;
                    tell(
                        None,
                        format!("the host's module {name} needs {path:?} now, which is not linked"),
                    );
                }
            }
        }
        Ok(problems)
    }
}

/// Checks that the host modules of a sealed venv are still there, the same files, for the same Python, and root's alone.
///
/// `interpreter` is the host's that the venv is bound to.
///
/// # Errors
/// When the interpreter can't be asked where they are.
pub fn check(manifest: &Manifest, interpreter: &Interpreter) -> Result<Vec<Problem>, Error> {
    Host::of(interpreter).check(manifest)
}

fn refused(module: &str, reason: String) -> Error {
    Error::HostModule {
        module: module.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
