//! list: the venvs that are there.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout};
use venvd_core::list::{Listed, list};

use crate::failure::Failure;
use crate::output::{
    self,
    table::{size, table},
};

#[derive(Debug, Serialize)]
struct Row {
    venv: String,
    path: std::path::PathBuf,
    sealed: bool,
    asked_for: bool,
    in_force: bool,
    previous: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distributions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u64>,
}

impl From<Listed> for Row {
    fn from(listed: Listed) -> Self {
        let sealed = listed.sealed();
        let summary = listed.summary;
        Self {
            venv: listed.venv.name().to_string(),
            path: listed.venv.path(),
            sealed,
            asked_for: listed.active,
            in_force: listed.committed,
            previous: listed.previous,
            size: summary.as_ref().map(|summary| summary.size),
            distributions: summary.as_ref().map(|summary| summary.distributions),
            created: summary.as_ref().map(|summary| summary.created),
            python: summary.map(|summary| summary.python),
        }
    }
}

/// Lists the venvs of one app, or of all.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let rows: Vec<Row> = list(layout, app)?.into_iter().map(Row::from).collect();
    output::show(&rows, json, |rows| text(rows))?;
    Ok(ExitCode::SUCCESS)
}

fn text(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.venv.clone(),
                row.size.map(size).unwrap_or_default(),
                row.distributions.map(|count| count.to_string()).unwrap_or_default(),
                row.python.clone().unwrap_or_default(),
                state(row),
            ]
        })
        .collect();
    table(&["VENV", "SIZE", "DISTRIBUTIONS", "PYTHON", "STATE"], &cells)
}

fn state(row: &Row) -> String {
    let words = [
        (!row.sealed, "not sealed"),
        (row.in_force, "in force"),
        (row.asked_for && !row.in_force, "asked for"),
        (row.previous, "previous"),
    ];
    let said: Vec<&str> = words
        .into_iter()
        .filter_map(|(holds, word)| holds.then_some(word))
        .collect();
    said.join(", ")
}
