//! What a venv needs of its host: directories in root's hands, the interpreter, the machine, modules of the host's.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::{chain, report};

use super::finding::{Code, Finding};
use super::{Options, Report};
use crate::interpreter::{Interpreter, ProbeError};
use crate::manifest::{File, Manifest};
use crate::relocate::wrong_interpreter;

/// More than the longest first line that a kernel reads, and the two lines after it.
const SCRIPT_START: u64 = 4 << 10;

/// Checks every directory from the root down to the venv.
pub(crate) fn chain(layout: &Layout, venv: &VenvPath) -> Option<Finding> {
    // The venv itself is looked at with its tree.
    let parent = venv.path().parent().map(Path::to_owned).unwrap_or_default();
    match chain::check(layout.root(), &parent) {
        Ok(real) if real == parent => None,
        Ok(real) => Some(Finding::general(
            Code::Chain,
            format!("{parent:?} leads through a symbolic link to {real:?}; mount that there instead"),
        )),
        Err(error) => Some(Finding::general(Code::Chain, report(&error))),
    }
}

/// Checks all that is not in the tree itself.
pub(crate) fn check(layout: &Layout, venv: &VenvPath, manifest: &Manifest, _options: Options) -> Report {
    let mut report = Report::default();
    if let Some(_interpreter) = python(manifest, &mut report) {}
    report.findings.extend(prefixes(layout, venv, manifest));
    report
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
/// runs from where it was.
fn prefixes(layout: &Layout, venv: &VenvPath, manifest: &Manifest) -> Vec<Finding> {
    let python = venv.bin().join("python").display().to_string();
    let directory = layout.on_disk(venv.path());
    let scripts = manifest
        .files
        .iter()
        .filter(|file| file.path.starts_with("bin/") && file.mode == 0o755);
    let wrong = |file: &File| {
        // What can't be read is told with the tree.
        let content = read_script(&directory.join(&file.path)).ok()?;
        let reason = wrong_interpreter(&content, &python)?;
        Some(Finding::of(Code::Prefix, &file.path, reason))
    };
    scripts.filter_map(wrong).collect()
}

/// Reads the beginning of a regular file, as far as a script's first lines go.
fn read_script(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    file.take(SCRIPT_START).read_to_end(&mut content)?;
    Ok(content)
}
