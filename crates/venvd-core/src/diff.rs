//! What two venvs have in common, and what not, by their manifests.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;

use pep440_rs::Version;
use serde::Serialize;
use venvd_app::VenvName;

use crate::manifest::{File, Manifest};

/// From one venv to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The venv that one comes from.
    pub before: VenvName,
    /// The venv that one goes to.
    pub after: VenvName,
    /// Whether they hold the same distributions, programs and host modules for the same Python.
    pub identical: bool,
    /// Distributions that differ, by name.
    pub distributions: Vec<DistributionChange>,
    /// How many distributions have the same version and the same files.
    pub same_distributions: usize,
    /// Programs that appear and vanish.
    pub programs: Names,
    /// Modules of the host's Python that appear and vanish.
    pub host_modules: Names,
    /// What differs of the Python they are bound to.
    pub python: Vec<PythonChange>,
    /// How much of the content is new, shared, or gone.
    pub content: Content,
}

/// A distribution that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DistributionChange {
    /// Its name, normalised.
    pub name: String,
    /// How it differs.
    pub change: Change,
    /// Its version before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its version after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How a distribution differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its version is higher (PEP 440).
    Upgraded,
    /// Its version is lower.
    Downgraded,
    /// Its version is another one, of which nobody can say whether it is higher.
    Other,
    /// It has other files under the same version.
    Content,
}

/// Names that are on one side only, or mean something else there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Those that only the second venv has.
    pub added: Vec<String>,
    /// Those that only the first one has.
    pub removed: Vec<String>,
    /// Host modules that are made of other files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

impl Names {
    /// Returns whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Something of the Python that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PythonChange {
    /// What: `interpreter`, `version`, `soabi`, `bytecode`, `platform` or `glibc`.
    pub what: &'static str,
    /// Before.
    pub before: String,
    /// After.
    pub after: String,
}

/// How much of the content is new, shared, or gone. Equal content counts once, whatever its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// What only the second venv has: what it costs on a host that has the first.
    pub new: Amount,
    /// What both have.
    pub shared: Amount,
    /// What only the first has.
    pub gone: Amount,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// How much.
    pub bytes: u64,
}

/// Compares two venvs, of one app or of two.
#[must_use]
pub fn diff(before: (&VenvName, &Manifest), after: (&VenvName, &Manifest)) -> Diff {
    let ((from, old), (to, new)) = (before, after);
    let distributions = distributions(old, new);
    let changed_or_gone = distributions.iter().filter(|one| one.change != Change::Added).count();
    let programs = names(
        old.programs.iter().map(|program| (program.to_string(), ())),
        new.programs.iter().map(|program| (program.to_string(), ())),
    );
    let host_modules = names(
        old.host_modules
            .iter()
            .map(|module| (module.name.clone(), &module.links)),
        new.host_modules
            .iter()
            .map(|module| (module.name.clone(), &module.links)),
    );
    let python = python(old, new);
    Diff {
        before: from.clone(),
        after: to.clone(),
        identical: distributions.is_empty() && programs.is_empty() && host_modules.is_empty() && python.is_empty(),
        same_distributions: old.distributions.len().saturating_sub(changed_or_gone),
        distributions,
        programs,
        host_modules,
        python,
        content: content(&old.files, &new.files),
    }
}

fn distributions(old: &Manifest, new: &Manifest) -> Vec<DistributionChange> {
    let versions = |manifest: &Manifest| -> BTreeMap<String, String> {
        let pairs = manifest.distributions.iter();
        pairs.map(|one| (one.name.clone(), one.version.clone())).collect()
    };
    let (was, is) = (versions(old), versions(new));
    let (old_files, new_files) = (files_of(old), files_of(new));
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let changes = names.into_iter().filter_map(|name| {
        let change = match (was.get(name), is.get(name)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(one), Some(other)) if one == other => {
                if old_files.get(name.as_str()) == new_files.get(name.as_str()) {
                    return None;
                }
                Change::Content
            }
            (Some(one), Some(other)) => direction(one, other),
        };
        Some(DistributionChange {
            name: name.clone(),
            change,
            before: was.get(name).cloned(),
            after: is.get(name).cloned(),
        })
    });
    changes.collect()
}

/// Versions in PEP 440's order: `1.10` is higher than `1.9`, `2.0rc1` lower than `2.0`.
fn direction(before: &str, after: &str) -> Change {
    match (Version::from_str(before), Version::from_str(after)) {
        (Ok(one), Ok(other)) => match one.cmp(&other) {
            Ordering::Less => Change::Upgraded,
            Ordering::Greater => Change::Downgraded,
            // `1.0` and `1.0.0` are equal.
            Ordering::Equal => Change::Other,
        },
        _ => Change::Other,
    }
}

/// Returns each distribution's files with their content. What names the venv's own place differs in any case.
fn files_of(manifest: &Manifest) -> HashMap<&str, Vec<(&str, u32, &str)>> {
    let mut files: HashMap<&str, Vec<_>> = HashMap::new();
    for file in &manifest.files {
        if let Some(distribution) = file.dist.as_deref() {
            let content = if file.placed { "" } else { file.blake3.as_str() };
            let entry = (file.path.as_str(), file.mode, content);
            files.entry(distribution).or_default().push(entry);
        }
    }
    files
}

fn names<T: PartialEq>(old: impl Iterator<Item = (String, T)>, new: impl Iterator<Item = (String, T)>) -> Names {
    let (old, new): (BTreeMap<String, T>, BTreeMap<String, T>) = (old.collect(), new.collect());
    let only = |these: &BTreeMap<String, T>, those: &BTreeMap<String, T>| -> Vec<String> {
        these
            .keys()
            .filter(|name| !those.contains_key(*name))
            .cloned()
            .collect()
    };
    let differs = |name: &String| new.get(name).is_some_and(|now| old.get(name) != Some(now));
    Names {
        added: only(&new, &old),
        removed: only(&old, &new),
        changed: old.keys().filter(|name| differs(name)).cloned().collect(),
    }
}

fn python(old: &Manifest, new: &Manifest) -> Vec<PythonChange> {
    let unknown = || "unknown".to_owned();
    let glibc = |manifest: &Manifest| manifest.glibc.clone().unwrap_or_else(unknown);
    let interpreter = |manifest: &Manifest| manifest.python.interpreter.display().to_string();
    [
        ("interpreter", interpreter(old), interpreter(new)),
        ("version", old.python.version.clone(), new.python.version.clone()),
        ("soabi", old.python.soabi.clone(), new.python.soabi.clone()),
        ("bytecode", old.python.magic.clone(), new.python.magic.clone()),
        ("platform", old.platform.clone(), new.platform.clone()),
        ("glibc", glibc(old), glibc(new)),
    ]
    .into_iter()
    .filter(|(_, before, after)| before != after)
    .map(|(what, before, after)| PythonChange { what, before, after })
    .collect()
}

fn content(old: &[File], new: &[File]) -> Content {
    let (old, new) = (contents(old), contents(new));
    let mut content = Content::default();
    for (key, size) in &new {
        let amount = if old.contains_key(key) {
            &mut content.shared
        } else {
            &mut content.new
        };
        amount.files += 1;
        amount.bytes += size;
    }
    for (_, size) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        content.gone.files += 1;
        content.gone.bytes += size;
    }
    content
}

/// The store keeps a content once for each mode.
fn contents(files: &[File]) -> HashMap<(&str, u32), u64> {
    let contents = files.iter();
    contents
        .map(|file| ((file.blake3.as_str(), file.mode), file.size))
        .collect()
}

#[cfg(test)]
mod tests;
