//! repair: damaged files of a venv.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{Layout, VenvName};
use venvd_core::build::{Progress, Stage};
use venvd_core::repair::{Mended, Origin, Request, repair};
use venvd_core::verify::Finding;

use crate::failure::Failure;
use crate::output::building::words;
use crate::output::{self, progress::Line};

#[derive(Debug, Serialize)]
struct Repaired {
    venv: String,
    mended: Vec<Row>,
    removed: Vec<String>,
    /// What is still wrong, since it is no matter of the venv's files.
    left: Vec<Finding>,
    /// Venvs whose manifest can't be read: whether they have the same damage is not known.
    unread: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    venv: String,
    path: String,
    from: String,
}

/// Repairs a venv. Status 1 when something is still wrong with it.
pub(super) fn run(layout: &Layout, venv: &VenvName, from: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let request = Request {
        from,
        interrupt: super::interrupt()?,
    };
    let mut shown = Repairing {
        line: Line::new(),
        stage: None,
    };
    let repaired = repair(layout, venv, &request, &mut shown);
    drop(shown);
    let repaired = repaired?;
    let repaired = Repaired {
        venv: venv.to_string(),
        mended: repaired.mended.iter().map(row).collect(),
        removed: repaired.removed,
        left: repaired.left,
        unread: repaired.unread.iter().map(ToString::to_string).collect(),
    };
    output::show(&repaired, json, text)?;
    Ok(if repaired.left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn row(mended: &Mended) -> Row {
    Row {
        venv: mended.venv.to_string(),
        path: mended.path.clone(),
        from: match &mended.origin {
            Origin::Store => "store".to_owned(),
            Origin::Directory => "directory".to_owned(),
            Origin::Venv(venv) => venv.to_string(),
            Origin::Rebuild => "rebuild".to_owned(),
            Origin::Manifest => "manifest".to_owned(),
        },
    }
}

fn text(repaired: &Repaired) -> String {
    let Repaired {
        venv,
        mended,
        removed,
        left,
        unread,
    } = repaired;
    let mut text = String::new();
    for Row { venv, path, from } in mended {
        let from = match from.as_str() {
            "store" => "from the store".to_owned(),
            "directory" => "from the directory that was given".to_owned(),
            "rebuild" => "from a rebuild of the venv's lock".to_owned(),
            "manifest" => "as the manifest says".to_owned(),
            from if from == repaired.venv => "with content that the venv still has".to_owned(),
            other => format!("from {other}"),
        };
        text.push_str(&format!("{venv}: {path} put right, {from}\n"));
    }
    for other in unread {
        text.push_str(&format!(
            "{other}: was not looked at for the same damage, since its manifest can't be read; `venvctl verify {other}` says why\n"
        ));
    }
    for path in removed {
        text.push_str(&format!("{venv}: {path} removed, it was not sealed\n"));
    }
    let changed = !mended.is_empty() || !removed.is_empty();
    if left.is_empty() {
        let rest = if changed {
            "is whole again; what runs already keeps the old files until it is restarted"
        } else {
            "is as it was sealed; nothing to repair"
        };
        text.push_str(&format!("{venv} {rest}\n"));
    } else {
        text.push_str(&format!("{venv} is not sound yet; this can't be repaired within it:\n"));
        for finding in left {
            text.push_str(&format!("  {finding}\n"));
        }
    }
    text
}

/// Says what a repair is doing, and each stage of its rebuild once.
#[derive(Debug)]
struct Repairing {
    line: Line,
    stage: Option<Stage>,
}

impl Progress for Repairing {
    fn report(&mut self, stage: Stage, _: &str) {
        if self.stage != Some(stage) {
            self.stage = Some(stage);
            self.line.say(&format!("building anew: {}", words(stage)));
        }
    }

    fn say(&mut self, text: &str) {
        self.line.say(text);
    }

    fn distribution(&mut self, stage: Stage, _: &str) {
        self.report(stage, "");
    }

    fn warn(&mut self, text: &str) {
        self.line.warn(text);
    }
}
