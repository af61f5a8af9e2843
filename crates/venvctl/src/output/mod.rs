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
        printable(&text(value))
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
    drop(writeln!(io::stderr(), "{}", printable(line)));
}

/// Returns a text without what a terminal would take for an order: manifests, names of files and the metadata of packages
/// are shown, which others wrote.
fn printable(text: &str) -> String {
    let plain = |character: char| match character {
        control if control.is_control() && !matches!(control, '\n' | '\t') => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_gives_no_orders_to_a_terminal() {
        assert_eq!(
            printable("a\tb\u{1b}]0;x\u{7}\u{9b}2J\né\n"),
            "a\tb\u{fffd}]0;x\u{fffd}\u{fffd}2J\né\n"
        );
    }
}
