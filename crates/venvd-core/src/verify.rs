//! Is a sealed venv still what it was sealed as, and does it still fit its host?
//!
//! Every file is read and compared with the manifest by content; nothing of the venv is executed. Only the host's own
//! interpreter is asked what it is. Nothing is changed, so a venv may be looked at while services run from it.

use std::path::Path;

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{Layout, Scope};

use crate::error::Error;
use crate::manifest::Manifest;

pub(crate) mod attributes;
mod content;
mod contract;
mod deep;
mod expected;
mod finding;
mod manifest;
mod tree;

pub(crate) use contract::{prefixes, python};
pub use finding::{Code, Cure, Finding};
pub(crate) use manifest::{check as manifest_of, digest as digest_of};

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Compile all sources anew and compare the bytecode.
    pub deep: bool,
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many files were read.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What is good to know and not wrong.
    pub notes: Vec<String>,
}

/// Hears how a verification goes on, from several threads.
pub trait Progress: Sync {
    /// So many bytes will be read.
    fn begin(&self, bytes: u64);
    /// So many more bytes were read.
    fn advance(&self, bytes: u64);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Compares a venv with its manifest and with what it needs of this host.
///
/// The interpreter is looked for on the running system, also when `layout` is below another root. What this process may
/// not read becomes a finding of its own.
///
/// # Errors
/// When there is no such venv. All that is wrong with one that is there is in the report.
pub fn verify(layout: &Layout, venv: &VenvPath, options: Options, progress: &dyn Progress) -> Result<Report, Error> {
    let directory = layout.on_disk(venv.path());
    let mut report = Report::default();
    match std::fs::symlink_metadata(&directory) {
        Ok(metadata) if metadata.is_dir() => {}
        // A stray file among the venvs must not keep the others from being looked at.
        Ok(metadata) => {
            report.findings.push(manifest::no_directory(&metadata));
            return Ok(report);
        }
        Err(_) => {
            return Err(Error::NoSuchVenv {
                venv: venv.name().clone(),
            });
        }
    }
    report.findings.extend(contract::chain(layout, venv));
    match manifest::load(&directory) {
        Ok(manifest) => {
            let compare = || tree::compare(&directory, &manifest, owner(layout), progress);
            let (tree, (host, interpreter)) = rayon::join(compare, || contract::check(layout, venv, &manifest));
            report.findings.extend(manifest::check(venv, &manifest));
            report.findings.extend(manifest::digest(&manifest));
            // What is not as it was sealed must not be compiled either.
            if options.deep && tree.findings.is_empty() && report.findings.is_empty() {
                report.add(deep::compare(&directory, &manifest, interpreter.as_ref()));
            } else if options.deep {
                let note = "its bytecode is compared when all files are as they were sealed";
                report.notes.push(note.to_owned());
            }
            report.add(tree);
            report.add(host);
        }
        Err(finding) => report.findings.push(finding),
    }
    Finding::sort(&mut report.findings);
    report.findings.dedup();
    Ok(report)
}

/// Compares a tree that lies anywhere with a manifest: content, links, modes, owners, and that there is nothing else.
#[must_use]
pub fn tree(directory: &Path, manifest: &Manifest, progress: &dyn Progress) -> Report {
    let owner = tree::Owner::of_this_process();
    let mut report = tree::compare(directory, manifest, owner, progress);
    Finding::sort(&mut report.findings);
    report
}

/// Reads the manifest of the venv in a directory, through no link; the finding says why it can't be.
pub(crate) fn load_manifest(directory: &Path) -> Result<Manifest, Finding> {
    manifest::load(directory)
}

/// Compares what a venv needs of the host's interpreter, machine and modules with what is there.
pub(crate) fn host_of(layout: &Layout, venv: &VenvPath, manifest: &Manifest) -> Report {
    let mut report = Report::default();
    contract::python(manifest, &mut report);
    contract::host_modules(layout, venv, manifest, &mut report);
    report
}

/// On a host only root may own a venv's files; an image may belong to whoever makes it.
fn owner(layout: &Layout) -> tree::Owner {
    if layout.root().is_host() && layout.scope() == Scope::System {
        tree::Owner::ROOT
    } else {
        tree::Owner::of_this_process()
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.findings.extend(other.findings);
        self.notes.extend(other.notes);
    }
}

#[cfg(test)]
pub(crate) mod tests;
