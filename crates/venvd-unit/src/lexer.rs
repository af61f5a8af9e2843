//! The text of a unit file, line by line, as systemd's `config_parse()` reads it (systemd.syntax(7)).
//!
//! What differs from other INI readers: comments may stand inside a continuation; a trailing odd backslash becomes a
//! *blank*; `\r` and NUL end a line too; sections may repeat; and a few faults end the whole file (see [`Fault`]).

use std::borrow::Cow;

/// The longest line, and the longest joined line, that systemd reads (`LONG_LINE_MAX`).
pub const LINE_LIMIT: usize = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A place in a file: both count from 1, columns in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The physical line.
    pub line: u32,
    /// The byte in it.
    pub column: u32,
}

/// A part of a joined line, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    at: usize,
    position: Position,
}

/// `Key=value` in a section, continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section, without brackets.
    pub section: String,
    /// The key, stripped of blanks.
    pub key: String,
    /// The value, stripped of blanks; continuation lines joined with a blank as systemd does.
    pub value: String,
    /// The last physical line it stands on: the one that systemd names in its messages.
    pub line: u32,
    pieces: Vec<Piece>,
}

impl Assignment {
    /// Returns where in the file byte `offset` of the value stands.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        match self.pieces.iter().rev().find(|piece| piece.at <= offset) {
            Some(piece) => Position {
                line: piece.position.line,
                column: piece.position.column.saturating_add(width(offset - piece.at)),
            },
            None => Position {
                line: self.line,
                column: 1,
            },
        }
    }
}

/// A line that systemd skips with a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A line that is neither empty, a comment, a section nor an assignment.
    #[error("missing `=`, line ignored")]
    NoEquals,
    /// `=value`.
    #[error("missing key name before `=`, line ignored")]
    NoKey,
    /// An assignment before the first section.
    #[error("assignment outside of a section, line ignored")]
    NoSection,
}

/// What makes systemd stop reading a file: a unit file is then not loaded at all, of a drop-in the rest is lost.
///
/// Tried on 252: invalid UTF-8 belongs here, although its message says "ignoring assignment".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultReason {
    /// A line that begins with `[` and does not end with `]`.
    #[error("section header without a closing bracket")]
    OpenSection,
    /// Quotes, backslashes or control characters between the brackets.
    #[error("bad characters in a section header")]
    BadSection,
    /// Bytes that are not UTF-8, or code points that are no characters.
    #[error("line is not valid UTF-8")]
    NotUtf8,
    /// More than [`LINE_LIMIT`] bytes.
    #[error("line too long")]
    TooLong,
}

/// A [`FaultReason`] and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Fault {
    /// The physical line.
    pub line: u32,
    /// What is wrong with it.
    pub reason: FaultReason,
}

/// All that was read of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitText {
    /// The assignments, in the order of the file, up to the fault if there is one.
    pub assignments: Vec<Assignment>,
    /// Lines that were skipped, by line number.
    pub warnings: Vec<(u32, Warning)>,
    /// What ended the file early.
    pub fault: Option<Fault>,
}

/// Reads the text of a unit file or drop-in. Never fails: what is wrong is part of the result.
#[must_use]
pub fn parse(bytes: &[u8]) -> UnitText {
    let mut reader = Reader::default();
    if let Err(fault) = reader.read(bytes) {
        reader.text.fault = Some(fault);
    }
    reader.text
}

/// One logical line in the making.
#[derive(Debug, Default)]
struct Joined<'a> {
    bytes: Cow<'a, [u8]>,
    pieces: Vec<Piece>,
}

impl<'a> Joined<'a> {
    fn push(&mut self, bytes: &'a [u8], position: Position) {
        self.pieces.push(Piece {
            at: self.bytes.len(),
            position,
        });
        if self.bytes.is_empty() {
            self.bytes = Cow::Borrowed(bytes);
        } else {
            self.bytes.to_mut().extend_from_slice(bytes);
        }
    }
}

#[derive(Debug, Default)]
struct Reader {
    text: UnitText,
    section: Option<String>,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut open: Option<Joined<'_>> = None;
        let mut mark_seen = false;
        let mut line = 0;
        for physical in Lines(bytes) {
            line += 1;
            if physical.len() >= LINE_LIMIT {
                return Err(Fault {
                    line,
                    reason: FaultReason::TooLong,
                });
            }
            // Before the joining, so also in the middle of a continuation.
            if matches!(physical.trim_ascii_start().first(), Some(b'#' | b';')) {
                continue;
            }
            let mut position = Position { line, column: 1 };
            let mut rest = physical;
            if !mark_seen && let Some(stripped) = rest.strip_prefix(BYTE_ORDER_MARK) {
                mark_seen = true;
                rest = stripped;
                position.column += width(BYTE_ORDER_MARK.len());
            }
            let mut joined = open.take().unwrap_or_default();
            if joined.bytes.len() + rest.len() > LINE_LIMIT {
                return Err(Fault {
                    line,
                    reason: FaultReason::TooLong,
                });
            }
            joined.push(rest, position);
            if ends_escaped(&joined.bytes) {
                if let Some(last) = joined.bytes.to_mut().last_mut() {
                    *last = b' ';
                }
                open = Some(joined);
            } else {
                self.logical(joined, line)?;
            }
        }
        match open {
            Some(joined) => self.logical(joined, line + 1),
            None => Ok(()),
        }
    }

    fn logical(&mut self, joined: Joined<'_>, line: u32) -> Result<(), Fault> {
        let stripped = strip(&joined.bytes);
        if stripped.is_empty() {
            return Ok(());
        }
        let text = match std::str::from_utf8(stripped) {
            Ok(text) if !text.chars().any(is_noncharacter) => text,
            _ => {
                return Err(Fault {
                    line,
                    reason: FaultReason::NotUtf8,
                });
            }
        };
        if text.starts_with('[') {
            self.section = Some(section_name(text).map_err(|reason| Fault { line, reason })?);
            return Ok(());
        }
        let Some(section) = &self.section else {
            self.text.warnings.push((line, Warning::NoSection));
            return Ok(());
        };
        let Some((key, value)) = text.split_once('=') else {
            self.text.warnings.push((line, Warning::NoEquals));
            return Ok(());
        };
        if key.is_empty() {
            self.text.warnings.push((line, Warning::NoKey));
            return Ok(());
        }
        let value = strip_text(value);
        let start = value.as_ptr() as usize - joined.bytes.as_ptr() as usize;
        self.text.assignments.push(Assignment {
            section: section.clone(),
            key: strip_text(key).to_owned(),
            value: value.to_owned(),
            line,
            pieces: shift(&joined.pieces, start),
        });
        Ok(())
    }
}

/// Makes the pieces of a joined line count from byte `start` of it.
fn shift(pieces: &[Piece], start: usize) -> Vec<Piece> {
    let first = pieces.iter().rposition(|piece| piece.at <= start).unwrap_or(0);
    pieces
        .iter()
        .skip(first)
        .map(|piece| match piece.at.checked_sub(start) {
            Some(at) => Piece {
                at,
                position: piece.position,
            },
            None => Piece {
                at: 0,
                position: Position {
                    line: piece.position.line,
                    column: piece.position.column + width(start - piece.at),
                },
            },
        })
        .collect()
}

fn section_name(text: &str) -> Result<String, FaultReason> {
    let name = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or(FaultReason::OpenSection)?;
    // `string_is_safe()`
    if name.chars().any(|c| c.is_ascii_control() || "\"'\\".contains(c)) {
        return Err(FaultReason::BadSection);
    }
    Ok(name.to_owned())
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

fn ends_escaped(bytes: &[u8]) -> bool {
    // The scan from the left of systemd comes to this: an escape is open iff an odd run of backslashes ends the line.
    bytes.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// The bytes of systemd's `WHITESPACE`.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn strip(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| !is_blank(*b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !is_blank(*b)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

fn strip_text(text: &str) -> &str {
    text.trim_matches(|c| matches!(c, ' ' | '\t' | '\n' | '\r'))
}

fn width(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Physical lines as `read_line()` ends them: `\n`, `\r`, NUL, and pairs and triples of different ones.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self
            .0
            .iter()
            .position(|b| matches!(b, b'\n' | b'\r' | 0))
            .unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        let mut seen = Vec::with_capacity(3);
        for byte in rest {
            // NUL closes the mark for good; a second of the same kind begins the next line.
            if seen.last() == Some(&0) || !matches!(byte, b'\n' | b'\r' | 0) || seen.contains(byte) {
                break;
            }
            seen.push(*byte);
        }
        self.0 = rest.get(seen.len()..).unwrap_or_default();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(String, String, String)> {
        parse(text)
            .assignments
            .into_iter()
            .map(|a| (a.section, a.key, a.value))
            .collect()
    }

    fn values(text: &[u8]) -> Vec<String> {
        read(text).into_iter().map(|(_, _, value)| value).collect()
    }

    #[test]
    fn joins_lines_as_systemd_does() {
        for (text, want) in [
            (&b"[S]\nA=b\n"[..], &["b"][..]),
            (b"[S]\nA=b", &["b"]),
            (b"[S]\n A = b c \n", &["b c"]),
            (b"[S]\nA=b\\\nc\n", &["b c"]),
            (b"[S]\nA=b \\\n  c\n", &["b    c"]),
            (b"[S]\nA=b\\\n# comment\n  ; another\nc\n", &["b c"]),
            (b"[S]\nA=b\\\n\nB=c\n", &["b", "c"]),
            (b"[S]\nA=b\\\\\nB=c\n", &["b\\\\", "c"]),
            (b"[S]\nA=b\\\\\\\nB=c\n", &["b\\\\ B=c"]),
            (b"[S]\nA=b\\", &["b"]),
            (b"[S]\nA=b\\\n", &["b"]),
            (b"[S]\nA=b\\ \nB=c\n", &["b\\", "c"]),
            (b"[S]\n# A=b\n;B=c\n  #C=d\n", &[]),
            (b"[S]\n#A=b\\\nB=c\n", &["c"]),
            (b"[S]\nA=#b\n", &["#b"]),
            (b"[S]\nA=\n", &[""]),
            (b"[S]\nA=b=c\n", &["b=c"]),
            (b"[S]\nA=b\r\nB=c\r\n", &["b", "c"]),
            (b"[S]\rA=b\rB=c", &["b", "c"]),
            (b"[S]\nA=b\0B=c\n", &["b", "c"]),
            (b"\xef\xbb\xbf[S]\nA=b\n", &["b"]),
            (b"[S]\n[T]\nA=b\n[S]\nB=c\n", &["b", "c"]),
        ] {
            assert_eq!(values(text), want, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn skips_with_a_warning() {
        for (text, line, want) in [
            (&b"[S]\nnothing\nA=b\n"[..], 2, Warning::NoEquals),
            (b"[S]\n=x\nA=b\n", 2, Warning::NoKey),
            (b"X=y\n[S]\nA=b\n", 1, Warning::NoSection),
            // A mark in front of a comment hides that it is one.
            (b"\xef\xbb\xbf# c\n[S]\nA=b\n", 1, Warning::NoSection),
        ] {
            let got = parse(text);
            assert_eq!(got.warnings, [(line, want)]);
            assert_eq!(got.assignments.len(), 1);
            assert_eq!(got.fault, None);
        }
    }

    #[test]
    fn a_fault_ends_the_file() {
        let long = [b"[S]\nA=b\nB=".as_slice(), &[b'x'; LINE_LIMIT], b"\nC=d\n"].concat();
        let half = [b'x'; LINE_LIMIT / 2];
        let joined = [b"[S]\nA=b\nB=".as_slice(), &half, b"\\\n", &half, b"\nC=d\n"].concat();
        for (text, line, reason) in [
            (&b"[S]\nA=b\n[T\nC=d\n"[..], 3, FaultReason::OpenSection),
            (b"[S]\nA=b\n[\nC=d\n", 3, FaultReason::OpenSection),
            (b"[S]\nA=b\n[\"T\"]\nC=d\n", 3, FaultReason::BadSection),
            (b"[S]\nA=b\nX=\xff\nC=d\n", 3, FaultReason::NotUtf8),
            (b"[S]\nA=b\nX=\xef\xbf\xbf\nC=d\n", 3, FaultReason::NotUtf8),
            (b"[S]\nA=b\nX=\\\n\xff\nC=d\n", 4, FaultReason::NotUtf8),
            (&long, 3, FaultReason::TooLong),
            (&joined, 4, FaultReason::TooLong),
        ] {
            let got = parse(text);
            assert_eq!(got.fault, Some(Fault { line, reason }));
            assert_eq!(got.assignments.len(), 1, "{reason:?}");
        }
        assert_eq!(parse(b"# \xff\n[S]\nA=b\n").fault, None, "comments may hold anything");
    }

    #[test]
    fn positions_point_into_the_file() {
        let text = b"[S]\n  Exec = abc \\\n# no\n  def\\\nghi\nB=c\n";
        let got = parse(text);
        let first = &got.assignments[0];
        assert_eq!(first.value, "abc    def ghi");
        assert_eq!(first.line, 5);
        for (part, line, column) in [("abc", 2, 10), ("def", 4, 3), ("ghi", 5, 1)] {
            let offset = first.value.find(part).unwrap();
            assert_eq!(first.position(offset), Position { line, column }, "{part}");
        }
        assert_eq!(got.assignments[1].position(0), Position { line: 6, column: 3 });
    }

    #[test]
    fn sections_repeat() {
        let got = read(b"[A]\nx=1\n[B]\ny=2\n[A]\nx=3\n");
        let flat: Vec<_> = got.iter().map(|(s, k, v)| format!("{s}.{k}={v}")).collect();
        assert_eq!(flat, ["A.x=1", "B.y=2", "A.x=3"]);
    }
}
