//! Have two manifests the same content?

use std::collections::BTreeMap;

use super::bytecode::is_bytecode;
use crate::manifest::{File, Manifest};

/// Returns how a venv that is there differs from one that is to be installed under its name, one phrase each.
///
/// Who built it, when, and with which patch version of Python does not count, nor does bytecode: it follows from the
/// rest, and from the patch version.
pub(super) fn differences(present: &Manifest, new: &Manifest) -> Vec<String> {
    let mut differences = Vec::new();
    for (what, present, new) in [
        ("its lock has the digest", &present.lock.digest, &new.lock.digest),
        ("its python is", &present.python.minor, &new.python.minor),
        ("its SOABI is", &present.python.soabi, &new.python.soabi),
    ] {
        if present != new {
            differences.push(format!("{what} {present}, not {new}"));
        }
    }
    if present.python.interpreter != new.python.interpreter {
        differences.push(format!(
            "its interpreter is {:?}, not {:?}",
            present.python.interpreter, new.python.interpreter
        ));
    }
    let versions = |manifest: &Manifest| -> BTreeMap<String, String> {
        let distributions = manifest.distributions.iter().cloned();
        distributions.map(|one| (one.name, one.version)).collect()
    };
    differences.extend(unequal(&versions(present), &versions(new)));
    if differences.is_empty() {
        // Only where nothing else says why: thousands of files follow from one distribution.
        differences.extend(unequal(&contents(present), &contents(new)));
    }
    // What is shown of a hash is short enough to be met on purpose.
    if differences.is_empty() && hashes(present) != hashes(new) {
        differences.push("its files have other content".to_owned());
    }
    if differences.is_empty() && present.links != new.links {
        differences.push("its links lead elsewhere".to_owned());
    }
    differences
}

fn hashes(manifest: &Manifest) -> BTreeMap<&str, &str> {
    let files = manifest.files.iter().filter(|file| !is_bytecode(&file.path));
    files.map(|file| (file.path.as_str(), file.blake3.as_str())).collect()
}

fn contents(manifest: &Manifest) -> BTreeMap<String, String> {
    let files = manifest.files.iter().filter(|file| !is_bytecode(&file.path));
    let content = |file: &File| format!("{} {:04o}", file.blake3.get(..8).unwrap_or_default(), file.mode);
    files.map(|file| (file.path.clone(), content(file))).collect()
}

fn unequal(present: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, value) in present {
        match new.get(name) {
            Some(other) if other == value => {}
            Some(other) => differences.push(format!("{name} is {value} there, not {other}")),
            None => differences.push(format!("{name} is only there")),
        }
    }
    let more = new.keys().filter(|name| !present.contains_key(*name));
    differences.extend(more.map(|name| format!("{name} is not there")));
    differences
}
