//! Units as the systemd of a machine reads them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{
    reading::{Reading, Service},
    site::READER,
};
use crate::Machine;

/// What of a unit is asked for by `systemctl show`.
const PROPERTIES: [&str; 5] = ["Id", "Names", "LoadState", "FragmentPath", "DropInPaths"];

/// All properties of a unit, as `systemctl show` prints them.
pub type Properties = BTreeMap<String, String>;

/// Shows properties of units, all of them when none is named; in the order of the names.
///
/// # Panics
/// When systemctl fails.
#[must_use]
pub fn show(machine: &Machine, properties: &[&str], names: &[&str]) -> Vec<Properties> {
    let properties: Vec<_> = properties.iter().flat_map(|property| ["-p", property]).collect();
    let output = machine.run(&[&["systemctl", "show"], &properties[..], &["--"], names].concat());
    assert!(output.success(), "can't show units: {output}");
    let units = output.stdout.split("\n\n").map(|block| {
        let pairs = block.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    });
    let units: Vec<_> = units.collect();
    assert_eq!(units.len(), names.len(), "systemctl shows other units than asked for");
    units
}

/// Reads units by name, on a machine that has the program `read-units`.
///
/// # Errors
/// When systemd does not answer.
pub fn read(machine: &Machine, names: &[&str]) -> Result<BTreeMap<String, Reading>> {
    let mut readings = BTreeMap::new();
    for (name, mut shown) in names.iter().zip(show(machine, &PROPERTIES, names)) {
        let mut take = |key: &str| shown.remove(key).unwrap_or_default();
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut reading = Reading {
            load: take("LoadState"),
            id: take("Id"),
            names: words(take("Names")).iter().map(|name| unquoted(name)).collect(),
            fragment: merged(&take("FragmentPath")),
            dropins: words(take("DropInPaths")).iter().map(|path| merged(path)).collect(),
            service: None,
        };
        if reading.load == "masked" {
            reading.dropins.clear();
        }
        readings.insert((*name).to_owned(), reading);
    }
    let services = readings
        .values()
        .filter(|reading| reading.load == "loaded" && reading.id.ends_with(".service"));
    let mut services = self::services(machine, services.map(|reading| reading.id.as_str()))?;
    for reading in readings.values_mut() {
        reading.service = services.get_mut(&reading.id).cloned();
    }
    Ok(readings)
}

/// Asks what services run.
///
/// # Errors
/// When systemd does not answer.
pub fn services<'a>(machine: &Machine, names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, Service>> {
    let names: String = names.into_iter().flat_map(|name| [name, "\n"]).collect();
    let output = machine.run_with_input(&[READER, "--bus"], names.as_bytes());
    anyhow::ensure!(output.success(), "systemd does not answer: {output}");
    serde_json::from_str(&output.stdout).context("read-units prints no JSON")
}

/// The path with `/usr/lib` for `/lib`, which is a link to it: 252, built for a split `/usr`, has its units in `/lib`.
fn merged(path: &str) -> String {
    match path.strip_prefix("/lib/") {
        Some(path) => format!("/usr/lib/{path}"),
        None => path.to_owned(),
    }
}

/// A word as it was before systemctl quoted it: of the characters in unit names only the backslash makes it do that.
fn unquoted(word: &str) -> String {
    let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    inner.map_or_else(|| word.to_owned(), |inner| inner.replace("\\\\", "\\"))
}
