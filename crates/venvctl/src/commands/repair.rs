//! repair: damaged files of a venv.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{Layout, VenvName};
use venvd_core::repair::{Mended, Origin, repair};
use venvd_core::verify::Finding;

use super::install::Shown;
use crate::failure::Failure;
use crate::output::{self, progress::Line};

#[derive(Debug, Serialize)]
struct Repaired {
    venv: String,
    mended: Vec<Row>,
    removed: Vec<String>,
    /// What is still wrong, since it is no matter of the venv's files.
    left: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Row {
    venv: String,
    path: String,
    from: String,
}

/// Repairs a venv. Status 1 when something is still wrong with it.
pub(super) fn run(layout: &Layout, venv: &VenvName, from: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let mut shown = Shown(Line::new());
    let repaired = repair(layout, venv, from, &mut shown)?;
    drop(shown);
    let repaired = Repaired {
        venv: venv.to_string(),
        mended: repaired.mended.iter().map(row).collect(),
        removed: repaired.removed,
        left: repaired.left,
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
    } = repaired;
    let mut text = String::new();
    for Row { venv, path, from } in mended {
        text.push_str(&format!("{venv}: {path} put right, from {from}\n"));
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
