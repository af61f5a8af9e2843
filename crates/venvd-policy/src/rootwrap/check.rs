//! Who else could write what root would run or believe, and what a venv would hide.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::{App, AppName, Layout, ProgramName, exposed};
use venvd_fs::{IoContext, chain};

use super::conf::{Conf, EXEC_DIRS, FILTERS_PATH};
use crate::Error;

/// Checks paths for one app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checker<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) app: &'a App,
}

impl Checker<'_> {
    /// Returns where a path of the host leads, if only root can change anything on the way.
    pub(crate) fn path(&self, path: &Path) -> Result<PathBuf, Error> {
        self.layout.trusted(path).map_err(|source| self.unsafe_path(source))
    }

    pub(super) fn unsafe_path(&self, source: chain::Error) -> Error {
        Error::Unsafe {
            app: self.app.name.clone(),
            source,
        }
    }

    /// Returns the path of a program if the venv has it: a file of its own, executable.
    pub(crate) fn program(&self, venv: &VenvPath, program: &ProgramName) -> Result<Option<PathBuf>, Error> {
        let path = venv.path().join("bin").join(program.as_str());
        let on_disk = self.layout.on_disk(&path);
        match fs::symlink_metadata(&on_disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("look at", &on_disk).map_err(Error::Io),
            Ok(metadata) if metadata.is_file() && is_executable(&metadata) => {}
            Ok(metadata) if metadata.is_file() => return Ok(None),
            Ok(_) => {
                let target = fs::read_link(&on_disk).at("read the link", &on_disk)?;
                return Err(Error::Leaves { path, target });
            }
        }
        // `bin` itself could be a link.
        let (venv_real, real) = (self.path(&venv.path())?, self.path(&path)?);
        if real.starts_with(&venv_real) {
            Ok(Some(path))
        } else {
            Err(Error::Leaves { path, target: real })
        }
    }

    /// Refuses entries that are relative.
    pub(crate) fn absolute(&self, config: &Path, conf: &Conf<'_>) -> Result<(), Error> {
        let filters = conf.filters_path();
        let lists = [
            (FILTERS_PATH, filters),
            (EXEC_DIRS, conf.exec_dirs().unwrap_or_default()),
        ];
        for (key, entries) in lists {
            if let Some(entry) = entries
                .iter()
                .find(|entry| !entry.starts_with('/') || entry.contains('\n'))
            {
                return Err(Error::Relative {
                    config: config.to_owned(),
                    key,
                    entry: (*entry).to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Refuses entries that are relative, and filters and directories that others than root could write.
    pub(crate) fn conf(&self, config: &Path, conf: &Conf<'_>) -> Result<(), Error> {
        self.absolute(config, conf)?;
        conf.filters_path()
            .iter()
            .try_for_each(|directory| self.filters(Path::new(directory)))?;
        // What is executable in one of these is root's.
        let programs = conf.exec_dirs().unwrap_or_default();
        programs
            .iter()
            .try_for_each(|directory| self.existing(Path::new(directory)).map(drop))
    }

    /// Checks a file or directory; of one that is missing, whoever could make it.
    pub(crate) fn existing(&self, directory: &Path) -> Result<Option<PathBuf>, Error> {
        match fs::symlink_metadata(self.layout.on_disk(directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there = directory
                    .ancestors()
                    .find(|ancestor| fs::symlink_metadata(self.layout.on_disk(ancestor)).is_ok());
                self.path(there.unwrap_or(Path::new("/"))).map(|_| None)
            }
            _ => self.path(directory).map(Some),
        }
    }

    /// Checks a filter directory and the files in it.
    pub(crate) fn filters(&self, directory: &Path) -> Result<(), Error> {
        // Rootwrap looks for it at each call.
        let Some(real) = self.existing(directory)? else {
            return Ok(());
        };
        let on_disk = self.layout.on_disk(&real);
        if !on_disk.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(&on_disk).at("list", &on_disk)? {
            let name = entry.at("list", &on_disk)?.file_name();
            // As rootwrap: hidden files are no filters.
            if !name.as_encoded_bytes().starts_with(b".") {
                self.path(&real.join(name))?;
            }
        }
        Ok(())
    }

    /// Refuses programs of the venv that would hide one in `system`, but those that the definition names.
    ///
    /// Every venv has an interpreter, so `python`, `python3` and `python3.N` don't count; nor does what is the same
    /// file, and an exposed command, which leads to a venv as well. A program of a [sudo] command is named, too.
    pub(crate) fn shadows(&self, venv: &VenvPath, system: &[&Path]) -> Result<(), Error> {
        let bin = self.layout.on_disk(venv.path()).join("bin");
        let mut hidden = Vec::new();
        for entry in fs::read_dir(&bin).at("list", &bin)? {
            let name = entry.at("list", &bin)?.file_name();
            let Some(program) = name.to_str().and_then(|name| name.parse::<ProgramName>().ok()) else {
                continue;
            };
            if self.is_named(&program) || is_interpreter(program.as_str()) {
                continue;
            }
            if let Some(path) = self.hidden_by(venv, &program, system) {
                hidden.push((program, path));
            }
        }
        if hidden.is_empty() {
            return Ok(());
        }
        hidden.sort();
        Err(Error::Shadows {
            venv: venv.name().clone(),
            programs: hidden,
            table: if self.app.rootwrap.is_some() {
                "rootwrap"
            } else {
                "sudo"
            },
        })
    }

    fn is_named(&self, program: &ProgramName) -> bool {
        let of_rootwrap = self.app.rootwrap.iter().flat_map(|rootwrap| &rootwrap.shadow);
        of_rootwrap.chain(&self.app.sudo.shadow).any(|name| name == program)
            || self.app.sudo.all().any(|command| command.program == *program)
    }

    fn hidden_by(&self, venv: &VenvPath, program: &ProgramName, system: &[&Path]) -> Option<PathBuf> {
        let ours = venv.path().join("bin").join(program.as_str());
        let executable = |path: &Path| {
            fs::metadata(self.layout.on_disk(path)).is_ok_and(|metadata| metadata.is_file() && is_executable(&metadata))
        };
        if !executable(&ours) {
            return None;
        }
        let real = |path: &Path| self.layout.trusted(path).ok();
        let theirs = system.iter().map(|directory| directory.join(program.as_str()));
        theirs
            .filter(|path| executable(path) && !exposed::is_ours(&self.layout.on_disk(path)))
            .find(|path| real(path).is_none() || real(path) != real(&ours))
    }
}

fn is_executable(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

/// Returns whether a name is `python`, `python3` or `python3.N`.
pub(super) fn is_interpreter(name: &str) -> bool {
    let rest = name.strip_prefix("python");
    rest.is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// Returns the error for a `rootwrap.conf` that can't be parsed.
pub(crate) fn config_error(config: &Path, error: super::conf::ConfError) -> Error {
    Error::Config {
        config: config.to_owned(),
        line: error.line,
        reason: error.reason,
    }
}

/// Returns the error for a `rootwrap.conf` that is not there.
pub(crate) fn no_config(app: &AppName, config: &Path) -> Error {
    Error::NoConfig {
        app: app.clone(),
        config: config.to_owned(),
    }
}
