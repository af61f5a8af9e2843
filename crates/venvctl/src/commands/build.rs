//! build: from a lock, or from packages, to a sealed venv.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{Layout, search};
use venvd_core::build::{Outcome, Request};

use crate::args::Target;
use crate::failure::Failure;
use crate::output::{self, building::Building};

#[derive(Debug, Serialize)]
struct Built {
    venv: String,
    path: PathBuf,
    new: bool,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) target: Target,
    pub(super) lock: Option<PathBuf>,
    pub(super) upgrade: bool,
    pub(super) offline: bool,
    pub(super) find_links: Vec<PathBuf>,
}

/// Builds the venv of an app.
pub(super) fn run(layout: &Layout, asked: Asked, json: bool) -> Result<ExitCode, Failure> {
    let Asked { target, lock, .. } = asked;
    let app = search::load_app(layout, &target.app)?;
    let settings = search::load_settings(layout)?;
    let named = match &target.tag {
        Some(tag) => format!("{}:{tag}", target.app),
        None => target.app.to_string(),
    };
    let mut request = Request::new(app);
    request.interrupt = super::interrupt()?;
    request.tag = target.tag;
    request.lock = lock;
    request.upgrade = asked.upgrade;
    request.offline = asked.offline;
    request.find_links = directories(asked.find_links)?;
    let mut shown = Building::new(target.app.as_str());
    let built = venvd_core::build(layout, &settings, &request, &mut shown).map_err(|error| {
        let failure = Failure::from(error);
        Failure {
            message: format!("cannot build {named}: {}", failure.message),
            ..failure
        }
    })?;
    let elapsed = shown.elapsed();
    drop(shown);
    let built = Built {
        venv: built.venv.name().to_string(),
        path: built.venv.path(),
        new: built.outcome == Outcome::New,
    };
    output::show(&built, json, |built| {
        let Built { venv, path, new } = built;
        if *new {
            // Without the root it would be the host's venv that comes in force.
            let root = if layout.root().is_host() {
                String::new()
            } else {
                format!("--root {} ", layout.root().directory().display())
            };
            format!(
                "{venv} is built and sealed in {} ({elapsed}); `venvctl {root}activate {venv}` puts it in force\n",
                path.display()
            )
        } else {
            format!("{venv} is there already, from the same lock\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns what was typed as paths that mean the same wherever a program is started.
fn directories(typed: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let absolute = |path: PathBuf| match path.canonicalize() {
        Ok(directory) if directory.is_dir() => Ok(directory),
        _ => Err(Failure::refused(
            "no-directory",
            format!("there is no directory {path:?} to take wheels from (--find-links)"),
        )),
    };
    typed.into_iter().map(absolute).collect()
}
