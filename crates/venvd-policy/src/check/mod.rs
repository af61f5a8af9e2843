//! What is wrong around a policy, or not as it seems, though the policy itself can be written.

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{App, Layout};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something does not work, or not as declared.
    Error,
    /// Somebody should know.
    Warning,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// A short name for the case, which stays the same when the message gets better.
    pub code: String,
    /// What and where, and what to do.
    pub message: String,
}

impl Finding {
    /// Returns an error.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// Returns a warning.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// Returns what is found around the policy of `app` with the venvs `admitted`. It only reads.
#[must_use]
pub fn check(_layout: &Layout, _app: &App, _admitted: &[VenvPath]) -> Vec<Finding> {
    Vec::new()
}
