//! The app's `rootwrap.conf`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_fs::atomic;

use super::{Edit, Kind, Planner};
use crate::Error;
use crate::rootwrap::check;
use crate::rootwrap::conf::{Conf, venv_of};
use crate::rootwrap::edited::EditedConfs;

/// A `rootwrap.conf`, and what is to be changed in it.
pub(super) struct ConfEdit {
    /// Its real path, as one of the host.
    pub(super) path: PathBuf,
    pub(super) edit: Option<Edit>,
}

impl Planner<'_> {
    /// Returns what is to be done to the file that the definition names.
    pub(super) fn rootwrap_edit(&self) -> Result<Option<ConfEdit>, Error> {
        let Some(config) = self.config() else {
            return Ok(None);
        };
        match self.conf_edit(config, self.admitted)? {
            None if !self.admitted.is_empty() => Err(check::no_config(&self.app.name, config)),
            conf => Ok(conf),
        }
    }

    /// Takes the venvs out of the files that the definition named before, and returns with what error others stay.
    pub(super) fn former_confs(
        &self,
        current: Option<&ConfEdit>,
        confs: &mut EditedConfs,
    ) -> (Vec<ConfEdit>, Vec<(PathBuf, Error)>) {
        let current = current.map(|conf| conf.path.clone());
        let mut seen: BTreeSet<PathBuf> = current.into_iter().collect();
        if !self.admitted.is_empty() {
            confs.after.clone_from(&seen);
        }
        let (mut restored, mut stuck) = (Vec::new(), Vec::new());
        for path in confs
            .before
            .iter()
            .filter(|path| !seen.contains(*path))
            .cloned()
            .collect::<Vec<_>>()
        {
            match self.conf_edit(&path, &[]) {
                // It may have become a link to another one.
                Ok(Some(conf)) if seen.insert(conf.path.clone()) => restored.push(conf),
                Ok(_) => {}
                Err(error) => {
                    confs.after.insert(path.clone());
                    stuck.push((path, error));
                }
            }
        }
        (restored, stuck)
    }

    /// Returns what is to be done to a file for it to have these venvs in front; `None` when it is not there.
    fn conf_edit(&self, config: &Path, admitted: &[VenvPath]) -> Result<Option<ConfEdit>, Error> {
        if fs::symlink_metadata(self.layout.on_disk(config)).is_err() {
            return Ok(None);
        }
        // Where a link leads, the file is edited there.
        let real = self.checker.path(config)?;
        let path = self.layout.on_disk(&real);
        let bytes = atomic::read(&path)?.ok_or_else(|| check::no_config(&self.app.name, config))?;
        let text = String::from_utf8(bytes).map_err(|_| Error::Config {
            config: config.to_owned(),
            line: 1,
            reason: "the file is not UTF-8".to_owned(),
        })?;
        let conf = Conf::parse(&text).map_err(|error| check::config_error(config, error))?;
        if !admitted.is_empty() {
            self.check_rootwrap(config, &conf)?;
        }
        let bins: Vec<String> = admitted
            .iter()
            .map(|venv| format!("{}/bin", venv.path().display()))
            .collect();
        let after = conf.with_front(&self.app.name, &bins);
        let edit = (after != text).then(|| Edit {
            kind: Kind::Rootwrap,
            path,
            before: Some(text.clone().into_bytes()),
            link: None,
            after: Some(after.into_bytes()),
            in_force: true,
        });
        Ok(Some(ConfEdit { path: real, edit }))
    }

    fn check_rootwrap(&self, config: &Path, conf: &Conf<'_>) -> Result<(), Error> {
        self.checker.conf(config, conf)?;
        let Some(entries) = conf.exec_dirs() else {
            // Then it is the PATH, which sudo makes of secure_path.
            return match self.app.sudo.is_empty() {
                false => Ok(()),
                true => Err(Error::NoExecDirs {
                    app: self.app.name.clone(),
                    config: config.to_owned(),
                }),
            };
        };
        let foreign = entries.into_iter().filter(|entry| venv_of(entry).is_none());
        let system: Vec<&Path> = foreign.map(Path::new).collect();
        self.admitted
            .iter()
            .try_for_each(|venv| self.checker.shadows(venv, &system))
    }
}
