//! build: from a lock, or from packages, to a sealed venv.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{Layout, search};
use venvd_core::build::{Interrupt, Outcome, Progress, Request, Stage};

use crate::args::Target;
use crate::failure::Failure;
use crate::output::{self, progress::Line};

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
    request.interrupt = Interrupt::by_signals().map_err(|error| {
        let message = format!("cannot prepare for an interrupt: {error}");
        Failure::refused("io", message)
    })?;
    request.tag = target.tag;
    request.lock = lock;
    request.upgrade = asked.upgrade;
    request.offline = asked.offline;
    request.find_links = asked.find_links;
    let mut shown = Shown {
        app: target.app.to_string(),
        line: Line::new(),
    };
    let built = venvd_core::build(layout, &settings, &request, &mut shown).map_err(|error| {
        let failure = Failure::from(error);
        Failure {
            message: format!("cannot build {named}: {}", failure.message),
            ..failure
        }
    })?;
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
                "{venv} is built and sealed in {}; `venvctl {root}activate {venv}` puts it in force\n",
                path.display()
            )
        } else {
            format!("{venv} is there already, from the same lock\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

struct Shown {
    app: String,
    line: Line,
}

impl Progress for Shown {
    fn report(&mut self, stage: Stage, detail: &str) {
        let what = match stage {
            Stage::Lock => "making the lock",
            Stage::Download => "getting wheels",
            Stage::Build => "building from source",
            Stage::Install => "installing",
            Stage::Copy => "copying",
            Stage::Relocate => "relocating",
            Stage::Compile => "compiling",
            Stage::Seal => "sealing",
        };
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!(": {detail}")
        };
        self.line.say(&format!("{}: {what}{detail}", self.app));
    }
}
