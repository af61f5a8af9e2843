//! Why a command failed, for people and for programs.

use std::error::Error;
use std::io;

use serde::Serialize;

/// What a shell adds to the number of the signal that ended a program: 130 is Ctrl-C, 143 is SIGTERM.
const OF_A_SIGNAL: u8 = 128;

/// A failure with a code that scripts can tell apart, and the exit status.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(skip)]
    pub(crate) exit: u8,
}

impl Failure {
    /// Returns a failure with exit status 1: refused, nothing changed.
    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            exit: 1,
        }
    }
}

impl From<venvd_fs::Error> for Failure {
    fn from(error: venvd_fs::Error) -> Self {
        Self::refused("io", explained(&error))
    }
}

impl From<venvd_app::search::LoadError> for Failure {
    fn from(error: venvd_app::search::LoadError) -> Self {
        use venvd_app::search::LoadError;
        let code = match &error {
            LoadError::Invalid(_) => "invalid-definition",
            LoadError::Io(_) => "io",
            LoadError::Unsafe(_) => "unsafe-definition",
            LoadError::Unknown { .. } => "unknown-app",
        };
        Self::refused(code, explained(&error))
    }
}

impl From<venvd_app::links::LinkError> for Failure {
    fn from(error: venvd_app::links::LinkError) -> Self {
        Self::refused("foreign-link", explained(&error))
    }
}

impl From<venvd_app::name::NameError> for Failure {
    fn from(error: venvd_app::name::NameError) -> Self {
        Self::refused("invalid-name", error.to_string())
    }
}

impl From<venvd_app::exposed::Problem> for Failure {
    fn from(problem: venvd_app::exposed::Problem) -> Self {
        Self::refused(venvd_app::exposed::Problem::CODE, explained(&problem))
    }
}

impl From<venvd_policy::Error> for Failure {
    fn from(error: venvd_policy::Error) -> Self {
        Self::refused(error.code(), explained(&error))
    }
}

impl From<venvd_core::Error> for Failure {
    fn from(error: venvd_core::Error) -> Self {
        let exit = match error {
            venvd_core::Error::Interrupted { signal } => OF_A_SIGNAL + signal,
            _ => 1,
        };
        Self {
            exit,
            ..Self::refused(error.code(), explained(&error))
        }
    }
}

impl From<venvd_core::preflight::PreflightError> for Failure {
    fn from(error: venvd_core::preflight::PreflightError) -> Self {
        Self::refused(error.code(), explained(&error))
    }
}

/// Returns the error with its causes, and what to do when it is only that somebody else than root asked.
fn explained(error: &(dyn Error + 'static)) -> String {
    let report = venvd_fs::report(error);
    let denied = std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
    if denied && !nix::unistd::geteuid().is_root() {
        format!("{report}; run it as root")
    } else {
        report
    }
}
