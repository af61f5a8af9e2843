//! An assignment with the file that it stands in, and what is wrong there, for people to see.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use venvd_fs::diagnose::{Diagnostic, Place};

use crate::command::CommandLine;
use crate::environment;
use crate::lexer::{self, Assignment, Position};
use crate::name::UnitId;
use crate::specifier;

/// What is wrong in a unit's files, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The file on the host.
    pub path: PathBuf,
    /// The line, 0 for the whole file.
    pub line: u32,
    /// What it is.
    pub what: String,
    /// The line's text and the part of it that is to blame.
    pub place: Option<Place>,
}

impl Trouble {
    /// Returns what is wrong with a file as a whole.
    pub(crate) fn of_file(path: &Path, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: 0,
            what: what.into(),
            place: None,
        }
    }

    /// Returns the trouble with the line and a caret below it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            path: self.path.clone(),
            place: self.place.clone(),
            message: self.what.clone(),
        }
    }
}

/// On one line; [`Trouble::diagnostic`] has the source too.
impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        if let Some(place) = &self.place {
            write!(formatter, ":{}", place.column)?;
        }
        write!(formatter, ": {}", self.what)
    }
}

impl std::error::Error for Trouble {}

/// A file that was read: what its entries point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: Arc<Path>,
    pub(crate) bytes: Arc<Vec<u8>>,
}

impl Source {
    /// Returns `what` is wrong with `length` bytes at `at`.
    pub(crate) fn trouble(&self, (at, length): (Position, usize), what: String) -> Trouble {
        Trouble {
            path: self.path.to_path_buf(),
            line: at.line,
            what,
            place: self.place(at, length),
        }
    }

    fn place(&self, at: Position, length: usize) -> Option<Place> {
        let index = usize::try_from(at.line).ok()?.checked_sub(1)?;
        // The text behind a last backslash is on a line that is not there.
        let line = lexer::physical_lines(&self.bytes).nth(index)?;
        let start = usize::try_from(at.column).ok()?.saturating_sub(1).min(line.len());
        let end = start.saturating_add(length).min(line.len());
        let text = |range: Range<usize>| String::from_utf8_lossy(line.get(range).unwrap_or_default()).into_owned();
        Some(Place {
            line: index + 1,
            column: text(0..start).chars().count() + 1,
            width: text(start..end).chars().count().max(1),
            text: text(0..line.len()),
        })
    }
}

/// An assignment and the file it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file on the host.
    pub path: Arc<Path>,
    /// The assignment.
    pub assignment: Assignment,
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) commands: Option<CommandLine>,
}

impl Entry {
    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.assignment.value
    }

    /// Returns what systemd makes of it, for the keys that hold command lines.
    #[must_use]
    pub fn commands(&self) -> Option<&CommandLine> {
        self.commands.as_ref()
    }

    /// Returns the variables that the value sets, for `Environment=` of the unit `id`; specifiers in values as they
    /// stand (`config_parse_environ()`).
    #[must_use]
    pub fn variables(&self, id: &UnitId) -> Vec<(String, String)> {
        environment::words(self.value())
            .iter()
            .filter_map(|word| assigned(word, id))
            .collect()
    }

    /// Returns what is wrong with the bytes `span` of the value, for people: with file, line and a caret.
    #[must_use]
    pub fn trouble(&self, span: Range<usize>, what: impl Into<String>) -> Trouble {
        let source = Source {
            path: self.path.clone(),
            bytes: self.bytes.clone(),
        };
        let length = span.len().min(self.assignment.run(span.start));
        source.trouble((self.assignment.position(span.start), length), what.into())
    }
}

/// Takes `NAME=value` apart.
fn assigned(text: &str, id: &UnitId) -> Option<(String, String)> {
    specifier::expand(text, id).ok()?;
    let (name, value) = text.split_once('=')?;
    // What is valid is a question of what stands there in the end.
    let name = specifier::expand(name, id).ok()??;
    environment::is_name(&name).then(|| (name, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &[u8]) -> Entry {
        Entry {
            path: Arc::from(Path::new("/etc/x.conf")),
            assignment: lexer::parse(text).assignments.remove(0),
            bytes: Arc::new(text.to_vec()),
            commands: None,
        }
    }

    #[test]
    fn points_at_the_place() {
        let entry = entry(b"# c\n[S]\nX=k\xc3\xbcche \\\n# no\n\tabc def\\\nghi\n");
        for (part, want) in [
            ("küche", "/etc/x.conf:3:3: m\n    3 | X=küche \\\n      |   ^^^^^"),
            ("abc", "/etc/x.conf:5:2: m\n    5 | \tabc def\\\n      | \t^^^"),
            // Over the end of a line: as far as it is on the first.
            ("def ghi", "/etc/x.conf:5:6: m\n    5 | \tabc def\\\n      | \t    ^^^^"),
            ("ghi", "/etc/x.conf:6:1: m\n    6 | ghi\n      | ^^^"),
        ] {
            let start = entry.value().find(part).unwrap();
            let trouble = entry.trouble(start..start + part.len(), "m");
            assert_eq!(trouble.diagnostic().to_string(), want, "{part}");
            assert_eq!(trouble.to_string(), want.lines().next().unwrap(), "{part}");
        }
    }

    #[test]
    fn odd_spans_do_not_panic() {
        for span in [0..0, 0..100, 100..200] {
            let shown = entry(b"[S]\nX=a\\").trouble(span, "m").diagnostic().to_string();
            assert!(shown.starts_with("/etc/x.conf:2:"), "{shown}");
        }
    }
}
