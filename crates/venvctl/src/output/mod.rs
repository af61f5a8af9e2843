//! What is printed: results on stdout, everything else on stderr.

pub(crate) mod building;
pub(crate) mod progress;
pub(crate) mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::failure::Failure;

/// Prints a result: `--json` as JSON, else as text.
pub(crate) fn show<T: Serialize>(value: &T, json: bool, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let text = if json {
        let mut text =
            serde_json::to_string_pretty(value).map_err(|error| Failure::refused("output", error.to_string()))?;
        text.push('\n');
        text
    } else {
        text(value)
    };
    print(&text)
}

/// Writes to stdout; a reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::refused(
            "output",
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Says why a command failed, and returns its exit status.
pub(crate) fn failed(failure: &Failure, json: bool) -> ExitCode {
    if json {
        // There is nobody left to tell when this fails too.
        drop(show(failure, true, |_| String::new()));
    } else {
        say(&format!("venvctl: {}", failure.message));
    }
    ExitCode::from(failure.exit)
}

/// Writes a line to stderr; whether somebody reads it does not matter.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
