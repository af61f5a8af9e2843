//! `venv-activate APP[:TAG] COMMAND…` runs a command in an app's venv, as the app's user.
//!
//! It ends in execve(2), so signals, terminal and exit status are the command's own. What happens before, in order:
//! the venv is resolved once (`resolve`), its path must be in root's hands, it is decided who the command runs as
//! (`identity`), root becomes that user for good (`privileges`, and `terminal` first), and the command is looked
//! up and gets its environment (`environment`). Everything after the change of user happens as that user. Called by
//! another name than its own, through a link, it is an exposed command of that name (`exposed`).
//!
//! Exit status, where it is not the command's own: 2 usage, 125 venv-activate could not or would not do it, 126 the
//! venv or the command is there but can't be used, 127 the venv or the command is not there; as env(1) has it.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::stat::{Mode, umask};
use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::Root;

use args::{Invocation, Request};
use error::Error;
use identity::{Account, Identity};

mod args;
mod environment;
mod error;
mod exposed;
mod identity;
mod privileges;
mod resolve;
mod system;
mod terminal;

/// What systemd gives a service that says nothing, see `UMask=` in systemd.exec(5).
const SERVICE_UMASK: Mode = Mode::from_bits_truncate(0o022);

/// Does what the command line says. Returns only when the command could not be started.
#[must_use]
pub fn main() -> ExitCode {
    let layout = Layout::new(Root::host());
    if let Some(name) = exposed::called_as(env::args_os().next()) {
        return match exposed::run(&layout, &name, env::args_os().skip(1)) {
            Ok(never) => match never {},
            Err(error) => fail(&error),
        };
    }
    let result = args::parse(env::args_os()).and_then(|request| match request {
        Request::Help => Ok(args::HELP),
        Request::Version => Ok(concat!("venv-activate ", env!("CARGO_PKG_VERSION"), "\n")),
        Request::Run(invocation) => match run(&layout, &invocation) {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    });
    match result {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(error::OWN),
        },
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    say(&venvd_fs::report(error));
    ExitCode::from(error.exit_code())
}

fn run(layout: &Layout, invocation: &Invocation) -> Result<Infallible, Error> {
    identity::refuse_setuid()?;
    let venv = resolve::venv(layout, invocation)?;
    execute(layout, &venv, invocation)
}

fn execute(layout: &Layout, venv: &VenvPath, invocation: &Invocation) -> Result<Infallible, Error> {
    let identity = identity::decide(layout, invocation)?;
    let mut variables = environment::clean(env::vars_os());
    if let Identity::Become(account) = &identity {
        become_service(account)?;
        environment::become_user(&mut variables, account);
    }
    environment::enter_venv(&mut variables, venv);
    enter_directory(invocation, &identity, &mut variables)?;
    let path = variables
        .get(OsStr::new(environment::PATH))
        .cloned()
        .unwrap_or_default();
    let program = resolve::command(layout, invocation, &path)?;
    // Command::exec also undoes what Rust's own start did to SIGPIPE.
    let source = Command::new(&program)
        .args(&invocation.arguments)
        .env_clear()
        .envs(variables)
        .exec();
    Err(Error::Exec { program, source })
}

/// Leaves root for good, and leaves nothing of root's behind: no descriptor, no way to type into its terminal.
fn become_service(account: &Account) -> Result<(), Error> {
    if terminal::is_within_reach() && terminal::forbid_push_back()? == terminal::Protection::NoNewPrivileges {
        say(
            "note: without CAP_SYS_ADMIN the terminal is protected in a way that keeps sudo from working in this command",
        );
    }
    privileges::drop_to(account)?;
    umask(SERVICE_UMASK);
    system::close_on_exec_from(3).map_err(Error::Descriptors)
}

/// Goes to `--cd`; else stays where the caller is, if the user may be there at all.
fn enter_directory(
    invocation: &Invocation,
    identity: &Identity,
    variables: &mut environment::Variables,
) -> Result<(), Error> {
    if let Some(directory) = &invocation.directory {
        env::set_current_dir(directory).map_err(|source| Error::Directory {
            directory: directory.clone(),
            source,
        })?;
    } else if let Identity::Become(account) = identity {
        // By its name, so that every directory on the way counts, and one that was removed is noticed.
        let stays = env::current_dir().and_then(env::set_current_dir);
        if let Err(error) = stays {
            say(&format!(
                "note: {} can't be in the current directory ({error}), so the command runs in /; --cd says where else",
                account.name
            ));
            enter_root()?;
        }
    } else {
        return Ok(());
    }
    match env::current_dir() {
        Ok(directory) => drop(variables.insert("PWD".into(), directory.into())),
        Err(_) => drop(variables.remove(OsStr::new("PWD"))),
    }
    Ok(())
}

fn enter_root() -> Result<(), Error> {
    let directory = Path::new("/");
    env::set_current_dir(directory).map_err(|source| Error::Directory {
        directory: directory.to_owned(),
        source,
    })
}

fn say(text: &str) {
    // A closed standard error must not change what happens.
    _ = writeln!(std::io::stderr(), "venv-activate: {text}");
}
