use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::value::SudoCommand;
use venvd_app::{App, AppName, Layout, ProgramName, UserName};

use crate::place::{Place, text_of};
use crate::rootwrap::check::Checker;
use crate::rootwrap::edited::EditedConfs;
use crate::sudoers::installed::Sudo;
use crate::sudoers::model::{self, Rule, SecurePath};
use crate::sudoers::system::DIRECTORY;
use crate::{Error, Refused, Warning};

mod edit;
mod rootwrap;
mod secure_path;

pub(crate) use edit::SUDOERS_MODE;
pub use edit::{Edit, Edited, Kind};

/// What is to be written, with all refusals behind it. Nothing has been changed yet.
#[derive(Debug)]
pub struct Plan {
    pub(crate) layout: Layout,
    pub(crate) app: AppName,
    pub(crate) user: Option<UserName>,
    pub(crate) edits: Vec<Edit>,
    /// Where the files lie, also those that are as they should be.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) warnings: Vec<Warning>,
    /// What must hold by sudo's own word afterwards.
    pub(crate) rules: Vec<Rule>,
    pub(crate) secure_path: Option<SecurePath>,
    pub(crate) sudo: Option<Sudo>,
    /// When an app is turned off: why one of its other files stays. All else is done before it is reported.
    pub(crate) left_behind: Option<Error>,
    /// What is written down of the `rootwrap.conf` files.
    pub(crate) confs: EditedConfs,
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

    /// Returns which sudo was found, where one was needed: `sudo 1.9.13`.
    #[must_use]
    pub fn sudo(&self) -> Option<String> {
        self.sudo.as_ref().map(ToString::to_string)
    }

    /// Returns the rules that are to hold, one a line.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }

    /// Returns the user's `secure_path` that is to hold.
    #[must_use]
    pub fn secure_path(&self) -> Option<String> {
        self.secure_path.as_ref().map(ToString::to_string)
    }

    /// Refuses what would overwrite an administrator's edit, or says what becomes of it.
    fn settle_edited(&mut self, edited: Edited) -> Result<(), Error> {
        for edit in self.edits.iter().filter(|edit| edit.is_over_edited()) {
            if edited == Edited::Refuse {
                return Err(Error::Edited {
                    app: self.app.clone(),
                    path: edit.path.clone(),
                });
            }
            self.warnings.push(Warning::Edited {
                path: edit.path.clone(),
                aside: edit.aside(),
            });
        }
        Ok(())
    }
}

/// Decides what the policy of `app` must be when exactly the venvs `admitted` may be used, the first one in front.
///
/// None admitted means that the app is off. It only reads; whether the app is `enabled` is the caller's business. As a
/// preflight, it is asked for the new venv alone: a program may be missing in one of two venvs, not in all.
///
/// Other apps of the same user share its `secure_path`: those count that are on, with the venv that is in force.
///
/// With none admitted, edited files are set aside whatever is asked for: an app must always be possible to turn off.
///
/// # Errors
/// All that speaks against it; see [`Error`].
pub fn plan(layout: &Layout, app: &App, admitted: &[VenvPath], edited: Edited) -> Result<Plan, Error> {
    let mut plan = plan_for(layout, app, admitted, || Sudo::installed(&app.name))?;
    plan.settle_edited(if admitted.is_empty() { Edited::SetAside } else { edited })?;
    Ok(plan)
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
    let mut directories = vec![layout.on_disk(DIRECTORY)];
    let mut left_behind = None;
    let mut confs = EditedConfs::read(layout, &app.name)?;
    let current = match planner.rootwrap_edit() {
        Ok(conf) => conf,
        // An app must always be possible to turn off: its rules go, whatever became of its rootwrap.conf.
        Err(error) if admitted.is_empty() => {
            left_behind = Some(error);
            None
        }
        Err(error) => return Err(error),
    };
    let (former, stuck) = planner.former_confs(current.as_ref(), &mut confs);
    for (path, error) in stuck {
        if admitted.is_empty() {
            left_behind.get_or_insert(error);
        } else {
            warnings.push(Warning::LeftBehind {
                app: app.name.clone(),
                path,
                reason: error,
            });
        }
    }
    for conf in current.into_iter().chain(former) {
        directories.extend(conf.path.parent().map(|directory| layout.on_disk(directory)));
        edits.push(conf.edit);
    }
    let mut edits: Vec<Edit> = edits.into_iter().flatten().collect();
    edits.sort_by_key(|edit| edit.kind);
    if edits.iter().all(Edit::adds_no_rule) {
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
        directories,
        warnings,
        rules,
        secure_path,
        sudo,
        left_behind,
        confs,
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
        self.refused_at(Place::of_user(self.layout, self.app), source)
    }

    fn refused_at(&self, place: Box<Place>, source: Refused) -> Error {
        Error::Refused {
            app: self.app.name.clone(),
            place,
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
        for (place, command) in Place::of_commands(self.layout, self.app) {
            if command.open_ended && !sudo.honours_star() {
                return Err(Error::OpenEnded {
                    app: self.app.name.clone(),
                    place,
                    version: sudo.version.to_string(),
                    command: text_of(command),
                });
            }
            self.check_arguments(&place, command)?;
            let before = rules.len();
            for venv in self.admitted {
                if let Some(path) = self.checker.program(venv, &command.program)? {
                    let rule = Rule::new(user, &path, command);
                    rules.push(rule.map_err(|refused| self.refused_at(place.clone(), refused))?);
                }
            }
            if rules.len() == before {
                return Err(Error::MissingProgram {
                    app: self.app.name.clone(),
                    place,
                    program: command.program.clone(),
                    venv: first.name().clone(),
                });
            }
            if command.cannot_be_pinned() {
                warnings.push(Warning::Unsafe {
                    place,
                    command: text_of(command),
                    user: user.clone(),
                });
            } else if command.open_ended {
                warnings.push(self.open_ended(place, command));
            }
        }
        Ok(rules)
    }

    fn open_ended(&self, place: Box<Place>, command: &SudoCommand) -> Warning {
        let config = self.config();
        let named = |argument: &String| config == Some(Path::new(argument));
        Warning::OpenEnded {
            place,
            command: text_of(command),
            rootwrap: is_rootwrap(&command.program) || command.arguments.iter().any(named),
        }
    }

    /// Refuses files that somebody else than root could write: they say what root does.
    fn check_arguments(&self, place: &Place, command: &SudoCommand) -> Result<(), Error> {
        let mut arguments = command.arguments.iter().map(Path::new);
        if is_rootwrap(&command.program) {
            // That file is looked at with all that it names.
            let config = arguments.next();
            if config.is_some() && config != self.config() {
                return Err(Error::UncheckedRootwrap {
                    app: self.app.name.clone(),
                    place: Box::new(place.clone()),
                    config: config.map(Path::to_path_buf).unwrap_or_default(),
                });
            }
        }
        let mut paths = arguments.filter(|argument| argument.is_absolute());
        paths.try_for_each(|path| self.checker.existing(path).map(drop))
    }

    /// Returns the `rootwrap.conf` of the definition.
    fn config(&self) -> Option<&Path> {
        self.app.rootwrap.as_ref().map(|rootwrap| rootwrap.config.as_path())
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
        Edit::of_sudoers(Kind::Rules, self.layout.sudoers(&self.app.name), text)
    }

    fn path_edit(&self, user: &UserName, path: Option<&SecurePath>) -> Result<Option<Edit>, Error> {
        let text = path.map(|path| model::path_file(user, path)).transpose();
        let text = text.map_err(|refused| self.refused(refused))?;
        Edit::of_sudoers(Kind::SecurePath, self.layout.sudoers_path_of(user), text)
    }
}

/// `nova-rootwrap`, `oslo-rootwrap-daemon`: their first argument is the configuration (`oslo_rootwrap.cmd`).
fn is_rootwrap(program: &ProgramName) -> bool {
    let name = program.as_str();
    name.strip_suffix("-daemon").unwrap_or(name).ends_with("rootwrap")
}

#[cfg(test)]
mod tests;
