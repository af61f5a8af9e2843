//! What is wrong on a host with its apps and venvs, without reading every file: [`crate::verify`] does that.
//!
//! Nothing is changed and nothing of a venv is executed. Whatever can't be looked at is told as such; one broken thing
//! hides no other.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use venvd_app::search::{self, Declared};
use venvd_app::{AppName, Layout};
use venvd_fs::report;

use crate::list;

mod apps;
mod commands;
mod host;
#[cfg(test)]
mod tests;
mod venvs;

/// Whether something must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something does not work, or will not.
    Wrong,
    /// Good to know.
    Note,
}

/// Something that the doctor has to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Whether something must be done.
    pub severity: Severity,
    /// What it is about: an app, a venv, a path.
    pub about: String,
    /// The word by which programs tell problems apart.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

impl Problem {
    /// Returns something wrong; the text is what is wrong, and what to do.
    fn new(about: impl ToString, code: &'static str, (message, advice): (String, String)) -> Self {
        Self {
            severity: Severity::Wrong,
            about: about.to_string(),
            code,
            message,
            advice,
        }
    }
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// How many apps are defined, or have links or venvs.
    pub apps: usize,
    /// How many venvs are there.
    pub venvs: usize,
    /// What there is to say, what is wrong first.
    pub problems: Vec<Problem>,
}

impl Diagnosis {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity == Severity::Note)
    }

    fn wrong(&mut self, about: impl ToString, code: &'static str, text: (String, String)) {
        self.problems.push(Problem::new(about, code, text));
    }

    fn note(&mut self, about: impl ToString, code: &'static str, text: (String, String)) {
        self.problems.push(Problem {
            severity: Severity::Note,
            ..Problem::new(about, code, text)
        });
    }

    /// Says that something could not be looked at, which is nobody's fault when it is for root only.
    fn unreadable(&mut self, about: impl ToString, error: &(dyn std::error::Error + 'static)) {
        let denied = std::iter::successors(Some(error), |error| error.source())
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied);
        if denied && !nix::unistd::geteuid().is_root() {
            self.note(
                about,
                "unreadable",
                (report(error), "run this as root to have all of it looked at".to_owned()),
            );
        } else {
            let advice = "see `dmesg` for the disk's state, and who may read it".to_owned();
            self.wrong(about, "unreadable", (report(error), advice));
        }
    }
}

/// Looks at a host, or at what belongs to one app of it.
///
/// Interpreters are looked for on the running system, also when `layout` is below another root.
#[must_use]
pub fn examine(layout: &Layout, only: Option<&AppName>) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    let declared = search::load(layout);
    let wanted = |app: &AppName| only.is_none_or(|only| only == app);
    let venvs = match list::paths(layout, only) {
        Ok(venvs) => venvs,
        Err(error) => {
            diagnosis.unreadable(layout.own_venvs().display().to_string(), &error);
            Vec::new()
        }
    };
    let mut apps: BTreeSet<AppName> = venvs.iter().map(|venv| venv.name().app().clone()).collect();
    apps.extend(declared.apps.keys().chain(declared.broken.keys()).cloned());
    apps.extend(apps::linked(layout, &mut diagnosis));
    apps.retain(wanted);
    if only.is_none() {
        settings(&declared, &mut diagnosis);
        host::examine(layout, &mut diagnosis);
    }
    apps::held(layout, only, &mut diagnosis);
    let mut linked = BTreeSet::new();
    for app in &apps {
        linked.extend(apps::examine(layout, &declared, app, &mut diagnosis));
    }
    commands::examine(layout, only, &mut diagnosis);
    venvs::examine(layout, &venvs, &linked, &mut diagnosis);
    diagnosis.apps = apps.len();
    diagnosis.venvs = venvs.len();
    diagnosis.problems.sort();
    diagnosis.problems.dedup();
    diagnosis
}

fn settings(declared: &Declared, diagnosis: &mut Diagnosis) {
    for error in &declared.problems {
        let advice = "correct the file; until then what it says does not hold".to_owned();
        diagnosis.wrong("settings", "settings", (report(error), advice));
    }
}

/// Returns the names in a directory of the host; none where it is not there.
fn names(layout: &Layout, directory: &Path, diagnosis: &mut Diagnosis) -> Vec<String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            diagnosis.unreadable(
                layout.root().on_host(directory).display().to_string(),
                &venvd_fs::Error {
                    action: "list",
                    path: directory.to_owned(),
                    source: error,
                },
            );
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Returns whether something lies there, be it a link to nowhere.
fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
