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

/// Returns the names of the variables that a file of `EnvironmentFile=` sets, each with its line (`parse_env_file()`):
/// comments, quotes that go over several lines, and continuations considered.
#[must_use]
pub fn names_in_file(text: &str) -> Vec<(String, u32)> {
    let mut names = Vec::new();
    let mut line = 1;
    let mut characters = text.chars().peekable();
    loop {
        while characters
            .next_if(|c| *c == '\n' || c.is_whitespace())
            .inspect(|c| line += u32::from(*c == '\n'))
            .is_some()
        {}
        let Some(first) = characters.peek() else {
            return names;
        };
        let start = line;
        if matches!(first, '#' | ';') {
            // Since 254 a backslash does not continue a comment.
            while characters.next_if(|c| *c != '\n').is_some() {}
            continue;
        }
        let mut key = String::new();
        while let Some(c) = characters.next_if(|c| !matches!(c, '=' | '\n')) {
            key.push(c);
        }
        if characters.next_if_eq(&'=').is_none() {
            continue;
        }
        line += skip_value(&mut characters);
        let key = key.trim();
        if is_name(key) {
            names.push((key.to_owned(), start));
        }
    }
}

/// Goes behind the end of a value, and returns how many lines that took.
fn skip_value(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> u32 {
    let mut lines = 0;
    let mut quote = None;
    // A quote opens at the beginning and behind another one; behind other text it is part of that.
    let mut may_open = true;
    while let Some(c) = characters.next() {
        lines += u32::from(c == '\n');
        match (c, quote) {
            ('\n', None) => break,
            ('\\', None | Some('"')) => {
                lines += u32::from(characters.next() == Some('\n'));
                may_open = false;
            }
            ('\'' | '"', None) if may_open => quote = Some(c),
            (c, Some(open)) if c == open => {
                quote = None;
                may_open = true;
            }
            (c, None) => may_open &= c.is_whitespace(),
            (_, Some(_)) => {}
        }
    }
    lines
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
    fn names_in_files() {
        for (text, want) in [
            ("PATH=/a\nB=2", vec![("PATH", 1), ("B", 2)]),
            ("# PATH=/a\n ; B=1\n\n  C = 1\n", vec![("C", 4)]),
            ("A='x\nPATH=/a\n'\nB=1", vec![("A", 1), ("B", 4)]),
            ("A=\"x\\\"\nPATH=/a\"\nB=1", vec![("A", 1), ("B", 3)]),
            ("A=x\\\nPATH=/a\nB=1", vec![("A", 1), ("B", 3)]),
            ("A=it's\nPATH=/a\n", vec![("A", 1), ("PATH", 2)]),
            ("# x\\\nPATH=/a\nB=1", vec![("PATH", 2), ("B", 3)]),
            ("no assignment\n1A=2\nexport PATH=/a\nPATH=\n", vec![("PATH", 4)]),
            ("", vec![]),
        ] {
            let want: Vec<_> = want.into_iter().map(|(name, line)| (name.to_owned(), line)).collect();
            assert_eq!(names_in_file(text), want, "{text:?}");
        }
    }
}
