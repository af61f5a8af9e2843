use std::fmt;

use venvd_app::{AppName, UserName};
use venvd_fs::{chain, report};

use crate::Error;
use crate::place::Place;

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
        /// Where it stands.
        place: Box<Place>,
        /// The command of the definition.
        command: String,
        /// Whether it calls rootwrap, whose filters then decide.
        rootwrap: bool,
    },
    /// A rule makes its user root.
    Unsafe {
        /// Where it stands.
        place: Box<Place>,
        /// The command of the definition.
        command: String,
        /// Whose rule it is.
        user: UserName,
    },
    /// A line of sudoers sets `secure_path` for some, and only sudo itself knows whether for this user.
    Unclear {
        /// The line.
        line: String,
    },
    /// A `rootwrap.conf` that the definition named before can't be put back.
    LeftBehind {
        /// The app.
        app: AppName,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        reason: Error,
    },
    /// An edited file of ours goes, and a copy stays.
    Edited {
        /// The file.
        path: std::path::PathBuf,
        /// The copy.
        aside: std::path::PathBuf,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut { app, reason } => {
                let reason = report(reason);
                write!(formatter, "{app} is left out of the user's secure_path: {reason}")
            }
            Self::OpenEnded {
                place,
                command,
                rootwrap,
            } => {
                write!(
                    formatter,
                    "{place}: the final * of `{command}` admits any further arguments, "
                )?;
                formatter.write_str(if *rootwrap {
                    "so whatever rootwrap's filters let through, and always privsep-helper with a configuration of the \
                     caller's choosing: it is close to root"
                } else {
                    "also other options, files and subcommands of the program: run as root, that may be as much as root"
                })
            }
            Self::Unsafe { place, command, user } => write!(
                formatter,
                "{place}: with `{command}` whoever is {user} is root: privsep-helper imports a Python function of its \
                 caller's choosing, and reads configuration of his choosing"
            ),
            Self::Unclear { line } => write!(
                formatter,
                "`{line}` is not followed: only sudo can tell whether it is for this user; if it is, `secure_path` loses \
                 its directories"
            ),
            Self::LeftBehind { app, path, reason } => write!(
                formatter,
                "{path:?}, which the definition of {app} names no more, still has its venvs in exec_dirs: {}; mend that, \
                 then `venvctl policy apply {app}`",
                report(reason)
            ),
            Self::Edited { path, aside } => {
                write!(
                    formatter,
                    "{path:?} was edited; what it said is kept in {aside:?}, which sudo does not read"
                )
            }
        }
    }
}
