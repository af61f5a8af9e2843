//! Figures: what venvd does, beside what other tools take for the same, in one run on one machine.
//!
//! A [`Row`] holds one figure of ours and those of its peers. All sides of a row are measured in turn (`contest.rs`), so
//! that a machine that gets slower does so for all of them. A row that does not hold stays in, and says so.

pub mod activate;
mod activator;
mod contest;
mod core;
mod fixture;
mod generator;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

pub use report::{table, write};

/// What to measure, and with what.
#[derive(Debug)]
pub struct Options {
    /// The groups to measure, or single parts of them as `core/verify`; all when there is none.
    pub only: Vec<String>,
    /// The release build of venvctl.
    pub venvctl: PathBuf,
    /// The release build of the generator.
    pub generator: PathBuf,
    /// How many samples of each side are taken at least.
    pub samples: usize,
}

impl Options {
    /// Whether a part of a group is asked for.
    fn wants(&self, group: &str, part: &str) -> bool {
        let asked = |only: &String| match only.split_once('/') {
            Some(words) => words == (group, part),
            None => only == group,
        };
        self.only.is_empty() || self.only.iter().any(asked)
    }
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What it belongs to: `core`, `generator`, `activate`, `activator`.
    pub group: &'static str,
    /// What is done.
    pub name: String,
    /// `s`, `ms`, `MB`, `MiB`, `wakeups`; `M` for millions of instructions.
    pub unit: &'static str,
    /// Our median.
    pub venvd: f64,
    /// The medians of others for the same.
    pub peers: BTreeMap<String, f64>,
    /// What ours may be at most, where that is an absolute figure.
    pub limit: Option<f64>,
    /// Ours by the peer's.
    pub ratio: Option<f64>,
    /// What the ratio may be at most.
    pub goal: Option<f64>,
    /// Whether it is so.
    pub holds: bool,
    /// How it was measured.
    pub how: String,
}

impl Row {
    /// Returns a row with an absolute limit.
    fn limited(name: &str, unit: &'static str, (venvd, limit): (f64, f64)) -> Self {
        Self {
            group: "",
            name: name.to_owned(),
            unit,
            venvd,
            peers: BTreeMap::new(),
            limit: Some(limit),
            ratio: None,
            goal: None,
            holds: venvd <= limit,
            how: String::new(),
        }
    }

    /// Returns a row in which ours may be at most `goal` times the peer's, if there is a goal.
    fn against(name: &str, unit: &'static str, outcome: &contest::Outcome, goal: impl Into<Option<f64>>) -> Self {
        let goal = goal.into();
        Self {
            group: "",
            name: name.to_owned(),
            unit,
            venvd: outcome.ours,
            peers: [(outcome.peer.to_owned(), outcome.theirs)].into(),
            limit: None,
            ratio: Some(outcome.ratio),
            goal,
            holds: goal.is_none_or(|goal| outcome.ratio <= goal),
            how: String::new(),
        }
    }

    /// Says how it was measured.
    fn how(mut self, how: impl Into<String>) -> Self {
        self.how = how.into();
        self
    }
}

/// Hears what is being done, one line at a time.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// A group: its name, its parts, and what measures those of them that are asked for.
struct Group {
    name: &'static str,
    parts: &'static [&'static str],
    measure: fn(&Options, Say<'_>) -> Result<Vec<Row>>,
}

const GROUPS: [Group; 4] = [
    Group {
        name: "core",
        parts: &core::PARTS,
        measure: core::rows,
    },
    Group {
        name: "generator",
        parts: &generator::PARTS,
        measure: generator::rows,
    },
    Group {
        name: "activate",
        parts: &activate::PARTS,
        measure: activate::rows,
    },
    Group {
        name: "activator",
        parts: &activator::PARTS,
        measure: activator::rows,
    },
];

/// Measures what is asked for.
///
/// # Errors
/// When a group is unknown, something can't be set up, or a side fails: a figure that could not be taken is no row.
pub fn run(options: &Options, say: Say<'_>) -> Result<Vec<Row>> {
    let names = |group: &Group| {
        let parts = group.parts.iter().map(|part| format!("{}/{part}", group.name));
        parts.chain([group.name.to_owned()]).collect::<Vec<_>>()
    };
    let known: BTreeSet<String> = GROUPS.iter().flat_map(names).collect();
    if let Some(unknown) = options.only.iter().find(|only| !known.contains(*only)) {
        let known: Vec<_> = known.into_iter().collect();
        bail!("there is no group {unknown:?}, only {}", known.join(", "));
    }
    let mut rows = Vec::new();
    for group in GROUPS {
        if group.parts.iter().any(|part| options.wants(group.name, part)) {
            let mut measured = (group.measure)(options, say)?;
            measured.iter_mut().for_each(|row| row.group = group.name);
            rows.extend(measured);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(only: &[&str]) -> Options {
        Options {
            only: only.iter().map(|&only| only.to_owned()).collect(),
            venvctl: PathBuf::new(),
            generator: PathBuf::new(),
            samples: 5,
        }
    }

    #[test]
    fn groups_and_parts_are_chosen_by_name() {
        assert!(options(&[]).wants("core", "verify"));
        assert!(options(&["core"]).wants("core", "verify"));
        assert!(options(&["core/verify"]).wants("core", "verify"));
        assert!(!options(&["core/verify"]).wants("core", "import"));
        assert!(options(&["generator/0"]).wants("generator", "0"));
        for unknown in ["cores", "core/x", "verify", "core/0"] {
            let error = run(&options(&[unknown]), &mut |_| ()).unwrap_err().to_string();
            assert!(error.contains("core/verify"), "{error}");
        }
    }
}
