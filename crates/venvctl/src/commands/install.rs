//! install: a sealed venv from a directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{Layout, VenvName};
use venvd_core::build::{Outcome, Progress, Stage};
use venvd_core::install::Request;

use crate::failure::Failure;
use crate::output::progress::Line;
use crate::output::{self, table};

#[derive(Debug, Serialize)]
struct Installed {
    venv: String,
    path: PathBuf,
    new: bool,
    /// Files, and their bytes, that share their content with what was here before.
    shared: u64,
    shared_bytes: u64,
    copied: u64,
    recompiled: u64,
}

/// Places a sealed venv.
pub(super) fn run(layout: &Layout, from: &Path, name: Option<VenvName>, json: bool) -> Result<ExitCode, Failure> {
    let mut shown = Shown(Line::new());
    let request = Request {
        name,
        interrupt: super::interrupt()?,
        ..Request::new(from)
    };
    let installed = venvd_core::install::install(layout, &request, &mut shown).map_err(|error| {
        let failure = Failure::from(error);
        Failure {
            message: format!("cannot install {}: {}", from.display(), failure.message),
            ..failure
        }
    })?;
    drop(shown);
    let installed = Installed {
        venv: installed.venv.name().to_string(),
        path: installed.venv.path(),
        new: installed.outcome == Outcome::New,
        shared: installed.shared,
        shared_bytes: installed.shared_bytes,
        copied: installed.copied,
        recompiled: installed.recompiled,
    };
    output::show(&installed, json, |installed| text(layout, installed))?;
    Ok(ExitCode::SUCCESS)
}

fn text(layout: &Layout, installed: &Installed) -> String {
    let Installed { venv, path, .. } = installed;
    if !installed.new {
        return format!("{venv} is there already, with the same content\n");
    }
    // Without the root it would be the host's venv that comes in force.
    let root = if layout.root().is_host() {
        String::new()
    } else {
        format!("--root {} ", layout.root().directory().display())
    };
    let mut text = format!(
        "{venv} is installed in {}, {} files of it ({}) shared with others; `venvctl {root}activate {venv}` puts it in force\n",
        path.display(),
        installed.shared,
        table::size(installed.shared_bytes)
    );
    if installed.recompiled > 0 {
        text.push_str(&format!(
            "{} files of bytecode are this host's own: it has another patch version of python\n",
            installed.recompiled
        ));
    }
    text
}

/// Says what an install is doing.
#[derive(Debug)]
struct Shown(Line);

impl Progress for Shown {
    fn report(&mut self, stage: Stage, detail: &str) {
        let what = match stage {
            Stage::Copy => "taking over",
            Stage::Compile => "compiling, to compare the bytecode",
            Stage::Seal if detail.is_empty() => "reading all of it once more",
            _ => "",
        };
        let separator = if what.is_empty() || detail.is_empty() { "" } else { ": " };
        self.0.say(&format!("{what}{separator}{detail}"));
    }

    fn warn(&mut self, text: &str) {
        self.0.warn(text);
    }
}
