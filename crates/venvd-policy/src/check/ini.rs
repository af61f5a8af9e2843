//! Filter files, as oslo.rootwrap reads them: `RawConfigParser(strict=False)`.

use std::collections::BTreeMap;

/// A filter: where it stands and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) name: String,
    /// The value's parts between commas, without blanks.
    pub(super) parts: Vec<String>,
}

/// Returns the entries of `[Filters]` (and of `[DEFAULT]`, which Python adds to each section); of equal names, the last.
pub(super) fn filters(text: &str) -> Vec<Entry> {
    let mut entries: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut wanted = false;
    let mut open: Option<(String, usize)> = None;
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim();
        if line.starts_with(['#', ';']) || line.is_empty() {
            continue;
        }
        let indent = raw.chars().take_while(|c| c.is_whitespace()).count();
        if let Some((name, of)) = &open
            && indent > *of
        {
            if let Some((_, value)) = entries.get_mut(name) {
                value.push_str(line);
            }
            continue;
        }
        open = None;
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            wanted = section == "Filters" || section == "DEFAULT";
            continue;
        }
        if let Some((name, value)) = line.split_once(['=', ':']).filter(|_| wanted) {
            let name = name.trim().to_lowercase();
            entries.insert(name.clone(), (index + 1, value.trim().to_owned()));
            open = Some((name, indent));
        }
    }
    let entry = |(name, (line, value)): (String, (usize, String))| Entry {
        line,
        name,
        parts: value.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    let mut entries: Vec<Entry> = entries.into_iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.line);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters_as_python_does() {
        let text = "# x\n[Other]\na: CommandFilter, no, root\n[Filters]\nLvs: CommandFilter, lvs ,root\n\
                    two = PathFilter, /bin/x,\n   root, /a\n\n;c\nlvs: CommandFilter, again, root\n";
        let entry = |line, name: &str, parts: &[&str]| Entry {
            line,
            name: name.to_owned(),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        };
        assert_eq!(
            filters(text),
            [
                entry(6, "two", &["PathFilter", "/bin/x", "root", "/a"]),
                entry(10, "lvs", &["CommandFilter", "again", "root"]),
            ]
        );
    }
}
