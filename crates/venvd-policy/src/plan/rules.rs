//! The rules of an app, and what speaks against them.

use std::path::Path;

use venvd_app::links::VenvPath;
use venvd_app::value::SudoCommand;
use venvd_app::{ProgramName, UserName};

use super::Planner;
use crate::place::{Place, text_of};
use crate::sudoers::installed::Sudo;
use crate::sudoers::model::Rule;
use crate::sudoers::system::DIRECTORY;
use crate::{Error, Warning};

impl Planner<'_> {
    /// Returns the rules for the venvs that are admitted.
    pub(super) fn rules(&self, sudo: &Sudo, warnings: &mut Vec<Warning>) -> Result<Vec<Rule>, Error> {
        let (Some(first), Some(user)) = (self.admitted.first(), &self.app.user) else {
            return Ok(Vec::new());
        };
        self.check_destination(user)?;
        // Which one is in front means nothing to rules with full paths: when they take turns, the file stays as it is.
        let mut venvs: Vec<&VenvPath> = self.admitted.iter().collect();
        venvs.sort();
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
            for venv in &venvs {
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
    pub(super) fn config(&self) -> Option<&Path> {
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
}

/// `nova-rootwrap`, `oslo-rootwrap-daemon`: their first argument is the configuration (`oslo_rootwrap.cmd`).
fn is_rootwrap(program: &ProgramName) -> bool {
    let name = program.as_str();
    name.strip_suffix("-daemon").unwrap_or(name).ends_with("rootwrap")
}
