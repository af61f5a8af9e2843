//! What the files of a unit say, and what stands in front of venvd's: as systemd-delta(1) would tell, had it known
//! drop-ins of generators.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use venvd_app::definition::UnitKind;
use venvd_app::{AppName, Layout};
use venvd_unit::effective::{self, EXEC_KEYS, Effective, Entry, Unit};
use venvd_unit::fate::{Fate, fates};
use venvd_unit::{UnitFiles, UnitId, dropins};

use super::model::{Files, Line, Load, Shadow, ShadowKind};
use crate::units::{DROP_IN, is_generated, is_our_drop_in};

const SERVICE: &str = "Service";

/// The variables that venvd gives a service.
const VARIABLES: [&str; 3] = ["PATH", "VIRTUAL_ENV", "VENVD_TAG"];

/// Where units are read.
pub(super) struct Reader<'a> {
    pub(super) layout: &'a Layout,
    pub(super) units: &'a UnitFiles,
    /// `venvd-report.json`.
    pub(super) report: &'a Value,
}

/// A unit that an app's definition names.
#[derive(Clone, Copy)]
pub(super) struct Declared<'a> {
    pub(super) app: &'a AppName,
    /// The name in the definition: of an instance, perhaps its template.
    pub(super) name: &'a str,
    pub(super) kind: &'a UnitKind,
}

impl Reader<'_> {
    /// Reads the files of a unit that is what a definition names, or an instance of it.
    pub(super) fn read(&self, declared: Declared<'_>, unit: &str) -> Files {
        let mut files = Files::default();
        self.told(declared, &mut files);
        let Ok(id) = UnitId::parse(unit) else { return files };
        let found = self.units.find(&id);
        files.fragment.clone_from(&found.fragment);
        let (list, _) = dropins::list(self.units, &found);
        files.drop_ins = list.into_iter().map(|drop_in| drop_in.path).collect();
        let whole = matches!(declared.kind, UnitKind::Whole(_));
        files.generated = match &found.fragment {
            Some(fragment) if whole && is_generated(self.layout, fragment) => Some(fragment.clone()),
            _ => files
                .drop_ins
                .iter()
                .find(|path| is_our_drop_in(self.layout, path))
                .cloned(),
        };
        match effective::load(self.units, &id) {
            Unit::Absent => {}
            Unit::Masked(path) => {
                files.load = Load::Masked;
                files.shadowed_by = vec![of_file(ShadowKind::Mask, &path, "masks the unit")];
            }
            Unit::Broken(trouble) => {
                files.load = Load::Broken;
                files.ignored = vec![trouble.to_string()];
            }
            Unit::Loaded(unit) => {
                files.load = Load::Loaded;
                self.loaded(declared, &unit, &mut files);
            }
        }
        files
    }

    /// Adds what the generator said.
    fn told(&self, declared: Declared<'_>, files: &mut Files) {
        let said = &self.report["apps"][declared.app.as_str()]["units"][declared.name];
        files.generator = said["state"].as_str().map(str::to_owned);
        files.skipped = said["reason"].as_str().map(str::to_owned);
        let warnings = said["warnings"].as_array().into_iter().flatten();
        files.warnings = warnings
            .filter_map(Value::as_str)
            // What applies after our drop-in is told below, as it is now.
            .filter(|warning| !warning.contains(&format!("after {DROP_IN}")))
            .map(str::to_owned)
            .collect();
    }

    fn loaded(&self, declared: Declared<'_>, unit: &Effective, files: &mut Files) {
        files.ignored = unit.troubles.iter().map(ToString::to_string).collect();
        // The generator says the same of those that it knows.
        files
            .warnings
            .retain(|warning| !files.ignored.iter().any(|ignored| warning.contains(ignored)));
        let starts = unit.list(SERVICE, "ExecStart");
        files.exec_start = starts.iter().map(|entry| line(entry)).collect();
        files.shadowed_by = match &files.generated {
            Some(ours) if files.drop_ins.contains(ours) => shadows(unit, ours),
            _ => self.in_front(declared, files),
        };
        files.taken_into_account = match &files.generated {
            Some(ours) => taken(unit, ours),
            None => Vec::new(),
        };
        files.tag = self.tag(declared, unit, files.generated.as_deref());
    }

    /// Returns what keeps our file from counting at all.
    fn in_front(&self, declared: Declared<'_>, files: &Files) -> Vec<Shadow> {
        if matches!(declared.kind, UnitKind::Whole(_)) {
            let fragment = files.fragment.iter().filter(|path| !is_generated(self.layout, path));
            return fragment
                .map(|path| {
                    of_file(
                        ShadowKind::UnitFile,
                        path,
                        "is taken instead of the unit that venvd writes",
                    )
                })
                .collect();
        }
        let same = files
            .drop_ins
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| name == DROP_IN));
        same.map(|path| {
            of_file(
                ShadowKind::SameName,
                path,
                "has the name of venvd's drop-in and comes first",
            )
        })
        .collect()
    }

    /// Returns the tag of the venv that the next start runs.
    fn tag(&self, declared: Declared<'_>, unit: &Effective, ours: Option<&Path>) -> Option<String> {
        let mention = |text: &str| self.mention(declared.app, text);
        let starts = unit.list(SERVICE, "ExecStart");
        if let Some(tag) = starts.iter().find_map(|entry| mention(entry.value())) {
            return Some(tag);
        }
        // A server from outside the venv is told by its variables.
        let by_variables =
            matches!(declared.kind, UnitKind::Environment) || starts.iter().any(|entry| Some(&*entry.path) == ours);
        let variables = unit.environment();
        variables
            .iter()
            .filter(|_| by_variables)
            .find_map(|(_, value)| mention(value))
    }

    /// Returns the tag of an app's venv whose path stands in a text.
    fn mention(&self, app: &AppName, text: &str) -> Option<String> {
        self.layout.venv_directories().iter().find_map(|base| {
            let before = format!("{}/{app}/", base.display());
            let (_, after) = text.split_once(&before)?;
            let end = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
            after.split(end).next().filter(|tag| !tag.is_empty()).map(str::to_owned)
        })
    }
}

fn line(entry: &Entry) -> Line {
    Line {
        path: entry.path.to_path_buf(),
        line: entry.assignment.line,
        text: format!("{}={}", entry.assignment.key, entry.value()),
    }
}

fn of_file(kind: ShadowKind, path: &Path, what: &str) -> Shadow {
    Shadow {
        kind,
        path: path.to_owned(),
        line: 0,
        key: None,
        what: what.to_owned(),
    }
}

/// Returns the lines of other files that take lines of `ours` back.
fn shadows(unit: &Effective, ours: &Path) -> Vec<Shadow> {
    let mut shadows: Vec<Shadow> = Vec::new();
    let mut add = |by: &Entry, what: String| {
        let shadow = Shadow {
            kind: ShadowKind::LaterDropIn,
            path: by.path.to_path_buf(),
            line: by.assignment.line,
            key: Some(by.assignment.key.clone()),
            what,
        };
        if &*by.path != ours && !shadows.contains(&shadow) {
            shadows.push(shadow);
        }
    };
    let mut lists = BTreeSet::new();
    for (entry, fate) in fates(unit).into_iter().filter(|(entry, _)| &*entry.path == ours) {
        let key = entry.assignment.key.as_str();
        lists.insert(key);
        match fate {
            Fate::Counts => {}
            // Which file the definition is in, changes nothing.
            Fate::Replaced(_) if key == "SourcePath" => {}
            Fate::Emptied(by) => add(by, format!("empties {key}= after venvd has set it")),
            Fate::Replaced(by) => add(by, format!("sets {key}= after venvd has")),
            Fate::Overridden(by) => add(by, format!("sets {} after venvd has", names(by, unit))),
            Fate::Partly(variables) => {
                for (name, by) in variables {
                    add(by, format!("sets {name} after venvd has"));
                }
            }
        }
    }
    for entry in unit.list(SERVICE, "UnsetEnvironment") {
        let words = entry.value().split_whitespace();
        for name in words.filter(|word| VARIABLES.contains(word)) {
            add(entry, format!("takes {name} away from the service"));
        }
    }
    for key in EXEC_KEYS.iter().filter(|key| lists.contains(**key)) {
        let list = unit.list(SERVICE, key);
        let last = list.iter().rposition(|entry| &*entry.path == ours);
        for entry in last.iter().flat_map(|last| &list[last + 1..]) {
            add(
                entry,
                format!("adds a line to {key}= after venvd has replaced the list"),
            );
        }
    }
    shadows
}

fn names(entry: &Entry, unit: &Effective) -> String {
    let names: Vec<String> = entry
        .variables(&unit.found.id)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.join(", ")
}

/// Returns the drop-ins whose lines are in ours.
fn taken(unit: &Effective, ours: &Path) -> Vec<std::path::PathBuf> {
    let before = unit.entries().iter().take_while(|entry| &*entry.path != ours);
    let counts = |entry: &&Entry| {
        let key = entry.assignment.key.as_str();
        entry.assignment.section == SERVICE
            && (EXEC_KEYS.contains(&key) || ["Environment", "ExecSearchPath"].contains(&key))
    };
    let mut paths = Vec::new();
    for entry in before.filter(counts) {
        let is_drop_in = entry
            .path
            .parent()
            .is_some_and(|parent| parent.extension().is_some_and(|it| it == "d"));
        if is_drop_in && !paths.contains(&entry.path.to_path_buf()) {
            paths.push(entry.path.to_path_buf());
        }
    }
    paths
}

#[cfg(test)]
mod tests;
