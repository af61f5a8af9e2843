use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use venvd_app::links::{self, Link, VenvPath};
use venvd_app::{App, AppName, Layout, ProgramName, UserName, search};
use venvd_fs::{atomic, chain};

use crate::rootwrap::check::{self, Checker};
use crate::rootwrap::conf::{Conf, venv_of};
use crate::sudoers::installed::Sudo;
use crate::sudoers::model::{self, PlainPath, Rule, SecurePath};
use crate::sudoers::system::{self, DIRECTORY, Problem};
use crate::{Error, Refused};

/// The mode that sudoers(5) asks for.
pub(crate) const SUDOERS_MODE: u32 = 0o440;

/// What a file is to the policy. The order is that of writing.
///
/// It keeps every moment harmless, also when the machine dies in it: a rule comes before anything leads to it, and goes
/// after nothing does any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The app's rules.
    Rules,
    /// The `rootwrap.conf`.
    Rootwrap,
    /// The user's `secure_path`.
    SecurePath,
}

/// One file to write or remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What it is.
    pub kind: Kind,
    /// Where it lies on disk.
    pub path: PathBuf,
    /// Its contents now; `None` when it is not there.
    pub before: Option<Vec<u8>>,
    /// Its contents afterwards; `None` when it is to go.
    pub after: Option<Vec<u8>>,
}

/// What the administrator should know, and that stops nothing.
#[derive(Debug)]
pub enum Warning {
    /// Another app of the same user is left out of his `secure_path`, since its venv is missing or not safe.
    LeftOut {
        /// The other app.
        app: AppName,
        /// Why.
        reason: chain::Error,
    },
    /// A rule admits any further arguments.
    OpenEnded {
        /// The program.
        program: ProgramName,
    },
}

/// What is to be written, with all refusals behind it. Nothing has been changed yet.
#[derive(Debug)]
pub struct Plan {
    pub(crate) layout: Layout,
    pub(crate) app: AppName,
    pub(crate) user: Option<UserName>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) warnings: Vec<Warning>,
    /// What must hold by sudo's own word afterwards.
    pub(crate) rules: Vec<Rule>,
    pub(crate) secure_path: Option<SecurePath>,
    pub(crate) sudo: Option<Sudo>,
    /// When an app is turned off: why its `rootwrap.conf` stays. All else is done before it is reported.
    pub(crate) left_behind: Option<Error>,
}

impl Plan {
    /// Returns the files to write or remove, in order; none when all is so already.
    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Returns what the administrator should know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Decides what the policy of `app` must be when exactly the venvs `admitted` may be used, the first one in front.
///
/// None admitted means that the app is off. It only reads; whether the app is `enabled` is the caller's business. As a
/// preflight, it is asked for the new venv alone: a program may be missing in one of two venvs, not in all.
///
/// Other apps of the same user share its `secure_path`: those that are enabled count, with their committed venv.
///
/// # Errors
/// All that speaks against it; see [`Error`].
pub fn plan(layout: &Layout, app: &App, admitted: &[VenvPath]) -> Result<Plan, Error> {
    plan_for(layout, app, admitted, Sudo::installed()?)
}

/// As [`plan`], for a given sudo, or what is missing of it.
pub(crate) fn plan_for(
    layout: &Layout,
    app: &App,
    admitted: &[VenvPath],
    sudo: Result<Sudo, PathBuf>,
) -> Result<Plan, Error> {
    let planner = Planner {
        layout,
        app,
        admitted,
        checker: Checker { layout, app },
    };
    planner.check_venvs()?;
    let mut warnings = Vec::new();
    let rules = planner.rules(sudo.as_ref(), &mut warnings)?;
    let secure_path = planner.secure_path(&mut warnings)?;
    let mut edits = vec![planner.rules_edit(&rules)?];
    if let Some(user) = &app.user {
        edits.push(planner.path_edit(user, secure_path.as_ref())?);
    }
    let mut left_behind = None;
    match planner.rootwrap_edit() {
        Ok(edit) => edits.push(edit),
        // An app must always be possible to turn off: its rules go, whatever became of its rootwrap.conf.
        Err(error) if admitted.is_empty() => left_behind = Some(error),
        Err(error) => return Err(error),
    }
    let mut edits: Vec<Edit> = edits.into_iter().flatten().collect();
    edits.sort_by_key(|edit| edit.kind);
    if admitted.is_empty() {
        edits.reverse();
    }
    let missing = edits
        .iter()
        .any(|edit| edit.kind != Kind::Rootwrap && edit.after.is_some());
    let sudo = match sudo {
        Ok(sudo) => Some(sudo),
        Err(missing_path) if missing => return Err(planner.no_sudo(&missing_path)),
        Err(_) => None,
    };
    Ok(Plan {
        layout: layout.clone(),
        app: app.name.clone(),
        user: app.user.clone(),
        edits,
        warnings,
        rules,
        secure_path,
        sudo,
        left_behind,
    })
}

struct Planner<'a> {
    layout: &'a Layout,
    app: &'a App,
    admitted: &'a [VenvPath],
    checker: Checker<'a>,
}

impl Planner<'_> {
    fn refused(&self, source: Refused) -> Error {
        Error::Refused {
            app: self.app.name.clone(),
            source,
        }
    }

    fn no_sudo(&self, missing: &Path) -> Error {
        Error::NoSudo {
            app: self.app.name.clone(),
            missing: missing.to_owned(),
        }
    }

    fn check_venvs(&self) -> Result<(), Error> {
        if let Some(venv) = self.admitted.iter().find(|venv| venv.name().app() != &self.app.name) {
            return Err(Error::Foreign {
                app: self.app.name.clone(),
                venv: venv.name().clone(),
            });
        }
        if self.app.sudo.is_empty() && self.app.rootwrap.is_none() {
            return Ok(());
        }
        self.admitted.iter().try_for_each(|venv| self.checker.venv(venv))
    }

    fn rules(&self, sudo: Result<&Sudo, &PathBuf>, warnings: &mut Vec<Warning>) -> Result<Vec<Rule>, Error> {
        let (Some(first), Some(user)) = (self.admitted.first(), &self.app.user) else {
            return Ok(Vec::new());
        };
        if self.app.sudo.is_empty() {
            return Ok(Vec::new());
        }
        let sudo = sudo.map_err(|missing| self.no_sudo(missing))?;
        self.check_destination(user)?;
        let mut rules = Vec::new();
        for command in &self.app.sudo {
            if command.open_ended && !sudo.honours_star() {
                return Err(Error::OpenEnded {
                    app: self.app.name.clone(),
                    version: sudo.version.to_string(),
                    command: format!("{} {} *", command.program, command.arguments.join(" ")),
                });
            }
            let before = rules.len();
            for venv in self.admitted {
                if let Some(path) = self.checker.program(venv, &command.program)? {
                    rules.push(Rule::new(user, &path, command).map_err(|refused| self.refused(refused))?);
                }
            }
            if rules.len() == before {
                return Err(Error::MissingProgram {
                    app: self.app.name.clone(),
                    program: command.program.clone(),
                    venv: first.name().clone(),
                });
            }
            if command.open_ended {
                warnings.push(Warning::OpenEnded {
                    program: command.program.clone(),
                });
            }
        }
        Ok(rules)
    }

    fn check_destination(&self, user: &UserName) -> Result<(), Error> {
        let directory = self.layout.on_disk(DIRECTORY);
        if !directory.is_dir() {
            return Err(self.no_sudo(&directory));
        }
        self.checker.path(Path::new(DIRECTORY))?;
        // Below another root, the users are those of a host that we are not on.
        if self.layout.root().is_host() && !matches!(nix::unistd::User::from_name(user.as_str()), Ok(Some(_))) {
            return Err(Error::NoUser {
                app: self.app.name.clone(),
                user: user.clone(),
            });
        }
        Ok(())
    }

    fn rules_edit(&self, rules: &[Rule]) -> Result<Option<Edit>, Error> {
        let text = (!rules.is_empty()).then(|| model::rules_file(&self.app.name, rules));
        sudoers_edit(Kind::Rules, self.layout.sudoers(&self.app.name), text)
    }

    fn path_edit(&self, user: &UserName, path: Option<&SecurePath>) -> Result<Option<Edit>, Error> {
        let text = path.map(|path| model::path_file(user, path)).transpose();
        let text = text.map_err(|refused| self.refused(refused))?;
        sudoers_edit(Kind::SecurePath, self.layout.sudoers_path_of(user), text)
    }

    /// Returns the user's `secure_path` over all of his apps; `None` when none of them needs one.
    fn secure_path(&self, warnings: &mut Vec<Warning>) -> Result<Option<SecurePath>, Error> {
        let Some(user) = &self.app.user else { return Ok(None) };
        let mut front = self.of_other_apps(user, warnings)?;
        if !self.app.sudo.is_empty() {
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
        Ok(Some(SecurePath::new(front, &self.system_path(user)?)))
    }

    fn system_path(&self, user: &UserName) -> Result<Vec<PlainPath>, Error> {
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
        let declared = search::load(self.layout);
        let installed = self.installed(user)?;
        // Whose definition or link can't be read keeps what it has: an error elsewhere must not stop its service.
        let mut kept: Vec<AppName> = declared.broken.into_keys().collect();
        let mut found = BTreeMap::new();
        for (name, other) in declared.apps {
            let counts = declared.settings.enabled && other.enabled && !other.sudo.is_empty();
            if name == self.app.name || !counts || other.user.as_ref() != Some(user) {
                continue;
            }
            match links::read(self.layout, Link::Committed, &name) {
                Ok(Some(venv)) => match chain::check(self.layout.root(), &venv.path().join("bin")) {
                    Ok(_) => drop(found.insert(name, vec![venv])),
                    Err(reason) => warnings.push(Warning::LeftOut { app: name, reason }),
                },
                Ok(None) => {}
                Err(_) => kept.push(name),
            }
        }
        for name in kept.into_iter().filter(|name| *name != self.app.name) {
            let venvs = installed.iter().filter(|venv| *venv.name().app() == name);
            found.insert(name.clone(), venvs.cloned().collect());
        }
        Ok(found)
    }

    /// Returns the venvs in the user's `secure_path` as it is written now.
    fn installed(&self, user: &UserName) -> Result<Vec<VenvPath>, Error> {
        let text = atomic::read(&self.layout.sudoers_path_of(user))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Ok(text.split(['"', ':', '\n']).filter_map(venv_of).collect())
    }

    fn rootwrap_edit(&self) -> Result<Option<Edit>, Error> {
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

/// Returns the edit that makes a file below `sudoers.d` right, if it is not.
fn sudoers_edit(kind: Kind, path: PathBuf, text: Option<String>) -> Result<Option<Edit>, Error> {
    let before = atomic::read(&path)?;
    let after = text.map(String::into_bytes);
    let same = before == after && (after.is_none() || has_attributes(&path));
    Ok((!same).then_some(Edit {
        kind,
        path,
        before,
        after,
    }))
}

fn has_attributes(path: &Path) -> bool {
    // Any doubt means "no": writing again is always right.
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.mode() & 0o7777 == SUDOERS_MODE && metadata.uid() == nix::unistd::geteuid().as_raw()
    })
}

#[cfg(test)]
mod tests;
