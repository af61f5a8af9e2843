//! What a venv needs of its host: directories in root's hands, the interpreter, the machine, modules of the host's.

use std::path::Path;

use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::report;

use super::Report;
use super::finding::{Code, Finding};
use crate::below::Below;
use crate::interpreter::{Interpreter, ProbeError};
use crate::manifest::{File, Manifest};
use crate::relocate::wrong_interpreter;
use crate::requires::{self, Misfit};

/// More than the longest first line that a kernel reads, and the two lines after it.
const SCRIPT_START: u64 = 4 << 10;

/// Checks every directory from the root down to the venv.
pub(crate) fn chain(layout: &Layout, venv: &VenvPath) -> Option<Finding> {
    // The venv itself is looked at with its tree.
    let parent = venv.path().parent().map(Path::to_owned).unwrap_or_default();
    match layout.trusted(&parent) {
        Ok(real) if real == parent => None,
        Ok(real) => Some(Finding::general(
            Code::Chain,
            format!("{parent:?} leads through a symbolic link to {real:?}; mount that there instead"),
        )),
        Err(error) => Some(Finding::general(Code::Chain, report(&error))),
    }
}

/// Checks all that is not in the tree itself; also returns the interpreter if it is the one that the venv was built for.
pub(crate) fn check(layout: &Layout, venv: &VenvPath, manifest: &Manifest) -> (Report, Option<Interpreter>) {
    let mut report = Report::default();
    let interpreter = python(manifest, &mut report).filter(|found| found.minor == manifest.python.minor);
    match &interpreter {
        Some(interpreter) => {
            let paths = manifest.files.iter().map(|file| file.path.as_str());
            let misfits = requires::check(&layout.on_disk(venv.path()), paths, interpreter);
            let finding = |misfit: Misfit| Finding::general(Code::Requirement, misfit.to_string());
            report.findings.extend(misfits.into_iter().map(finding));
        }
        None => report
            .notes
            .push("without its python it can't be told whether its distributions fit each other".to_owned()),
    }
    match &interpreter {
        Some(interpreter) if layout.root().is_host() => ask_for_host_modules(manifest, interpreter, &mut report),
        // Another root's are not those that this system's python finds.
        _ => host_modules(layout, venv, manifest, &mut report),
    }
    report
        .findings
        .extend(prefixes(&layout.on_disk(venv.path()), venv, manifest));
    (report, interpreter)
}

/// Checks that the interpreter still finds its modules where the venv has them, fit and root's own.
fn ask_for_host_modules(manifest: &Manifest, interpreter: &Interpreter, report: &mut Report) {
    match crate::host_modules::check(manifest, interpreter) {
        Ok(problems) => report
            .findings
            .extend(problems.into_iter().map(|problem| match problem.link {
                Some(link) => Finding::of(Code::HostModule, &link, problem.message),
                None => Finding::general(Code::HostModule, problem.message),
            })),
        Err(error) => report
            .findings
            .push(Finding::general(Code::HostModule, venvd_fs::report(&error))),
    }
}

/// Checks that what links to modules of the host's Python lead to is still there.
pub(crate) fn host_modules(layout: &Layout, venv: &VenvPath, manifest: &Manifest, report: &mut Report) {
    let directory = layout.on_disk(venv.path());
    for module in &manifest.host_modules {
        for link in &module.links {
            // Where the link itself was changed, the tree tells it.
            let Some(sealed) = manifest.links.iter().find(|sealed| sealed.path == *link) else {
                let message = format!("its link {link} is not in the manifest");
                report.findings.push(Finding::general(Code::HostModule, message));
                continue;
            };
            let target = directory.join(link).parent().map(|parent| parent.join(&sealed.target));
            if !target.is_some_and(|target| target.exists()) {
                let message = format!(
                    "{:?} of the host's python is not there any more; the module {} can't be imported",
                    sealed.target, module.name
                );
                report.findings.push(Finding::of(Code::HostModule, link, message));
            }
        }
    }
}

/// Compares the host's interpreter with the one that the venv was built for; returns it if it can be asked at all.
pub(crate) fn python(manifest: &Manifest, report: &mut Report) -> Option<Interpreter> {
    let recorded = &manifest.python;
    let interpreter = match Interpreter::probe(&recorded.interpreter) {
        Ok(interpreter) => interpreter,
        Err(error) => {
            report.findings.push(unusable(&error));
            return None;
        }
    };
    let differs = |what: &str, before: &str, now: &str| {
        format!("it was built for {what} {before}, but {:?} has {now}", interpreter.path)
    };
    let findings = &mut report.findings;
    if recorded.minor != interpreter.minor {
        // All else differs then too.
        findings.push(Finding::general(
            Code::PythonMinor,
            differs("python", &recorded.minor, &interpreter.minor),
        ));
    } else {
        for (what, before, now) in [
            ("SOABI", &recorded.soabi, &interpreter.soabi),
            ("bytecode magic", &recorded.magic, &interpreter.magic),
            ("cache tag", &recorded.cache_tag, &interpreter.cache_tag),
        ] {
            if before != now {
                findings.push(Finding::general(Code::PythonAbi, differs(what, before, now)));
            }
        }
    }
    for (what, before, now) in [
        ("the platform", &manifest.platform, &interpreter.platform),
        ("the machine", &manifest.arch, &interpreter.arch),
    ] {
        if before != now {
            findings.push(Finding::general(Code::Platform, differs(what, before, now)));
        }
    }
    if let Some(needed) = too_old(manifest.glibc.as_deref(), &interpreter.libc) {
        let message = format!(
            "its wheels need glibc {needed} or newer, and this host has {}",
            interpreter.libc
        );
        findings.push(Finding::general(Code::Platform, message));
    }
    if interpreter.minor == recorded.minor && interpreter.version != recorded.version {
        report.notes.push(format!(
            "it was built with python {}, the host has {} now; that is all right",
            recorded.version, interpreter.version
        ));
    }
    Some(interpreter)
}

fn unusable(error: &ProbeError) -> Finding {
    let code = match error {
        ProbeError::Missing { .. } => Code::PythonGone,
        ProbeError::Unsafe(_) => Code::Chain,
        _ => Code::PythonBroken,
    };
    Finding::general(code, report(error))
}

/// Returns what is needed if the host's C library, as `glibc 2.36`, is older or another.
fn too_old<'a>(needed: Option<&'a str>, libc: &str) -> Option<&'a str> {
    let needed = needed?;
    let version = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    };
    let has = libc.strip_prefix("glibc ").and_then(version);
    (has < version(needed)).then_some(needed)
}

/// Checks that each script starts this venv's Python. One that was moved by hand is as its manifest says, and silently
/// runs from where it was. `directory` is where its files are on disk.
pub(crate) fn prefixes(directory: &Path, venv: &VenvPath, manifest: &Manifest) -> Vec<Finding> {
    let python = venv.bin().join("python").display().to_string();
    // What can't be read is told with the tree.
    let Ok(below) = Below::open(directory) else {
        return Vec::new();
    };
    let scripts = manifest
        .files
        .iter()
        .filter(|file| file.path.starts_with("bin/") && file.mode == 0o755);
    let wrong = |file: &File| {
        let content = below.read(&file.path, SCRIPT_START).ok()?;
        let reason = wrong_interpreter(&content, &python)?;
        Some(Finding::of(Code::Prefix, &file.path, reason))
    };
    scripts.filter_map(wrong).collect()
}
