//! `venv-activate APP[:TAG] COMMAND…` runs a command in an app's venv, as the app's user.
//!
//! It ends in execve(2), so signals, terminal and exit status are the command's own (but see `terminal`). What happens
//! before, in order: the venv is resolved once (`resolve`), its path must be in root's hands, it is decided who the
//! command runs as (`identity`), a unit's settings are read (`unit`), root becomes that user for good (`privileges`, and
//! `terminal` first), and the command is looked up and gets its environment (`environment`). Everything after the change
//! of user happens as that user. Called by another name than its own, through a link, it is an exposed command of that
//! name (`exposed`).
//!
//! Exit status, where it is not the command's own: 2 usage, 125 venv-activate could not or would not do it, 126 the
//! venv or the command is there but can't be used, 127 the venv or the command is not there; as env(1) has it.

use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::stat::{Mode, umask};
use nix::unistd::getuid;
use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::Root;

use args::{Invocation, Program, Request, Target};
use error::Error;
use identity::Identity;
use shell::Kind;

mod args;
mod directory;
mod environment;
mod error;
mod exposed;
mod identity;
mod limits;
mod print;
mod privileges;
mod resolve;
mod shell;
mod system;
mod terminal;
mod unit;

/// What systemd gives a service that says nothing, see `UMask=` in systemd.exec(5).
const SERVICE_UMASK: Mode = Mode::from_bits_truncate(0o022);

/// Does what the command line says. Returns only when no command was started, or had to be waited for.
#[must_use]
pub fn main() -> ExitCode {
    let layout = Layout::new(Root::host());
    let result = match exposed::called_as(env::args_os().next()) {
        Some(name) => exposed::run(&layout, name, env::args_os().skip(1)),
        None => args::parse(env::args_os()).and_then(|request| match request {
            Request::Help => Ok(say_out(args::HELP)),
            Request::Version => Ok(say_out(concat!("venv-activate ", env!("CARGO_PKG_VERSION"), "\n"))),
            Request::Print(target, kind) => own_shell(&layout, &target, kind).map(|text| say_out(&text)),
            Request::Run(invocation) => run(&layout, &invocation),
        }),
    };
    result.unwrap_or_else(|error| {
        say(&venvd_fs::report(&error));
        ExitCode::from(error.exit_code())
    })
}

fn say_out(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(error::OWN),
    }
}

/// Returns what the caller's own shell is to evaluate.
fn own_shell(layout: &Layout, target: &Target, kind: Option<Kind>) -> Result<String, Error> {
    identity::refuse_setuid()?;
    if getuid().is_root() {
        return Err(Error::RootsShell {
            app: target.app.clone(),
        });
    }
    let venv = resolve::venv(layout, target)?;
    Ok(print::text(kind.unwrap_or_else(print::asking), &venv))
}

fn run(layout: &Layout, invocation: &Invocation) -> Result<ExitCode, Error> {
    identity::refuse_setuid()?;
    if let Program::Shell(_) = invocation.program {
        shell::refuse_without_terminal()?;
    }
    let venv = resolve::venv(layout, &invocation.target)?;
    execute(layout, &venv, invocation)
}

/// Runs what is asked for in a venv that was found.
fn execute(layout: &Layout, venv: &VenvPath, invocation: &Invocation) -> Result<ExitCode, Error> {
    let identity = identity::decide(layout, invocation)?;
    let unit = unit_settings(layout, invocation, &identity)?;
    let mut variables = environment::clean(env::vars_os());
    if let Identity::Become(account) = &identity
        && let Some(status) = terminal::protect(account)?
    {
        return Ok(status);
    }
    // While root may still raise them.
    if limits::set(&unit.limits)? == limits::Reached::Partly {
        say("note: some limits of the unit are above yours, and only root may raise those");
    }
    if let Identity::Become(account) = &identity {
        privileges::drop_to(account)?;
        umask(SERVICE_UMASK);
        system::close_on_exec_from(3).map_err(Error::Descriptors)?;
        environment::become_user(&mut variables, account);
    }
    if let Some(mode) = unit.umask {
        umask(mode);
    }
    unit.apply_to(&mut variables);
    environment::enter_venv(layout, &mut variables, venv);
    directory::enter(invocation, unit.directory.as_ref(), &identity, &mut variables)?;
    let (program, arguments) = match &invocation.program {
        Program::Command { name, arguments } => {
            let path = variables.get(OsStr::new(environment::PATH)).cloned();
            let wanted = (&invocation.target.app, name.as_os_str());
            let program = resolve::command(layout, wanted, &path.unwrap_or_default())?;
            (program, arguments.clone())
        }
        Program::Shell(kind) => {
            let shell = shell::choose(layout, *kind, env::var_os("SHELL").as_deref())?;
            let arguments = shell.show(venv, &mut variables)?;
            (shell.program, arguments)
        }
    };
    // Command::exec also undoes what Rust's own start did to SIGPIPE.
    let source = Command::new(&program)
        .args(arguments)
        .env_clear()
        .envs(variables)
        .exec();
    Err(Error::Exec { program, source })
}

/// Reads the unit that `--unit` names; without one nothing is taken over.
fn unit_settings(layout: &Layout, invocation: &Invocation, identity: &Identity) -> Result<unit::Settings, Error> {
    let Some(name) = &invocation.unit else {
        return Ok(unit::Settings::default());
    };
    unit::read(layout, name, identity.uid()).map_err(|source| Error::Unit {
        unit: name.clone(),
        source,
    })
}

fn say(text: &str) {
    // A closed standard error must not change what happens.
    _ = writeln!(std::io::stderr(), "venv-activate: {text}");
}
