//! Variables: those of `Environment=` and its like, and those in the files of `EnvironmentFile=`.

use crate::word;

/// Returns the variables that a list of `NAME=value` words sets; an empty value resets the list, the last word for a
/// variable counts. Specifiers stay as they stand (`config_parse_environ()`).
pub fn assignments<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for value in values {
        if value.is_empty() {
            variables.clear();
        }
        for text in words(value) {
            let Some((name, value)) = text.split_once('=').filter(|(name, _)| is_name(name)) else {
                continue;
            };
            match variables.iter_mut().find(|(key, _)| key == name) {
                Some(variable) => value.clone_into(&mut variable.1),
                None => variables.push((name.to_owned(), value.to_owned())),
            }
        }
    }
    variables
}

/// Returns the words of a value, without quotes and escapes. A word that can't be read ends it, those before it count.
#[must_use]
pub fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from
        && let Ok(Some(word)) = word::strict(value, at)
    {
        from = word.next;
        words.extend(String::from_utf8(word.bytes.into_owned()));
    }
    words
}

/// A variable that a file of `EnvironmentFile=` sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVariable {
    /// Its name.
    pub name: String,
    /// Its value, without quotes and escapes.
    pub value: String,
    /// The line that it begins on.
    pub line: u32,
}

/// Why systemd takes nothing at all from a file of `EnvironmentFile=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// `read_full_file()` wants text.
    #[error("it has a NUL byte")]
    Nul,
    /// `check_utf8ness_and_warn()`
    #[error("the assignment in line {0} is not UTF-8")]
    NotUtf8(u32),
}

/// Returns the variables that a file of `EnvironmentFile=` sets, in their order (`parse_env_file()`): comments, quotes
/// that go over several lines, and continuations considered. What is no valid assignment is left out.
///
/// # Errors
/// When systemd takes nothing from such a file.
pub fn in_file(text: &[u8]) -> Result<Vec<FileVariable>, FileFault> {
    if text.contains(&0) {
        return Err(FileFault::Nul);
    }
    let mut variables = Vec::new();
    let mut line = 1;
    let mut bytes = text.iter().copied().peekable();
    loop {
        while bytes
            .next_if(|b| is_white(*b))
            .inspect(|b| line += u32::from(*b == b'\n'))
            .is_some()
        {}
        let Some(first) = bytes.peek() else {
            return Ok(variables);
        };
        let start = line;
        if matches!(first, b'#' | b';') {
            // Since 254 a backslash does not continue a comment.
            while bytes.next_if(|b| !is_end(*b)).is_some() {}
            continue;
        }
        let mut name = Vec::new();
        while let Some(byte) = bytes.next_if(|b| *b != b'=' && !is_end(*b)) {
            name.push(byte);
        }
        if bytes.next_if_eq(&b'=').is_none() {
            continue;
        }
        let (value, lines) = value(&mut bytes);
        line += lines;
        let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| FileFault::NotUtf8(start));
        while name.pop_if(|b| is_white(*b)).is_some() {}
        let (name, value) = (utf8(&name)?, utf8(&value)?);
        if is_name(&name) {
            variables.push(FileVariable {
                name,
                value,
                line: start,
            });
        }
    }
}

/// Reads a value to its end, and returns how many lines that took.
fn value(bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>) -> (Vec<u8>, u32) {
    let mut value = Vec::new();
    let mut lines = 0;
    let mut quote = None;
    // A quote opens at the beginning and behind another one; behind other text it is part of that. Nor does white space
    // count at those places.
    let mut between = true;
    // As much of the value as is there whatever follows; white space behind that is cut off at the end of the line.
    let mut kept = 0;
    while let Some(byte) = bytes.next() {
        lines += u32::from(byte == b'\n');
        match (byte, quote) {
            (b'\n' | b'\r', None) => break,
            (b'\\', None | Some(b'"')) => {
                let next = bytes.next();
                lines += u32::from(next == Some(b'\n'));
                // Between double quotes as in a shell: other letters keep their backslash.
                let keeps_it = quote.is_some() && next.is_some_and(|b| !b"\"\\`$\n".contains(&b));
                value.extend(keeps_it.then_some(b'\\'));
                let eaten = |b: &u8| *b == b'\n' || quote.is_none() && *b == b'\r';
                value.extend(next.filter(|b| !eaten(b)));
                between = false;
                kept = value.len();
            }
            (b'\'' | b'"', None) if between => quote = Some(byte),
            (_, Some(open)) if byte == open => {
                quote = None;
                between = true;
                kept = value.len();
            }
            (_, None) if between && is_white(byte) => {}
            (_, None) => {
                between = false;
                value.push(byte);
                if !is_white(byte) {
                    kept = value.len();
                }
            }
            (_, Some(_)) => value.push(byte),
        }
    }
    if quote.is_none() {
        value.truncate(kept);
    }
    (value, lines)
}

/// `NEWLINE`
fn is_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// `WHITESPACE`
fn is_white(byte: u8) -> bool {
    is_end(byte) || matches!(byte, b' ' | b'\t')
}

/// `env_name_is_valid()`
pub(crate) fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_assignments() {
        let got = |values: &[&str]| assignments(values.iter().copied());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            got(&["A=1 \"B=x y\" 1C=no =no D", "'A=%h/2' E=3 'F"]),
            [pair("A", "%h/2"), pair("B", "x y"), pair("E", "3")]
        );
        assert_eq!(got(&["A=1", "", "B=2"]), [pair("B", "2")]);
    }

    #[test]
    fn variables_in_files() {
        for (text, want) in [
            ("PATH=/a\nB=2", vec![("PATH", "/a", 1), ("B", "2", 2)]),
            ("# PATH=/a\n ; B=1\n\n  C = 1 \t\nD=", vec![("C", "1", 4), ("D", "", 5)]),
            ("A='x\nPATH=/a\n'\nB=1", vec![("A", "x\nPATH=/a\n", 1), ("B", "1", 4)]),
            (
                "A=\"x\\\"\nPATH=/a\"\nB=1",
                vec![("A", "x\"\nPATH=/a", 1), ("B", "1", 3)],
            ),
            ("A=x\\\nPATH=/a\nB=1", vec![("A", "xPATH=/a", 1), ("B", "1", 3)]),
            ("A=it's\nPATH=/a\n", vec![("A", "it's", 1), ("PATH", "/a", 2)]),
            ("# x\\\nPATH=/a\nB=1", vec![("PATH", "/a", 2), ("B", "1", 3)]),
            ("no assignment\n1A=2\nexport PATH=/a\nPATH=\n", vec![("PATH", "", 4)]),
            (
                "A='x ' \"y\" z \nB=\\$x\\y \\ \n",
                vec![("A", "x yz", 1), ("B", "$xy  ", 2)],
            ),
            (
                "A=\"\\$x\\y\\\\\"\nB='\\y'\nC=\" a\nD=1",
                vec![("A", "$x\\y\\", 1), ("B", "\\y", 2), ("C", " a\nD=1", 3)],
            ),
            (
                "A=a=b # c\rB=1\nC=a\x01b\n",
                vec![("A", "a=b # c", 1), ("B", "1", 1), ("C", "a\x01b", 2)],
            ),
            ("", vec![]),
        ] {
            let got = in_file(text.as_bytes()).unwrap();
            let got: Vec<_> = got.iter().map(|v| (&*v.name, &*v.value, v.line)).collect();
            assert_eq!(got, want, "{text:?}");
        }
        assert_eq!(in_file(b"# \xff\nA=\xff"), Err(FileFault::NotUtf8(2)));
        assert_eq!(in_file(b"A=1\0"), Err(FileFault::Nul));
    }
}
