//! The text of a unit file, line by line, as systemd's `config_parse()` reads it (systemd.syntax(7)).
//!
//! What differs from other INI readers: comments may stand inside a continuation; a trailing odd backslash becomes a
//! *blank*; `\r` and NUL end a line too; sections may repeat; and a few faults end the whole file (see [`Fault`]).

use std::borrow::Cow;

use smallvec::SmallVec;

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

/// The parts of a joined line: nearly always there is one, which needs no memory of its own.
type Pieces = SmallVec<[Piece; 1]>;

/// `Key=value` in a section, continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section, without brackets.
    pub section: Cow<'static, str>,
    /// The key, stripped of blanks.
    pub key: String,
    /// The value, stripped of blanks; continuation lines joined with a blank as systemd does.
    pub value: String,
    /// The last physical line it stands on: the one that systemd names in its messages.
    pub line: u32,
    pieces: Pieces,
}

impl Assignment {
    /// Returns where in the file byte `offset` of the value stands.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        position(&self.pieces, offset).unwrap_or(Position {
            line: self.line,
            column: 1,
        })
    }

    /// Returns how many bytes from `offset` on stand on one physical line, at least 1.
    #[must_use]
    pub fn run(&self, offset: usize) -> usize {
        let next = self.pieces.iter().find(|piece| piece.at > offset);
        next.map_or(self.value.len(), |piece| piece.at)
            .saturating_sub(offset)
            .max(1)
    }
}

/// Returns where byte `offset` of a joined line stands.
fn position(pieces: &[Piece], offset: usize) -> Option<Position> {
    let piece = pieces.iter().rev().find(|piece| piece.at <= offset)?;
    Some(Position {
        line: piece.position.line,
        column: piece.position.column.saturating_add(width(offset - piece.at)),
    })
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

/// A [`FaultReason`] and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {}: {reason}", at.line)]
pub struct Fault {
    /// Where it is.
    pub at: Position,
    /// What is wrong there.
    pub reason: FaultReason,
}

/// A [`Warning`] and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where the line begins that is skipped.
    pub at: Position,
    /// The section it is in; systemd says nothing of a section that it does not know.
    pub section: Option<Cow<'static, str>>,
    /// Why it is skipped.
    pub warning: Warning,
}

/// All that was read of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitText {
    /// The assignments, in the order of the file, up to the fault if there is one.
    pub assignments: Vec<Assignment>,
    /// Lines that were skipped.
    pub warnings: Vec<Skipped>,
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
    pieces: Pieces,
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
    section: Option<Cow<'static, str>>,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut open: Option<Joined<'_>> = None;
        let mut mark_seen = false;
        let mut line = 0;
        for physical in Lines(bytes) {
            line += 1;
            let too_long = Fault {
                at: Position { line, column: 1 },
                reason: FaultReason::TooLong,
            };
            if physical.len() >= LINE_LIMIT {
                return Err(too_long);
            }
            // Before the joining, so also in the middle of a continuation.
            if physical
                .iter()
                .find(|byte| !is_blank(**byte))
                .is_some_and(|byte| matches!(byte, b'#' | b';'))
            {
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
                return Err(too_long);
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
        let start = stripped.as_ptr() as usize - joined.bytes.as_ptr() as usize;
        let at = |offset: usize| position(&joined.pieces, start + offset).unwrap_or(Position { line, column: 1 });
        let text = text(stripped).map_err(|valid| Fault {
            at: at(valid),
            reason: FaultReason::NotUtf8,
        })?;
        if text.starts_with('[') {
            let section = section_name(text).map_err(|reason| Fault { at: at(0), reason })?;
            self.section = Some(section);
            return Ok(());
        }
        let warning = match (&self.section, text.split_once('=')) {
            (Some(section), Some((key, value))) if !key.is_empty() => {
                let value = strip_text(value);
                let start = value.as_ptr() as usize - joined.bytes.as_ptr() as usize;
                self.text.assignments.push(Assignment {
                    section: section.clone(),
                    key: strip_text(key).to_owned(),
                    value: value.to_owned(),
                    line,
                    pieces: shift(&joined.pieces, start),
                });
                return Ok(());
            }
            (None, _) => Warning::NoSection,
            (Some(_), None) => Warning::NoEquals,
            (Some(_), Some(_)) => Warning::NoKey,
        };
        self.text.warnings.push(Skipped {
            at: at(0),
            section: self.section.clone(),
            warning,
        });
        Ok(())
    }
}

/// Returns the bytes as text; where they stop being text if they are none.
fn text(bytes: &[u8]) -> Result<&str, usize> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())?;
    if text.is_ascii() {
        return Ok(text);
    }
    match text.char_indices().find(|(_, c)| is_noncharacter(*c)) {
        Some((at, _)) => Err(at),
        None => Ok(text),
    }
}

/// Makes the pieces of a joined line count from byte `start` of it.
fn shift(pieces: &[Piece], start: usize) -> Pieces {
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

fn section_name(text: &str) -> Result<Cow<'static, str>, FaultReason> {
    let name = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or(FaultReason::OpenSection)?;
    // `string_is_safe()`
    if name.chars().any(|c| c.is_ascii_control() || "\"'\\".contains(c)) {
        return Err(FaultReason::BadSection);
    }
    // There is one for each assignment, and these are nearly all.
    let known = ["Unit", "Service", "Install"].into_iter().find(|known| *known == name);
    Ok(known.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed))
}

/// What systemd does not take for a character (`unichar_is_valid()`).
pub(crate) fn is_noncharacter(c: char) -> bool {
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

/// Returns the physical lines of a file as a [`Position`] counts them, without what ends them.
pub fn physical_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    Lines(bytes)
}

/// Physical lines as `read_line()` ends them: `\n`, `\r`, NUL, and pairs and triples of different ones.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        const NUL: u8 = 4;
        if self.0.is_empty() {
            return None;
        }
        let end = self
            .0
            .iter()
            .position(|b| matches!(b, b'\n' | b'\r' | 0))
            .unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        let (mut seen, mut length) = (0_u8, 0);
        for byte in rest {
            let kind = match byte {
                b'\n' => 1,
                b'\r' => 2,
                0 => NUL,
                _ => 0,
            };
            // NUL closes the mark for good; a second of the same kind begins the next line.
            if kind == 0 || seen & (NUL | kind) != 0 {
                break;
            }
            seen |= kind;
            length += 1;
        }
        self.0 = rest.get(length..).unwrap_or_default();
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
            .map(|a| (a.section.into_owned(), a.key, a.value))
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
            // A form feed is no blank, so what follows it is no comment.
            (b"[S]\n\x0c# c\nA=b\n", 2, Warning::NoEquals),
            // A mark in front of a comment hides that it is one.
            (b"\xef\xbb\xbf# c\n[S]\nA=b\n", 1, Warning::NoSection),
        ] {
            let got = parse(text);
            assert_eq!(
                got.warnings.iter().map(|w| (w.at.line, w.warning)).collect::<Vec<_>>(),
                [(line, want)]
            );
            assert_eq!(got.assignments.len(), 1);
            assert_eq!(got.fault, None);
        }
    }

    #[test]
    fn a_fault_ends_the_file() {
        let long = [b"[S]\nA=b\nB=".as_slice(), &[b'x'; LINE_LIMIT], b"\nC=d\n"].concat();
        let half = [b'x'; LINE_LIMIT / 2];
        let joined = [b"[S]\nA=b\nB=".as_slice(), &half, b"\\\n", &half, b"\nC=d\n"].concat();
        for (text, line, column, reason) in [
            (&b"[S]\nA=b\n  [T\nC=d\n"[..], 3, 3, FaultReason::OpenSection),
            (b"[S]\nA=b\n[\nC=d\n", 3, 1, FaultReason::OpenSection),
            (b"[S]\nA=b\n[\"T\"]\nC=d\n", 3, 1, FaultReason::BadSection),
            (b"[S]\nA=b\n X=\xff\nC=d\n", 3, 4, FaultReason::NotUtf8),
            (b"[S]\nA=b\nX=\xef\xbf\xbf\nC=d\n", 3, 3, FaultReason::NotUtf8),
            (b"[S]\nA=b\nX=\\\n\xff\nC=d\n", 4, 1, FaultReason::NotUtf8),
            (b"[S]\nA=b\nX=\xff\\\n\nC=d\n", 3, 3, FaultReason::NotUtf8),
            (&long, 3, 1, FaultReason::TooLong),
            (&joined, 4, 1, FaultReason::TooLong),
        ] {
            let got = parse(text);
            let at = Position { line, column };
            assert_eq!(got.fault, Some(Fault { at, reason }));
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
