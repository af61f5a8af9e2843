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
use crate::shell::Kind;
use crate::unit;

pub(crate) const HELP: &str = "\
Run a command in the venv of an app that is in force, as the app's user

Usage: venv-activate [OPTIONS] APP[:TAG] [--] [COMMAND [ARGUMENT]...]
       eval \"$(venv-activate --print APP[:TAG])\"

The command is looked up in the venv first, then in PATH. Options must come before it. Without one, an interactive
shell is started. --print gives your own shell the venv, and a function `deactivate`.

Options:
      --user USER  run it as this user; only root can
      --as-self    run it as you are; not for root, since nothing in a venv runs as root
      --unit UNIT  with the variables, umask, directory and limits of this unit
      --cd DIR     run it in this directory [default: where you are, or what the unit says]
      --shell KIND bash, zsh, fish or sh [default: yours; with --print, the one that asks]
      --print      print what your own shell has to evaluate, and run nothing
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
    /// What a shell must be told to have the venv itself; of which kind it is, where that is said.
    Print(Target, Option<Kind>),
}

/// The venv that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) app: AppName,
    /// None means the one in force.
    pub(crate) tag: Option<Tag>,
}

/// Something to run in a venv.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) target: Target,
    pub(crate) run_as: RunAs,
    pub(crate) unit: Option<UnitId>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) program: Program,
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Command {
        name: OsString,
        arguments: Vec<OsString>,
    },
    /// An interactive shell, of which kind where that is said.
    Shell(Option<Kind>),
}

/// Who it runs as.
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
    let mut print = false;
    let mut shell = None;
    let mut run_as = RunAs::AppUser;
    let mut unit = None;
    let mut directory = None;
    let mut command = None;
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Short('h') | Long("help") => return Ok(Request::Help),
            Short('V') | Long("version") => return Ok(Request::Version),
            Long("print") => print = true,
            Long("shell") => shell = Some(parser.value().and_then(|value| value.parse()).map_err(usage)?),
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
            Value(name) => {
                let arguments = parser.raw_args().map_err(usage)?.collect();
                command = Some(Program::Command { name, arguments });
            }
            unknown => return Err(usage(unknown.unexpected())),
        }
    }
    let target = target.ok_or_else(|| Error::Usage("no app is given".to_owned()))?;
    if print {
        let alone = command.is_none() && run_as == RunAs::AppUser && unit.is_none() && directory.is_none();
        return if alone {
            Ok(Request::Print(target, shell))
        } else {
            Err(Error::Usage(
                "--print is for your own shell: --shell alone goes with it".to_owned(),
            ))
        };
    }
    let program = match (command, shell) {
        (Some(_), Some(_)) => return Err(Error::Usage("--shell is for when there is no command".to_owned())),
        (Some(command), None) => command,
        (None, shell) => Program::Shell(shell),
    };
    Ok(Request::Run(Invocation {
        target,
        run_as,
        unit,
        directory,
        program,
    }))
}

fn parse_target(text: &str) -> Result<Target, Error> {
    if text.contains(':') {
        let name: VenvName = text.parse().map_err(usage)?;
        Ok(Target {
            app: name.app().clone(),
            tag: Some(name.tag().clone()),
        })
    } else {
        Ok(Target {
            app: text.parse().map_err(usage)?,
            tag: None,
        })
    }
}

fn choose(run_as: &mut RunAs, choice: RunAs) -> Result<(), Error> {
    if *run_as != RunAs::AppUser {
        return Err(Error::Usage("only one of --user and --as-self, and once".to_owned()));
    }
    *run_as = choice;
    Ok(())
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

    fn target(app: &str, tag: Option<&str>) -> Target {
        Target {
            app: app.parse().unwrap(),
            tag: tag.map(|tag| tag.parse().unwrap()),
        }
    }

    fn command(name: &str, arguments: &[&str]) -> Program {
        Program::Command {
            name: name.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
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
            assert_eq!(invocation.target, target("nova", None));
            assert_eq!(invocation.run_as, RunAs::AppUser);
            assert_eq!(invocation.program, command("nova-manage", &["--user", "x", "--", "-h"]));
        }
        assert_eq!(run(&["nova", "--", "-x"]).program, command("-x", &[]));
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
            assert_eq!(invocation.target, target("nova", Some("29.2.0")));
            assert_eq!(invocation.run_as, RunAs::User("glance".parse().unwrap()));
            assert_eq!(invocation.unit.unwrap().as_str(), "x.service");
            assert_eq!(invocation.directory.unwrap(), PathBuf::from("/srv"));
        }
        assert_eq!(run(&["--as-self", "nova", "true"]).run_as, RunAs::Caller);
    }

    #[test]
    fn without_a_command_it_is_a_shell() {
        for (words, kind) in [
            (["nova"].as_slice(), None),
            (&["nova", "--"], None),
            (&["--shell=zsh", "nova"], Some(Kind::Zsh)),
            (&["nova", "--shell", "sh"], Some(Kind::Sh)),
        ] {
            assert_eq!(run(words).program, Program::Shell(kind), "{words:?}");
        }
        for (words, kind) in [
            (["--print", "nova:1"].as_slice(), None),
            (&["nova:1", "--print", "--shell=fish"], Some(Kind::Fish)),
        ] {
            let print = Request::Print(target("nova", Some("1")), kind);
            assert_eq!(parse_words(words).unwrap(), print, "{words:?}");
        }
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
            (&["Nova", "true"], "not an app name"),
            (&["../etc", "true"], "not an app name"),
            (&["nova:", "true"], "not a tag"),
            (&["nova:../../x", "true"], "not a tag"),
            (&["--shell", "csh", "nova"], "none of the shells"),
            (&["--shell", "zsh", "nova", "true"], "no command"),
            (&["--print", "nova", "true"], "your own shell"),
            (&["--print", "--as-self", "nova"], "your own shell"),
            (&["--shel", "nova", "true"], "--shel"),
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
