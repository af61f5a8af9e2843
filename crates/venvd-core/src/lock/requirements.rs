//! Requirements with hashes, as pip's `--require-hashes` mode takes them.

use std::collections::BTreeSet;
use std::path::Path;

use super::{LockError, Pinned, is_name, is_sha256, is_version, normalise, tidy_marker};

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Pinned>, LockError> {
    logical_lines(text)
        .into_iter()
        .map(|(line, text)| parse_line(path, line, &text))
        .collect()
}

/// Returns the lines with continuations joined and comments gone, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let (start, mut joined) = open.take().unwrap_or((number + 1, String::new()));
        // A comment begins at the line's begin or after a blank; pip drops it before it looks for the backslash,
        // except on a line that is a comment as a whole, which ends a continuation too.
        let code = strip_comment(line).trim_end();
        match code.strip_suffix('\\') {
            Some(code) => {
                joined.push_str(code);
                joined.push(' ');
                open = Some((start, joined));
            }
            None => {
                joined.push_str(code);
                lines.push((start, joined));
            }
        }
    }
    lines.extend(open);
    lines.retain(|(_, text)| !text.trim().is_empty());
    lines
}

fn strip_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    match line.match_indices('#').find(begins) {
        Some((at, _)) => &line[..at],
        None => line,
    }
}

fn parse_line(path: &Path, line: usize, text: &str) -> Result<Pinned, LockError> {
    let wrong = |reason: String| LockError::Line {
        path: path.to_owned(),
        line,
        reason,
    };
    let text = text.trim();
    if text.starts_with('-') {
        return Err(wrong(format!(
            "{text:?} is an option; a lock has requirements only, the index is the definition's"
        )));
    }
    let (demand, options) = match text.find(" --") {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (pin, marker) = match demand.split_once(';') {
        Some((pin, marker)) => {
            let marker = tidy_marker(marker).ok_or_else(|| wrong(format!("{marker:?} is no environment marker")))?;
            (pin.trim(), Some(marker))
        }
        None => (demand.trim(), None),
    };
    let (name, version) = pin
        .split_once("==")
        .map(|(name, version)| (name.trim(), version.trim_start_matches('=').trim()))
        .ok_or_else(|| wrong(format!("{pin:?} is not pinned as name==version")))?;
    let name = match name.split_once('[') {
        // The lock names what an extra brings by itself.
        Some((name, extras)) if extras.ends_with(']') => name.trim(),
        _ => name,
    };
    if !is_name(name) || !is_version(version) {
        return Err(wrong(format!("{pin:?} is not pinned as name==version")));
    }
    let hashes = parse_hashes(options).map_err(wrong)?;
    if hashes.is_empty() {
        return Err(LockError::NotHashed {
            path: path.to_owned(),
            line,
            requirement: pin.to_owned(),
        });
    }
    Ok(Pinned {
        name: normalise(name),
        version: version.to_owned(),
        marker,
        hashes,
    })
}

fn parse_hashes(options: &str) -> Result<BTreeSet<String>, String> {
    let mut hashes = BTreeSet::new();
    for option in options.split_ascii_whitespace() {
        let hash = option
            .strip_prefix("--hash=")
            .ok_or_else(|| format!("{option:?} is an option a lock can't have"))?;
        match hash.strip_prefix("sha256:").map(str::to_ascii_lowercase) {
            Some(digest) if is_sha256(&digest) => hashes.insert(digest),
            Some(_) => return Err(format!("{option:?} is no sha256 in hex")),
            None => return Err(format!("{option:?} is not --hash=sha256:…")),
        };
    }
    Ok(hashes)
}
