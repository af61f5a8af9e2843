//! What is printed: results on stdout, everything else on stderr.

pub(crate) mod building;
pub(crate) mod progress;
pub(crate) mod spelling;
pub(crate) mod table;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::failure::Failure;
use spelling::spelled;

/// Prints a result: `--json` as JSON, else as text.
pub(crate) fn show<T: Serialize>(value: &T, json: bool, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let text = if json {
        let mut text =
            serde_json::to_string_pretty(value).map_err(|error| Failure::refused("output", error.to_string()))?;
        text.push('\n');
        text
    } else {
        printable(&spelled(&text(value)))
    };
    print(&text)
}

/// What a line is to its reader; on a terminal, its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// A heading.
    Head,
    /// What is wrong.
    Wrong,
    /// What is good to know.
    Note,
    /// What to type.
    Advice,
    /// What has no effect.
    Dim,
}

impl Tone {
    /// Returns what a terminal is told (ECMA-48, "SGR").
    fn order(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Head => Some("1"),
            Self::Wrong => Some("31"),
            Self::Note => Some("33"),
            Self::Advice => Some("36"),
            Self::Dim => Some("2"),
        }
    }
}

/// A line of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

impl Line {
    pub(crate) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            tone,
            text: text.into(),
        }
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(Tone::Plain, text)
    }

    fn paint(&self, coloured: bool) -> String {
        let text = printable(&self.text);
        match self.tone.order().filter(|_| coloured) {
            Some(order) => format!("\x1b[{order}m{text}\x1b[0m\n"),
            None => format!("{text}\n"),
        }
    }
}

/// As [`show`], for results that have colours on a terminal.
pub(crate) fn show_lines<T: Serialize>(
    value: &T,
    json: bool,
    lines: impl FnOnce(&T) -> Vec<Line>,
) -> Result<(), Failure> {
    if json {
        return show(value, true, |_| String::new());
    }
    let coloured = has_colours(io::stdout().is_terminal(), |name| std::env::var_os(name));
    let text: String = lines(value).iter().map(|line| line.paint(coloured)).collect();
    print(&text)
}

/// As most programs decide it: no-color.org, and what terminals without colours are called.
fn has_colours(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && variable("TERM").is_none_or(|term| term != "dumb")
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
        let failure = Failure {
            code: failure.code.clone(),
            message: spelled(&failure.message).into_owned(),
            exit: failure.exit,
        };
        // There is nobody left to tell when this fails too.
        drop(show(&failure, true, |_| String::new()));
    } else {
        say(&format!("venvctl: {}", failure.message));
    }
    ExitCode::from(failure.exit)
}

/// Writes a line to stderr; whether somebody reads it does not matter.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stderr(), "{}", printable(&spelled(line))));
}

/// Returns a text without what a terminal would take for an order: manifests, names of files and the metadata of packages
/// are shown, which others wrote.
pub(crate) fn printable(text: &str) -> String {
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
    fn colours_are_for_terminals() {
        let line = Line::new(Tone::Wrong, "a\x1b[2Jb");
        assert_eq!(line.paint(false), "a\u{fffd}[2Jb\n");
        assert_eq!(line.paint(true), "\x1b[31ma\u{fffd}[2Jb\x1b[0m\n");
        assert_eq!(Line::plain("a").paint(true), "a\n");
        for (terminal, variables, coloured) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (true, &[("TERM", "xterm")], true),
        ] {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
            assert_eq!(
                has_colours(terminal, |name| find(name).map(|(_, value)| value.into())),
                coloured,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_gives_no_orders_to_a_terminal() {
        assert_eq!(
            printable("a\tb\u{1b}]0;x\u{7}\u{9b}2J\né\n"),
            "a\tb\u{fffd}]0;x\u{fffd}\u{fffd}2J\né\n"
        );
    }
}
