//! What is wrong in a file, and where: file, line, column, the line itself and a caret.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A problem in a file that an administrator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as a path of the host.
    pub path: PathBuf,
    /// Where in it, if one place is to blame.
    pub place: Option<Place>,
    /// What is wrong and what to do.
    pub message: String,
}

/// A place in a text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Number of characters concerned, at least 1.
    pub width: usize,
    /// The line's text.
    pub text: String,
}

impl Diagnostic {
    /// Returns a problem of the file as a whole.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            place: None,
            message: message.into(),
        }
    }

    /// Returns a problem at the bytes `span` of `text`, the contents of `path`.
    pub fn at(path: &Path, text: &str, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            place: span.map(|span| Place::new(text, &span)),
            message: message.into(),
        }
    }
}

impl Place {
    fn new(text: &str, span: &Range<usize>) -> Self {
        let start = floor_char(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = &text[line_start..];
        let line = &line[..line.find('\n').unwrap_or(line.len())];
        let end = floor_char(text, span.end).clamp(start, (line_start + line.len()).max(start));
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            text: line.trim_end_matches('\r').to_owned(),
        }
    }
}

fn floor_char(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            return write!(formatter, "{}: {}", self.path.display(), self.message);
        };
        let Place {
            line,
            column,
            width,
            text,
        } = place;
        writeln!(formatter, "{}:{line}:{column}: {}", self.path.display(), self.message)?;
        writeln!(formatter, "{line:>5} | {text}")?;
        // Tabs stay tabs, so that the caret stands below its character on any terminal.
        let indent: String = text
            .chars()
            .take(column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        write!(formatter, "      | {indent}{}", "^".repeat(*width))
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let text = "a = 1\n\tküche = true\n";
        let start = text.find("küche").unwrap();
        let diagnostic = Diagnostic::at(
            Path::new("/x.toml"),
            text,
            Some(start..start + "küche".len()),
            "unknown key",
        );
        assert_eq!(
            diagnostic.to_string(),
            "/x.toml:2:2: unknown key\n    2 | \tküche = true\n      | \t^^^^^"
        );
    }

    #[test]
    fn odd_spans_do_not_panic() {
        for span in [0..0, 3..100, 100..200, 5..6] {
            let shown = Diagnostic::at(Path::new("/x"), "é\nab", Some(span), "m").to_string();
            assert!(shown.starts_with("/x:"), "{shown}");
        }
        Diagnostic::at(Path::new("/x"), "", Some(0..1), "m").to_string();
    }
}
