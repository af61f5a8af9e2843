//! The command line.
//!
//! Options end at COMMAND: what follows is the command's, dashes and all. Parsed by hand over lexopt, since a
//! parser with generated help costs more time at start than all else here.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use venvd_app::{AppName, Tag, UserName, VenvName};
use venvd_unit::UnitId;

use crate::error::Error;
use crate::unit;

pub(crate) const HELP: &str = "\
Run a command in the venv of an app that is in force, as the app's user

Usage: venv-activate [OPTIONS] APP[:TAG] [--] COMMAND [ARGUMENT]...

The command is looked up in the venv first, then in PATH. Options must come before it.

Options:
      --user USER  run it as this user; only root can
      --as-self    run it as you are; not for root, since nothing in a venv runs as root
      --unit UNIT  with the variables, umask, directory and limits of this unit
      --cd DIR     run it in this directory [default: where you are, or what the unit says]
  -h, --help       print this help
  -V, --version    print the version

Exit status: the command's own; else 2 wrong usage, 125 not done, 126 can't be used, 127 not found.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Version,
    Run(Invocation),
}

/// A command to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) app: AppName,
    /// The venv's tag; none means the one in force.
    pub(crate) tag: Option<Tag>,
    pub(crate) run_as: RunAs,
    pub(crate) unit: Option<UnitId>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) command: OsString,
    pub(crate) arguments: Vec<OsString>,
}

/// Who the command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// The user in the app's definition.
    AppUser,
    /// `--user`.
    User(UserName),
    /// `--as-self`.
    Caller,
}

/// Reads the command line, the program's name first.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Request, Error> {
    let mut line = line.into_iter();
    line.next();
    let mut parser = lexopt::Parser::from_args(line);
    let mut target = None;
    let mut run_as = RunAs::AppUser;
    let mut unit = None;
    let mut directory = None;
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Short('h') | Long("help") => return Ok(Request::Help),
            Short('V') | Long("version") => return Ok(Request::Version),
            Long("user") => {
                let user = parser.value().and_then(|value| value.parse()).map_err(usage)?;
                choose(&mut run_as, RunAs::User(user))?;
            }
            Long("as-self") => choose(&mut run_as, RunAs::Caller)?,
            Long("unit") => {
                let text = parser.value().and_then(ValueExt::string).map_err(usage)?;
                unit = Some(unit::name(&text).map_err(Error::Usage)?);
            }
            Long("cd") => directory = Some(parser.value().map_err(usage)?.into()),
            Value(value) if target.is_none() => target = Some(parse_target(&value.string().map_err(usage)?)?),
            Value(command) => {
                let arguments = parser.raw_args().map_err(usage)?.collect();
                let (app, tag) = target.ok_or_else(no_app)?;
                return Ok(Request::Run(Invocation {
                    app,
                    tag,
                    run_as,
                    unit,
                    directory,
                    command,
                    arguments,
                }));
            }
            unknown => return Err(usage(unknown.unexpected())),
        }
    }
    match target {
        None => Err(no_app()),
        // Here an interactive shell will start one day.
        Some((app, _)) => Err(Error::Usage(format!(
            "no command is given; as in: venv-activate {app} -- python -V"
        ))),
    }
}

fn parse_target(text: &str) -> Result<(AppName, Option<Tag>), Error> {
    if text.contains(':') {
        let name: VenvName = text.parse().map_err(usage)?;
        Ok((name.app().clone(), Some(name.tag().clone())))
    } else {
        Ok((text.parse().map_err(usage)?, None))
    }
}

fn choose(run_as: &mut RunAs, choice: RunAs) -> Result<(), Error> {
    if *run_as != RunAs::AppUser {
        return Err(Error::Usage("only one of --user and --as-self, and once".to_owned()));
    }
    *run_as = choice;
    Ok(())
}

fn no_app() -> Error {
    Error::Usage("no app is given".to_owned())
}

fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Request, Error> {
        parse(["venv-activate"].iter().chain(words).map(OsString::from))
    }

    fn run(words: &[&str]) -> Invocation {
        match parse_words(words) {
            Ok(Request::Run(invocation)) => invocation,
            other => panic!("{words:?} gave {other:?}"),
        }
    }

    #[test]
    fn everything_after_the_command_is_the_commands() {
        for words in [
            ["nova", "nova-manage", "--user", "x", "--", "-h"].as_slice(),
            &["nova", "--", "nova-manage", "--user", "x", "--", "-h"],
            &["--", "nova", "nova-manage", "--user", "x", "--", "-h"],
        ] {
            let invocation = run(words);
            assert_eq!(invocation.app.as_str(), "nova");
            assert_eq!(invocation.tag, None);
            assert_eq!(invocation.run_as, RunAs::AppUser);
            assert_eq!(invocation.command, "nova-manage");
            assert_eq!(invocation.arguments, ["--user", "x", "--", "-h"]);
        }
        assert_eq!(run(&["nova", "--", "-x"]).command, "-x");
    }

    #[test]
    fn options_stand_before_or_after_the_app() {
        for words in [
            ["--user", "glance", "--cd=/srv", "--unit=x", "nova:29.2.0", "true"].as_slice(),
            &[
                "nova:29.2.0",
                "--cd",
                "/srv",
                "--user=glance",
                "--unit",
                "x.service",
                "--",
                "true",
            ],
        ] {
            let invocation = run(words);
            assert_eq!(invocation.tag.unwrap().as_str(), "29.2.0");
            assert_eq!(invocation.run_as, RunAs::User("glance".parse().unwrap()));
            assert_eq!(invocation.unit.unwrap().as_str(), "x.service");
            assert_eq!(invocation.directory.unwrap(), PathBuf::from("/srv"));
        }
        assert_eq!(run(&["--as-self", "nova", "true"]).run_as, RunAs::Caller);
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        assert_eq!(parse_words(&["-h"]).unwrap(), Request::Help);
        assert_eq!(parse_words(&["nova", "--help"]).unwrap(), Request::Help);
        assert_eq!(parse_words(&["--version"]).unwrap(), Request::Version);
    }

    #[test]
    fn wrong_usage_is_refused_with_its_reason() {
        for (words, reason) in [
            ([].as_slice(), "no app"),
            (&["nova"], "no command"),
            (&["nova", "--"], "no command"),
            (&["Nova", "true"], "not an app name"),
            (&["../etc", "true"], "not an app name"),
            (&["nova:", "true"], "not a tag"),
            (&["nova:../../x", "true"], "not a tag"),
            (&["--shell", "nova", "true"], "--shell"),
            (&["--user"], "--user"),
            (&["--user", "root:x", "nova", "true"], "user name"),
            (&["--user", "a", "--as-self", "nova", "true"], "only one"),
            (&["--unit=x.socket", "nova", "true"], "no service"),
            (&["--unit=a/b", "nova", "true"], "not a unit name"),
            (&["--as-self=yes", "nova", "true"], "--as-self"),
        ] {
            let error = parse_words(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
            assert!(error.to_string().contains(reason), "{words:?}: {error}");
        }
    }
}
