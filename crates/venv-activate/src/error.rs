//! What can go wrong, and the exit status that says so.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use venvd_app::cmdline::Switch;
use venvd_app::in_force::Why;
use venvd_app::links::LinkError;
use venvd_app::search::LoadError;
use venvd_app::{AppName, Tag, UserName, VenvName};
use venvd_fs::chain;
use venvd_unit::UnitId;

use crate::shell::Kind;
use crate::unit;

/// Wrong usage.
const USAGE: u8 = 2;
/// venv-activate itself failed or refused, as for env(1).
pub(crate) const OWN: u8 = 125;
/// It is there, but can't be used.
const UNUSABLE: u8 = 126;
/// It is not there.
const NOT_FOUND: u8 = 127;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}\nUsage: venv-activate [--user USER | --as-self] [--cd DIR] APP[:TAG] [--] [COMMAND [ARGUMENT]...]")]
    Usage(String),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{app} has no venv in force; `venvctl activate {app}:TAG` puts one there{}", tags_there(.tags))]
    NothingInForce { app: AppName, tags: Vec<Tag> },
    #[error(
        "{app} is off for this boot: the kernel command line has `{switch}`, so the distribution's services run; \
         `venv-activate {app}:TAG …` uses a venv all the same{}", tags_there(.tags)
    )]
    OffForThisBoot {
        app: AppName,
        switch: Switch,
        tags: Vec<Tag>,
    },
    #[error("no venv of {app} can be used: {why}")]
    NoneCanRun { app: AppName, why: Box<Why> },
    #[error("there is no venv {venv}{}", tags_there(.tags))]
    NoSuchVenv { venv: VenvName, tags: Vec<Tag> },
    #[error("the venv {venv} can't be used")]
    UnsafeVenv {
        venv: VenvName,
        #[source]
        source: chain::Error,
    },
    #[error("can't learn which user {app} runs as (--user or --as-self would say)")]
    Definition {
        app: AppName,
        #[source]
        source: LoadError,
    },
    #[error("the definition of {app} has no `user`; set it there, or give --user USER or --as-self")]
    NoUser { app: AppName },
    #[error("there is no user {user} on this host")]
    UnknownUser { user: UserName },
    #[error("can't look up the user {user}")]
    Lookup {
        user: UserName,
        #[source]
        source: nix::Error,
    },
    #[error(
        "nothing in a venv is run as root, since what is in it came from elsewhere; --user USER names another user"
    )]
    AsRoot,
    #[error(
        "root's own shell gets no venv, since nothing in one is run as root; `venv-activate {app}` starts a shell of its user"
    )]
    RootsShell { app: AppName },
    #[error(
        "this runs as {user}, and only root can become {user}: `sudo -u {user} venv-activate {app} …` (or --as-self, as you are)"
    )]
    NotAllowed { app: AppName, user: UserName },
    #[error("venv-activate must not be installed setuid or setgid; chmod ug-s it")]
    SetUid,
    #[error("can't become {user}: {step} failed; nothing was run")]
    Drop {
        user: UserName,
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("after becoming {user}, {what}; nothing was run")]
    NotDropped { user: UserName, what: &'static str },
    #[error(
        "can't keep the command from typing into root's terminal (neither a seccomp filter nor a terminal of its own \
         can be had); run it without a terminal: `setsid -w venv-activate … </dev/null 2>&1 | cat`"
    )]
    Terminal(#[source] io::Error),
    #[error("can't mark open descriptors close-on-exec; nothing was run")]
    Descriptors(#[source] io::Error),
    #[error("can't take over what {unit} says")]
    Unit {
        unit: UnitId,
        #[source]
        source: unit::Problem,
    },
    #[error("can't set the limit of {resource}; nothing was run")]
    Limit {
        resource: &'static str,
        #[source]
        source: nix::Error,
    },
    #[error("can't go to {directory:?}")]
    Directory {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{command:?} is neither in the venv nor in PATH{}", tags_with_it(.tags))]
    NoCommand { command: OsString, tags: Vec<VenvName> },
    #[error("{venv}, which is in force, has no {}{}", .command.display(), tags_with_it(.tags))]
    NotInVenv {
        venv: VenvName,
        command: OsString,
        tags: Vec<VenvName>,
    },
    #[error(
        "no app that is on exposes a command {name:?}, and venv-activate was called by that name; `venvctl doctor` shows \
         links that are not right"
    )]
    NotExposed { name: OsString },
    #[error("can't learn whose command this is; `systemctl restart venvd` writes that anew")]
    Exposed(#[source] LoadError),
    #[error("no {kind:?} is among the shells in /etc/shells")]
    NoShell { kind: Kind },
    #[error("can't tell the shell to show the venv: {file:?}, a file of venvd's own, can't be used")]
    ShellFile {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{program:?} is there, but is no file that may be executed")]
    NotExecutable { program: PathBuf },
    #[error("can't execute {program:?}")]
    Exec {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::NothingInForce { .. }
            | Self::NoSuchVenv { .. }
            | Self::NoCommand { .. }
            | Self::NotInVenv { .. }
            | Self::NotExposed { .. }
            | Self::NoShell { .. } => NOT_FOUND,
            // The file is there when it is the script's interpreter that is missing.
            Self::Exec { program, source } if source.kind() == io::ErrorKind::NotFound && !program.exists() => {
                NOT_FOUND
            }
            Self::Link(_)
            | Self::Exposed(_)
            | Self::NoneCanRun { .. }
            | Self::UnsafeVenv { .. }
            | Self::NotExecutable { .. }
            | Self::Exec { .. } => UNUSABLE,
            _ => OWN,
        }
    }
}

fn tags_there(tags: &[Tag]) -> String {
    listed("; there is", tags)
}

fn tags_with_it(tags: &[VenvName]) -> String {
    listed("; it is in", tags)
}

fn listed<T: ToString>(lead: &str, items: &[T]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    format!("{lead} {}", items.join(", "))
}
