//! Is the bytecode what its sources compile to? Python believes bytecode of a sealed venv without a look at the source.

use std::path::Path;

use venvd_fs::report;

use super::Report;
use super::finding::{Code, Finding};
use crate::build::recompile;
use crate::interpreter::Interpreter;
use crate::manifest::Manifest;

/// Compiles the sources of a tree that is as its manifest says, and compares the bytecode.
pub(super) fn compare(directory: &Path, manifest: &Manifest, interpreter: Option<&Interpreter>) -> Report {
    let mut result = Report::default();
    let Some(interpreter) = interpreter else {
        result
            .notes
            .push("without its python its bytecode can't be compared".to_owned());
        return result;
    };
    let outcome = tempfile::tempdir()
        .map_err(|error| format!("no temporary directory can be made: {error}"))
        .and_then(|scratch| {
            recompile(directory, manifest, interpreter, scratch.path()).map_err(|error| report(&error))
        });
    let patched = if interpreter.version == manifest.python.version {
        String::new()
    } else {
        // A compiler may be mended by a patch release, and then writes other bytes.
        format!(
            "; this may be right, since the venv was compiled by python {} and the host has {} now",
            manifest.python.version, interpreter.version
        )
    };
    match outcome {
        Ok(paths) => result.findings.extend(paths.iter().map(|path| {
            let message = format!("is not what its source compiles to{patched}");
            Finding::of(Code::Bytecode, path, message)
        })),
        Err(reason) => {
            let message = format!("its bytecode could not be compared: {reason}");
            result.findings.push(Finding::general(Code::Unreadable, message));
        }
    }
    result
}
