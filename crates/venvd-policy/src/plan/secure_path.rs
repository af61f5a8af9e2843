//! A user's `secure_path`, merged over all of his apps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use venvd_app::cmdline::Switch;
use venvd_app::in_force::{self, Switches};
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, UserName};

use super::{Edit, LeftBehind, Planner, Warning, present};
use crate::Error;
use crate::rootwrap::conf::venv_of;
use crate::sudoers::model::{PlainPath, SecurePath};
use crate::sudoers::system::{self, Problem, SystemPath};

impl Planner<'_> {
    /// Returns the `secure_path` that is to hold for the app's user, and the edits of all such files that its venvs are or
    /// were in: a user whom the definition names no more keeps them in his otherwise.
    pub(super) fn path_edits(
        &self,
        warnings: &mut Vec<Warning>,
        left: &mut LeftBehind,
    ) -> Result<(Option<SecurePath>, Vec<Option<Edit>>), Error> {
        let mut own = None;
        let mut edits = Vec::new();
        let mut users: Vec<UserName> = self.app.user.iter().cloned().collect();
        for user in system::users_with_path(self.layout)? {
            let is_in = |venv: &VenvPath| venv.name().app() == &self.app.name;
            if !users.contains(&user) && venvs_in_path(self.layout, &user)?.iter().any(is_in) {
                users.push(user);
            }
        }
        for user in users {
            let path = self.secure_path(&user, warnings);
            let edit = path.and_then(|path| Ok((self.path_edit(&user, path.as_ref())?, path)));
            let Some((edit, path)) = left.allow(edit)? else {
                continue;
            };
            edits.push(edit);
            if self.app.user.as_ref() == Some(&user) {
                own = path;
            }
        }
        Ok((own, edits))
    }

    /// Returns a user's `secure_path` over all of his apps; `None` when none of them needs one.
    fn secure_path(&self, user: &UserName, warnings: &mut Vec<Warning>) -> Result<Option<SecurePath>, Error> {
        let mut front = self.of_other_apps(user, warnings)?;
        if self.app.user.as_ref() == Some(user) && !self.app.sudo.is_empty() {
            front.insert(self.app.name.clone(), self.admitted.to_vec());
        }
        // By the apps' names, so that whichever of them is written last, the result is the same.
        let front = front
            .values()
            .flatten()
            .map(|venv| PlainPath::new(&venv.path().join("bin")));
        let front: Vec<_> = front
            .collect::<Result<_, _>>()
            .map_err(|refused| self.refused(refused))?;
        if front.is_empty() {
            return Ok(None);
        }
        let system = self.system_path(user)?;
        warnings.extend(system.unclear.into_iter().map(|line| Warning::Unclear { line }));
        Ok(Some(SecurePath::new(front, &system.directories)))
    }

    /// Refuses programs of the venv that would hide the system's from `sudo NAME`, and from what root runs by its PATH.
    pub(super) fn check_secure_path(&self) -> Result<(), Error> {
        let Some(user) = self.app.user.as_ref().filter(|_| !self.app.sudo.is_empty()) else {
            return Ok(());
        };
        let path = self.system_path(user)?;
        let directories: Vec<&Path> = path.directories.iter().map(|path| Path::new(path.as_str())).collect();
        let mut venvs = self.admitted.iter();
        venvs.try_for_each(|venv| self.checker.shadows(venv, &directories))
    }

    fn system_path(&self, user: &UserName) -> Result<SystemPath, Error> {
        system::secure_path(self.layout, user).map_err(|problem| match problem {
            Problem::Io(error) => error.into(),
            Problem::Refused(source) => Error::SystemPath { source },
        })
    }

    fn of_other_apps(
        &self,
        user: &UserName,
        warnings: &mut Vec<Warning>,
    ) -> Result<BTreeMap<AppName, Vec<VenvPath>>, Error> {
        let declared = &self.declared;
        let switches = Switches {
            host: declared.settings.enabled,
            kernel: Switch::of_this_boot(self.layout),
        };
        let installed = venvs_in_path(self.layout, user)?;
        // These keep what they have. Whose definition or link can't be read: an error elsewhere must not stop its service.
        let mut kept: Vec<AppName> = declared.broken.keys().cloned().collect();
        let mut found = BTreeMap::new();
        for (name, other) in &declared.apps {
            if name == &self.app.name || other.sudo.is_empty() || other.user.as_ref() != Some(user) {
                continue;
            }
            // An activation of it is open, or was a moment ago: it says itself what comes first.
            let is_moving = [self.layout.pending(name), self.layout.leaving(name)];
            if is_moving.iter().any(|path| fs::symlink_metadata(path).is_ok()) {
                kept.push(name.clone());
                continue;
            }
            match in_force::of_app(self.layout, other, &switches).map(|in_force| in_force.venv) {
                Ok(Some(venv)) => match self.layout.trusted(&venv.path().join("bin")) {
                    Ok(_) => drop(found.insert(name.clone(), vec![venv])),
                    Err(reason) => warnings.push(Warning::LeftOut {
                        app: name.clone(),
                        reason,
                    }),
                },
                Ok(None) => {}
                Err(_) => kept.push(name.clone()),
            }
        }
        for name in kept.into_iter().filter(|name| *name != self.app.name) {
            let venvs = installed.iter().filter(|venv| *venv.name().app() == name);
            found.insert(name.clone(), venvs.cloned().collect());
        }
        Ok(found)
    }
}

/// Returns the venvs in a user's `secure_path` as it is written now.
pub(crate) fn venvs_in_path(layout: &Layout, user: &UserName) -> Result<Vec<VenvPath>, Error> {
    let text = present(&layout.sudoers_path_of(user))?.0.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(text.split(['"', ':', '\n']).filter_map(venv_of).collect())
}
