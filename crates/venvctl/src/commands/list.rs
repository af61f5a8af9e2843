//! list: the venvs that are there, what they take, and who needs them.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout, VenvName};
use venvd_core::brake;
use venvd_core::collect::Sizes;
use venvd_core::hold;
use venvd_core::list::{self, Listed};
use venvd_core::note::Note;
use venvd_core::usage::{Usage, Use};

use super::hold::now;
use super::{NO_VENVS, require_known};
use crate::failure::Failure;
use crate::output::{
    self,
    table::{age, right, size, table},
};

#[derive(Debug, Serialize)]
struct Listing {
    venvs: Vec<Row>,
    total: Total,
}

#[derive(Debug, Serialize)]
struct Row {
    venv: VenvName,
    path: std::path::PathBuf,
    sealed: bool,
    asked_for: bool,
    in_force: bool,
    previous: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Note>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Note>,
    /// It did not run well on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_bad: Option<Note>,
    /// The processes that use it, as far as the caller may see them.
    used_by: Vec<Use>,
    /// Bytes of all its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Bytes on disk that nothing else shares.
    alone: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    distributions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u64>,
}

/// Of all that are listed.
#[derive(Debug, Serialize)]
struct Total {
    /// Bytes of all files.
    size: u64,
    /// Bytes on disk, what several share counted once.
    real: u64,
}

impl Row {
    fn new(listed: Listed, sizes: &Sizes, usage: &Usage) -> Self {
        let sealed = listed.sealed();
        let summary = listed.summary;
        Self {
            path: listed.venv.path(),
            sealed,
            asked_for: listed.active,
            in_force: listed.committed,
            previous: listed.previous,
            held: None,
            revoked: None,
            known_bad: None,
            used_by: usage.of(&listed.venv).to_vec(),
            size: summary.as_ref().map(|summary| summary.size),
            alone: sizes.alone(&listed.venv),
            distributions: summary.as_ref().map(|summary| summary.distributions),
            created: summary.as_ref().map(|summary| summary.created),
            python: summary.map(|summary| summary.python),
            venv: listed.venv.name().clone(),
        }
    }
}

/// Lists the venvs of one app, or of all.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    if let Some(app) = app {
        require_known(layout, app)?;
    }
    let paths = list::paths(layout, app)?;
    let sizes = Sizes::measure(layout, &paths)?;
    // In a chroot without a /proc there is nobody to be seen, and a list all the same.
    let usage = Usage::scan(layout, &paths).unwrap_or_else(|error| {
        output::say(&format!(
            "venvctl: who uses the venvs can't be seen: {}",
            venvd_fs::report(&error)
        ));
        Usage::default()
    });
    let mut venvs = Vec::new();
    for listed in list::list(layout, app)? {
        let mut row = Row::new(listed, &sizes, &usage);
        row.held = hold::read(layout, &row.venv)?;
        row.revoked = brake::revoked(layout, &row.venv)?;
        row.known_bad = brake::known_bad(layout, &row.venv)?;
        venvs.push(row);
    }
    let total = Total {
        size: venvs.iter().filter_map(|row| row.size).sum(),
        real: sizes.total(),
    };
    output::show(&Listing { venvs, total }, json, |listing| text(listing, now()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(listing: &Listing, now: u64) -> String {
    if listing.venvs.is_empty() {
        return NO_VENVS.to_owned();
    }
    let mut cells: Vec<Vec<String>> = listing.venvs.iter().map(|row| cells(row, now)).collect();
    if cells.len() > 1 {
        let Total { size: all, real } = listing.total;
        cells.push(vec!["together".to_owned(), size(all), size(real)]);
    }
    right(&mut cells, &[1, 2]);
    table(
        &["VENV", "SIZE", "ALONE", "AGE", "DISTRIBUTIONS", "PYTHON", "STATE"],
        &cells,
    )
}

fn cells(row: &Row, now: u64) -> Vec<String> {
    vec![
        row.venv.to_string(),
        row.size.map(size).unwrap_or_default(),
        size(row.alone),
        row.created
            .map(|then| age(now.saturating_sub(then)))
            .unwrap_or_default(),
        row.distributions.map(|count| count.to_string()).unwrap_or_default(),
        row.python.clone().unwrap_or_default(),
        state(row),
    ]
}

fn state(row: &Row) -> String {
    let words = [
        (!row.sealed, "not sealed"),
        (row.in_force, "in force"),
        (row.asked_for && !row.in_force, "asked for"),
        (row.previous, "previous"),
        (row.held.is_some(), "held"),
        (row.revoked.is_some(), "revoked"),
        (row.known_bad.is_some(), "known bad"),
        (!row.used_by.is_empty(), "used"),
    ];
    let said: Vec<&str> = words
        .into_iter()
        .filter_map(|(holds, word)| holds.then_some(word))
        .collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_each_takes_and_who_needs_it() {
        let row = |venv: &str, in_force| Row {
            venv: venv.parse().unwrap(),
            path: "/x".into(),
            sealed: true,
            asked_for: in_force,
            in_force,
            previous: false,
            held: (!in_force).then(Note::default),
            revoked: (!in_force).then(Note::default),
            known_bad: None,
            used_by: Vec::new(),
            size: Some(403_000_000),
            alone: 5_100_000,
            distributions: Some(141),
            python: Some("3.11.2".into()),
            created: Some(1_000_000),
        };
        let listing = Listing {
            venvs: vec![row("nova:1", true), row("nova:2", false)],
            total: Total {
                size: 806_000_000,
                real: 408_000_000,
            },
        };
        let expected = "\
VENV      SIZE      ALONE     AGE     DISTRIBUTIONS  PYTHON  STATE
nova:1    403.0 MB    5.1 MB  3 days  141            3.11.2  in force
nova:2    403.0 MB    5.1 MB  3 days  141            3.11.2  held, revoked
together  806.0 MB  408.0 MB
";
        assert_eq!(text(&listing, 1_000_000 + 3 * 86_400 + 5), expected);
    }
}
