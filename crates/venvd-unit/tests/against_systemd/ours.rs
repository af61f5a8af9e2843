//! What we make of units, in the words of the oracle.

use std::fs;
use std::path::{Path, PathBuf};

use venvd_unit::command::Command;
use venvd_unit::effective::{EXEC_KEYS, Effective, Unit, load};
use venvd_unit::{UnitFiles, UnitId, dropins, specifier};

use crate::oracle::Reading;

/// Scans directories of the host: links in them are the host's.
pub(crate) fn scan(directories: &[PathBuf]) -> UnitFiles {
    UnitFiles::scan_directories(Path::new("/"), directories)
}

pub(crate) fn read(files: &UnitFiles, name: &str) -> Reading {
    match load(files, &UnitId::parse(name).unwrap()) {
        Unit::Loaded(unit) => reading(files, &unit),
        _ => Reading::default(),
    }
}

pub(crate) fn reading(files: &UnitFiles, unit: &Effective) -> Reading {
    let id = &unit.found.id;
    let (list, unreadable) = dropins::list(files, &unit.found);
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let mut reading = Reading {
        loaded: true,
        names: unit.found.names.iter().map(ToString::to_string).collect(),
        fragment: unit.found.fragment.as_ref().unwrap().display().to_string(),
        dropins: list.iter().map(|dropin| as_systemd_shows(&dropin.path)).collect(),
        search_path: unit
            .exec_search_path()
            .iter()
            // Which it simplifies.
            .map(|path| expand(path, id).replace("//", "/"))
            .collect::<Vec<_>>()
            .join(" "),
        kind: unit.service_type().to_owned(),
        ..Reading::default()
    };
    for key in EXEC_KEYS {
        let commands = unit.commands(key).into_iter().flat_map(|(_, line)| &line.commands);
        let words: Vec<_> = commands.map(|command| arguments(command, id)).collect();
        if !words.is_empty() {
            reading.lists.insert(key.to_owned(), words);
        }
    }
    let variables = unit.environment().into_iter();
    reading.environment = variables
        .map(|(name, value)| format!("{name}={}", expand(&value, id)))
        .collect();
    reading
}

/// With the links of its directory resolved.
fn as_systemd_shows(dropin: &Path) -> String {
    let directory = fs::canonicalize(dropin.parent().unwrap()).unwrap();
    directory.join(dropin.file_name().unwrap()).display().to_string()
}

fn arguments(command: &Command, id: &UnitId) -> Vec<String> {
    let program = Some(command.program.clone()).filter(|_| !command.prefixes.argv0);
    program
        .into_iter()
        .chain(command.arguments.iter().map(|word| expand(word, id)))
        .collect()
}

fn expand(word: &str, id: &UnitId) -> String {
    specifier::expand(word, id).unwrap().unwrap()
}
