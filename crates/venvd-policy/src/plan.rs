use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::{App, AppName, Layout, ProgramName, UserName};
use venvd_fs::{atomic, chain};

use crate::rootwrap::check::Checker;
use crate::sudoers::installed::Sudo;
use crate::sudoers::model::{self, Rule, SecurePath};
use crate::sudoers::system::DIRECTORY;
use crate::{Error, Refused};

mod rootwrap;
mod secure_path;

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
    plan_for(layout, app, admitted, || Sudo::installed(&app.name))
}

/// As [`plan`], with a given way to find the installed sudo. It is only asked for where a sudoers file is written: a
/// broken or missing sudo must not keep an app from being turned off.
pub(crate) fn plan_for(
    layout: &Layout,
    app: &App,
    admitted: &[VenvPath],
    installed: impl Fn() -> Result<Sudo, Error>,
) -> Result<Plan, Error> {
    let planner = Planner {
        layout,
        app,
        admitted,
        checker: Checker { layout, app },
    };
    planner.check_venvs()?;
    let mut warnings = Vec::new();
    let mut sudo = None;
    let mut rules = Vec::new();
    if !admitted.is_empty() && !app.sudo.is_empty() {
        rules = planner.rules(sudo.insert(installed()?), &mut warnings)?;
    }
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
    let writes = |edit: &Edit| edit.kind != Kind::Rootwrap && edit.after.is_some();
    if sudo.is_none() && edits.iter().any(writes) {
        sudo = Some(installed()?);
    }
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

    fn rules(&self, sudo: &Sudo, warnings: &mut Vec<Warning>) -> Result<Vec<Rule>, Error> {
        let (Some(first), Some(user)) = (self.admitted.first(), &self.app.user) else {
            return Ok(Vec::new());
        };
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
            return Err(Error::NoSudo {
                app: self.app.name.clone(),
                missing: directory,
            });
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
