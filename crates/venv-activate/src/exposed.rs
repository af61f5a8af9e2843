//! Called by another name: an exposed command, typed as if there were no venv.
//!
//! The name is all that a link says, so [`Table`] says whose command it is. All arguments are the command's own. Whoever
//! makes up a name of his own (`exec -a`) gets what he could have typed: nothing here runs with more rights than he has.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::process::ExitCode;

use nix::unistd::{User, getuid};
use venvd_app::exposed::{PROGRAM, Table};
use venvd_app::{AppName, Layout, ProgramName, search};

use crate::args::{Invocation, Program, RunAs, Target};
use crate::error::Error;
use crate::{execute, identity, resolve, say};

/// Returns the name of the command that we were called as; none where that is our own.
pub(crate) fn called_as(first: Option<OsString>) -> Option<OsString> {
    let first = first?;
    let name = Path::new(&first).file_name().unwrap_or(OsStr::new(""));
    (name != PROGRAM).then(|| name.to_owned())
}

/// Runs an exposed command of the venv in force: as the app's user when root typed it, else as whoever did.
pub(crate) fn run(
    layout: &Layout,
    name: OsString,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode, Error> {
    identity::refuse_setuid()?;
    let app = app_of(layout, &name)?;
    let is_root = getuid().is_root();
    if !is_root && stderr().is_terminal() {
        tell_who(layout, &app, &name);
    }
    let target = Target { app, tag: None };
    let venv = resolve::venv(layout, &target)?;
    // In the venv alone: along PATH, the first one by this name is our own link.
    let program = resolve::command(layout, (&target.app, &name), venv.bin().as_os_str());
    let program = program.map_err(|error| match error {
        Error::NoCommand { command, tags } => Error::NotInVenv {
            venv: venv.name().clone(),
            command,
            tags,
        },
        error => error,
    })?;
    let invocation = Invocation {
        target,
        run_as: if is_root { RunAs::AppUser } else { RunAs::Caller },
        unit: None,
        directory: None,
        program: Program::Command {
            name: program.into(),
            arguments: arguments.collect(),
        },
    };
    execute(layout, &venv, &invocation)
}

fn app_of(layout: &Layout, name: &OsStr) -> Result<AppName, Error> {
    let table = Table::load(layout).map_err(Error::Exposed)?;
    let known = name.to_str().and_then(|name| name.parse::<ProgramName>().ok());
    let app = known.and_then(|name| table.commands.get(&name).cloned());
    app.ok_or_else(|| Error::NotExposed { name: name.to_owned() })
}

/// Tells people at a terminal, who may expect the service's rights, that they have their own.
fn tell_who(layout: &Layout, app: &AppName, name: &OsStr) {
    // Who may not read the definition learns it from what the command says.
    let Ok(Some(user)) = search::load_app(layout, app).map(|definition| definition.user) else {
        return;
    };
    let theirs = User::from_name(user.as_str()).ok().flatten();
    if theirs.is_none_or(|theirs| theirs.uid != getuid()) {
        let name = name.display();
        say(&format!(
            "note: this runs as you are; `sudo -u {user} {name} …` runs it as {user}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use venvd_fs::Root;

    #[test]
    fn only_another_name_is_a_command() {
        for (first, command) in [
            ("venv-activate", None),
            ("/usr/bin/venv-activate", None),
            ("nova-manage", Some("nova-manage")),
            ("/usr/local/bin/nova-manage", Some("nova-manage")),
            ("../nova-manage", Some("nova-manage")),
            ("-nova-manage", Some("-nova-manage")),
            ("", Some("")),
            ("/", Some("")),
            ("..", Some("")),
        ] {
            assert_eq!(called_as(Some(first.into())), command.map(OsString::from), "{first:?}");
        }
        assert_eq!(called_as(None), None);
    }

    #[test]
    fn a_name_is_looked_up_as_it_is_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let table = layout.exposed_commands();
        assert!(matches!(
            app_of(&layout, OsStr::new("x")),
            Err(Error::NotExposed { .. })
        ));
        fs::create_dir_all(table.parent().unwrap()).unwrap();
        fs::write(
            &table,
            r#"{"directory": "/usr/local/bin", "commands": {"nova-manage": "nova"}}"#,
        )
        .unwrap();
        assert_eq!(app_of(&layout, OsStr::new("nova-manage")).unwrap().as_str(), "nova");
        for name in [
            "",
            "nova",
            "Nova-manage",
            "-nova-manage",
            "../nova-manage",
            "nova-manage\n",
        ] {
            let error = app_of(&layout, OsStr::new(name)).unwrap_err();
            assert_eq!(error.exit_code(), 127, "{name:?}");
            assert!(error.to_string().contains("no app that is on exposes"), "{error}");
        }
        fs::write(&table, "{").unwrap();
        assert_eq!(app_of(&layout, OsStr::new("nova-manage")).unwrap_err().exit_code(), 126);
    }
}
