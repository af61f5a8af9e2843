//! The app's `rootwrap.conf`.

use std::fs;
use std::path::{Path, PathBuf};

use venvd_fs::atomic;

use super::{Edit, Kind, Planner};
use crate::Error;
use crate::rootwrap::check;
use crate::rootwrap::conf::{Conf, venv_of};

impl Planner<'_> {
    /// Returns the edit, and adds the directory of the file, also where there is nothing to edit.
    pub(super) fn rootwrap_edit(&self, directories: &mut Vec<PathBuf>) -> Result<Option<Edit>, Error> {
        let Some(rootwrap) = &self.app.rootwrap else {
            return Ok(None);
        };
        let config: &Path = &rootwrap.config;
        if fs::symlink_metadata(self.layout.on_disk(config)).is_err() {
            return match self.admitted {
                [] => Ok(None),
                _ => Err(check::no_config(&self.app.name, config)),
            };
        }
        // Where a link leads, the file is edited there.
        let path = self.layout.on_disk(self.checker.path(config)?);
        directories.extend(path.parent().map(Path::to_path_buf));
        let bytes = atomic::read(&path)?.ok_or_else(|| check::no_config(&self.app.name, config))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::Config {
            config: config.to_owned(),
            line: 1,
            reason: "the file is not UTF-8".to_owned(),
        })?;
        let conf = Conf::parse(&text).map_err(|error| check::config_error(config, error))?;
        if !self.admitted.is_empty() {
            self.check_rootwrap(config, &conf)?;
        }
        let bins: Vec<String> = self
            .admitted
            .iter()
            .map(|venv| format!("{}/bin", venv.path().display()))
            .collect();
        let after = conf.with_front(&self.app.name, &bins);
        Ok((after != text).then(|| Edit {
            kind: Kind::Rootwrap,
            path,
            before: Some(text.clone().into_bytes()),
            after: Some(after.into_bytes()),
        }))
    }

    fn check_rootwrap(&self, config: &Path, conf: &Conf<'_>) -> Result<(), Error> {
        self.checker.conf(config, conf)?;
        let system: Vec<PathBuf> = match (conf.exec_dirs(), &self.app.user) {
            (Some(entries), _) => {
                let foreign = entries.into_iter().filter(|entry| venv_of(entry).is_none());
                foreign.map(PathBuf::from).collect()
            }
            (None, Some(user)) if !self.app.sudo.is_empty() => self
                .system_path(user)?
                .directories
                .iter()
                .map(|path| PathBuf::from(path.as_str()))
                .collect(),
            (None, _) => {
                return Err(Error::NoExecDirs {
                    app: self.app.name.clone(),
                    config: config.to_owned(),
                });
            }
        };
        let system: Vec<&Path> = system.iter().map(PathBuf::as_path).collect();
        self.admitted
            .iter()
            .try_for_each(|venv| self.checker.shadows(venv, &system))
    }
}
