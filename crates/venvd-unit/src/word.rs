//! Words of a value, with quotes and C escapes, as systemd's `extract_first_word()` takes them
//! (`EXTRACT_UNQUOTE | EXTRACT_CUNESCAPE`; systemd.service(5), "Quoting" in systemd.syntax(7)).

use std::borrow::Cow;
use std::ops::Range;

use crate::lexer::{is_blank, is_noncharacter};

/// Where one byte of a word stands in the raw text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Where the quote that is open here was opened.
    pub(crate) quote: Option<usize>,
}

/// A word: what it means, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// Without quotes and escapes: borrowed where there are none.
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The raw token, quotes included.
    pub(crate) span: Range<usize>,
    /// Where the next word begins; `None` at the end of the text.
    pub(crate) next: Option<usize>,
    /// One for each byte, unless the word stands there as it is.
    origins: Vec<Origin>,
}

impl Word<'_> {
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// Returns the raw range of the bytes from `from` on, unless a quote opens or closes inside it.
    pub(crate) fn plain_range(&self, from: usize) -> Option<Range<usize>> {
        if self.origins.is_empty() {
            let start = self.span.start + from;
            return (start < self.span.end).then_some(start..self.span.end);
        }
        let origins = self.origins.get(from..)?;
        let (first, last) = (origins.first()?, origins.last()?);
        let contiguous = origins.windows(2).all(|pair| match pair {
            [left, right] => left.end == right.start || left.start == right.start,
            _ => true,
        });
        (contiguous && first.quote == last.quote).then_some(first.start..last.end)
    }
}

/// Why there is no word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote that is never closed.
    #[error("unbalanced quotes")]
    Quotes,
    /// A backslash with something that C does not know behind it.
    #[error("unknown escape sequence")]
    Escape,
}

/// What to do with an escape that C does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refuse,
    Keep,
}

/// Takes the first word at or after `from`; `None` when there is none.
pub(crate) fn strict(text: &str, from: usize) -> Result<Option<Word<'_>>, WordError> {
    extract(text.as_bytes(), from, Unknown::Refuse)
}

/// Like [`strict`], but keeps unknown escapes as they stand when that is what it takes
/// (`extract_first_word_and_warn()`, which command lines use).
pub(crate) fn lenient(text: &str, from: usize) -> Result<Option<Word<'_>>, WordError> {
    match strict(text, from) {
        Ok(word) => Ok(word),
        Err(_) => extract(text.as_bytes(), from, Unknown::Keep),
    }
}

fn extract(text: &[u8], from: usize, unknown: Unknown) -> Result<Option<Word<'_>>, WordError> {
    let skip = |at: usize| text.iter().skip(at).position(|b| !is_blank(*b)).map(|n| at + n);
    let Some(start) = skip(from) else { return Ok(None) };
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.iter().position(|b| is_blank(*b)).unwrap_or(rest.len());
    let plain = rest.get(..end).unwrap_or_default();
    if !plain.iter().any(|b| matches!(b, b'\\' | b'\'' | b'"')) {
        return Ok(Some(Word {
            bytes: Cow::Borrowed(plain),
            span: start..start + end,
            next: skip(start + end),
            origins: Vec::new(),
        }));
    }
    let mut reader = Reader {
        text,
        unknown,
        bytes: Vec::with_capacity(plain.len()),
        origins: Vec::with_capacity(plain.len()),
    };
    let end = reader.word(start)?;
    Ok(Some(Word {
        bytes: Cow::Owned(reader.bytes),
        span: start..end,
        next: skip(end),
        origins: reader.origins,
    }))
}

/// A word in the making, where it does not stand there as it is.
struct Reader<'a> {
    text: &'a [u8],
    unknown: Unknown,
    bytes: Vec<u8>,
    origins: Vec<Origin>,
}

impl Reader<'_> {
    /// Reads a word that begins at `at`, returns where it ends.
    fn word(&mut self, mut at: usize) -> Result<usize, WordError> {
        let mut quote: Option<(u8, usize)> = None;
        while let Some(&byte) = self.text.get(at) {
            let open = quote.map(|(_, opened)| opened);
            match (byte, quote) {
                (b'\\', _) => {
                    at = self.escape(at, open)?;
                    continue;
                }
                (_, Some((mark, _))) if byte == mark => quote = None,
                (b'\'' | b'"', None) => quote = Some((byte, at)),
                (_, None) if is_blank(byte) => break,
                _ => self.push(&[byte], at..at + 1, open),
            }
            at += 1;
        }
        if quote.is_some() {
            Err(WordError::Quotes)
        } else {
            Ok(at)
        }
    }

    /// Reads the escape whose backslash is at `at`, returns where it ends.
    fn escape(&mut self, at: usize, quote: Option<usize>) -> Result<usize, WordError> {
        let rest = self.text.get(at + 1..).unwrap_or_default();
        let (bytes, taken) = match (unescape(rest), self.unknown, rest.first()) {
            (Some(known), _, _) => known,
            (None, Unknown::Refuse, _) => return Err(WordError::Escape),
            (None, Unknown::Keep, Some(next)) => (vec![b'\\', *next], 1),
            (None, Unknown::Keep, None) if quote.is_none() => (vec![b'\\'], 0),
            (None, Unknown::Keep, None) => return Err(WordError::Quotes),
        };
        let end = at + 1 + taken;
        self.push(&bytes, at..end, quote);
        Ok(end)
    }

    fn push(&mut self, bytes: &[u8], from: Range<usize>, quote: Option<usize>) {
        self.bytes.extend_from_slice(bytes);
        self.origins.extend(bytes.iter().map(|_| Origin {
            start: from.start,
            end: from.end,
            quote,
        }));
    }
}

/// Returns the bytes that the escape after a backslash stands for, and its length (`cunescape_one()`).
fn unescape(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let one = |byte: u8| Some((vec![byte], 1));
    let number = |digits: Option<&[u8]>, radix: u32| {
        digits?.iter().try_fold(0_u32, |sum, digit| {
            Some(sum.checked_mul(radix)? + char::from(*digit).to_digit(radix)?)
        })
    };
    // `\u` may be half of a surrogate pair, which is no text any more; `\U` may not.
    let short = |code: u32| match (code, char::from_u32(code)) {
        (0, _) => None,
        (_, Some(character)) => Some((character.to_string().into_bytes(), 5)),
        (_, None) => Some((surrogate(code), 5)),
    };
    let long = |code: u32| {
        let character = char::from_u32(code).filter(|c| code != 0 && !is_noncharacter(*c))?;
        Some((character.to_string().into_bytes(), 9))
    };
    match rest.first()? {
        b'a' => one(7),
        b'b' => one(8),
        b'f' => one(12),
        b'n' => one(b'\n'),
        b'r' => one(b'\r'),
        b't' => one(b'\t'),
        b'v' => one(11),
        b'\\' => one(b'\\'),
        b'"' => one(b'"'),
        b'\'' => one(b'\''),
        // An extension of the XDG syntax.
        b's' => one(b' '),
        b'x' => {
            let byte = u8::try_from(number(rest.get(1..3), 16)?)
                .ok()
                .filter(|byte| *byte != 0)?;
            Some((vec![byte], 3))
        }
        b'u' => short(number(rest.get(1..5), 16)?),
        b'U' => long(number(rest.get(1..9), 16)?),
        b'0'..=b'7' => {
            let byte = u8::try_from(number(rest.get(..3), 8)?).ok().filter(|byte| *byte != 0)?;
            Some((vec![byte], 3))
        }
        _ => None,
    }
}

/// Returns the three bytes that UTF-8 would have for a surrogate, had it one (`utf8_encode_unichar()`).
fn surrogate(code: u32) -> Vec<u8> {
    [0xe0 | code >> 12, 0x80 | code >> 6 & 0x3f, 0x80 | code & 0x3f]
        .into_iter()
        .filter_map(|byte| u8::try_from(byte).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, WordError> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from
            && let Some(word) = strict(text, at)?
        {
            all.push(word.text().into_owned());
            from = word.next;
        }
        Ok(all)
    }

    #[test]
    fn splits_and_unquotes() {
        for (text, want) in [
            ("", &[][..]),
            ("  ", &[]),
            ("a b", &["a", "b"]),
            ("  a\t b  ", &["a", "b"]),
            ("'a b' \"c d\"", &["a b", "c d"]),
            ("a'b c'd", &["ab cd"]),
            ("'' x", &["", "x"]),
            ("\"it's\"", &["it's"]),
            (r"a\x41\101\s\tb", &["aAA \tb"]),
            (r"\u00e4\U0001f600", &["ä😀"]),
            (r"\uffff\ud800\xff", &["\u{ffff}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"]),
            (r"'\'' \\", &["'", "\\"]),
        ] {
            assert_eq!(words(text).unwrap(), want, "{text:?}");
        }
        for (text, want) in [
            ("'a", WordError::Quotes),
            ("a\"b", WordError::Quotes),
            (r"\q", WordError::Escape),
            (r"\x0", WordError::Escape),
            (r"\x00", WordError::Escape),
            (r"\400", WordError::Escape),
            (r"\U0000d800", WordError::Escape),
            (r"\U0000ffff", WordError::Escape),
            ("a\\", WordError::Escape),
        ] {
            assert_eq!(words(text), Err(want), "{text:?}");
        }
    }

    #[test]
    fn lenient_keeps_what_c_does_not_know() {
        for (text, want) in [
            (r"a\qb", r"a\qb"),
            (r"'\q'", r"\q"),
            ("a\\", "a\\"),
            (r"\x4a\q", r"J\q"),
        ] {
            assert_eq!(lenient(text, 0).unwrap().unwrap().text(), want, "{text:?}");
        }
        assert_eq!(lenient("'a\\", 0), Err(WordError::Quotes));
    }

    #[test]
    fn origins_point_at_the_raw_text() {
        let text = r#" "-/a"\x62 c"#;
        let word = strict(text, 0).unwrap().unwrap();
        assert_eq!(word.text(), "-/ab");
        assert_eq!(&text[word.span.clone()], r#""-/a"\x62"#);
        assert_eq!(word.next, Some(text.len() - 1));
        let raw: Vec<_> = word.origins.iter().map(|o| (&text[o.start..o.end], o.quote)).collect();
        assert_eq!(raw, [("-", Some(1)), ("/", Some(1)), ("a", Some(1)), (r"\x62", None)]);
    }
}
