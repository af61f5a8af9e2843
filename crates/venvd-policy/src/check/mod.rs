//! What is wrong around a policy, or not as it seems, though the policy itself can be written.
//!
//! - `filters`: rootwrap filters whose program is not there, is another one than the venv's, or can't be killed.
//! - `shipped`: configuration inside the venv that `/etc` lacks or has otherwise.
//! - `rules`: what else sudo lets the same user do.

mod filters;
mod ini;
mod rules;
mod shipped;

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{App, Layout};
use venvd_fs::{atomic, report};

use crate::rootwrap::conf::Conf;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

    fn unreadable(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::error("unreadable", report(error))
    }
}

/// What is looked at: an app with the venv in front, if any.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    layout: &'a Layout,
    app: &'a App,
    venv: Option<&'a VenvPath>,
}

/// Returns what is found around the policy of `app` with the venvs `admitted`, the worst first. It only reads.
#[must_use]
pub fn check(layout: &Layout, app: &App, admitted: &[VenvPath]) -> Vec<Finding> {
    let subject = Subject {
        layout,
        app,
        venv: admitted.first(),
    };
    let mut findings = rules::check(subject);
    let text = subject.rootwrap_conf();
    // What is wrong with the file itself is found when the policy is planned.
    let conf = text.as_deref().and_then(|text| Conf::parse(text).ok());
    if let Some(conf) = &conf {
        findings.extend(filters::check(subject, conf));
    }
    if subject.venv.is_some() {
        findings.extend(shipped::check(subject, conf.as_ref()));
    }
    findings.sort_by_key(|finding| finding.level);
    findings
}

impl Subject<'_> {
    fn rootwrap_conf(&self) -> Option<String> {
        let rootwrap = self.app.rootwrap.as_ref()?;
        let bytes = atomic::read(&self.layout.on_disk(&*rootwrap.config)).ok()??;
        String::from_utf8(bytes).ok()
    }
}

#[cfg(test)]
mod tests;
