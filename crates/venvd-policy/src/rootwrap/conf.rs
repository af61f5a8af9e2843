//! `rootwrap.conf`, read as oslo.rootwrap reads it, and changed in one place only.
//!
//! oslo.rootwrap uses `configparser.RawConfigParser()`: `#` and `;` begin a comment line, keys are folded to lower case,
//! a line that is indented deeper than its key continues the value, a key given twice is an error, nothing is
//! interpolated. Lists are split at commas and *not* stripped of blanks.
//!
//! What Python versions read differently, or could be read in two ways, is refused.

use std::collections::BTreeSet;
use std::path::Path;

use venvd_app::AppName;
use venvd_app::links::VenvPath;

/// The two keys that decide what runs.
pub const EXEC_DIRS: &str = "exec_dirs";
/// See [`EXEC_DIRS`].
pub const FILTERS_PATH: &str = "filters_path";

/// What is wrong, and in which line (from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ConfError {
    /// The line.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// A parsed `rootwrap.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf<'a> {
    text: &'a str,
    exec_dirs: Option<Value>,
    filters_path: Value,
}

/// The value of a key, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    /// As Python sees it, continuation lines joined with line breaks.
    joined: String,
    /// Where the key's own line begins and ends (after its line break).
    line: std::ops::Range<usize>,
    /// Where the value's part on that line stands.
    first: std::ops::Range<usize>,
}

impl Value {
    /// As rootwrap: `value.split(",")`.
    fn entries(&self) -> Vec<&str> {
        self.joined.split(',').collect()
    }
}

impl<'a> Conf<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// Where oslo.rootwrap would fail as well, or where it is not certain what it would read.
    pub fn parse(text: &'a str) -> Result<Self, ConfError> {
        let mut parser = Parser::default();
        let mut start = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let range = start..start + line.len();
            start = range.end;
            parser.line(line, range).map_err(|reason| ConfError {
                line: index + 1,
                reason,
            })?;
        }
        let filters_path = parser.filters_path.ok_or(ConfError {
            line: 1,
            reason: format!("there is no {FILTERS_PATH} in [DEFAULT], which oslo.rootwrap needs"),
        })?;
        Ok(Self {
            text,
            exec_dirs: parser.exec_dirs,
            filters_path,
        }
        .stripped())
    }

    /// As Python: the joined value loses its trailing blank lines.
    fn stripped(mut self) -> Self {
        for value in self.exec_dirs.iter_mut().chain([&mut self.filters_path]) {
            value.joined.truncate(value.joined.trim_end().len());
        }
        self
    }

    /// Returns the filter directories, as rootwrap splits them.
    #[must_use]
    pub fn filters_path(&self) -> Vec<&str> {
        self.filters_path.entries()
    }

    /// Returns the directories that programs are looked for in, as rootwrap splits them; `None` means the PATH.
    #[must_use]
    pub fn exec_dirs(&self) -> Option<Vec<&str>> {
        self.exec_dirs.as_ref().map(Value::entries)
    }

    /// Returns the text with other filter directories. They must have been on one line, as absolute ones are.
    #[must_use]
    pub fn with_filters_path(&self, directories: &[String]) -> String {
        let at = &self.filters_path.first;
        format!(
            "{}{}{}",
            &self.text[..at.start],
            directories.join(","),
            &self.text[at.end..]
        )
    }

    /// Returns the text with the `bin` directories of `admitted` in front of `exec_dirs`, and no others of `app`.
    ///
    /// Every other byte stays, so with none admitted the text is what it was before venvd came, but for what others
    /// changed since. Without `exec_dirs` nothing is to be done: rootwrap then takes sudo's `secure_path`. Should all
    /// other entries be gone, the line goes with ours: an empty value would mean the caller's working directory.
    #[must_use]
    pub fn with_front(&self, app: &AppName, admitted: &[String]) -> String {
        let Some(value) = &self.exec_dirs else {
            return self.text.to_owned();
        };
        let mut own_line: Vec<&str> = self.text[value.first.clone()].split(',').collect();
        // The last entry of a continued line goes on below, so it is none of ours, whatever it looks like.
        let continued = value.joined.contains('\n').then(|| own_line.pop()).flatten();
        own_line.retain(|entry| !is_of(entry, app));
        let admitted = admitted.iter().map(String::as_str);
        let entries: Vec<&str> = admitted.chain(own_line).chain(continued).collect();
        let (cut, put) = if entries.is_empty() {
            (&value.line, String::new())
        } else {
            (&value.first, entries.join(","))
        };
        format!("{}{put}{}", &self.text[..cut.start], &self.text[cut.end..])
    }
}

/// Returns whether an entry is exactly what this module writes for a venv of `app`.
pub(crate) fn is_of(entry: &str, app: &AppName) -> bool {
    venv_of(entry).is_some_and(|venv| venv.name().app() == app)
}

/// Returns the venv whose `bin` a directory is, if it is written as venvd writes it.
pub(crate) fn venv_of(directory: &str) -> Option<VenvPath> {
    // Only the host's own apps have policies.
    let host = venvd_app::Layout::new(venvd_fs::Root::host());
    let venv = VenvPath::parse(&host, Path::new(directory.strip_suffix("/bin")?))?;
    (venv.path().join("bin").as_os_str() == directory).then_some(venv)
}

/// `RawConfigParser._read`, line by line.
#[derive(Debug, Default)]
struct Parser {
    section: Option<String>,
    sections: BTreeSet<String>,
    keys: BTreeSet<(String, String)>,
    /// The key that a deeper line would continue; `Some(None)` is one that we don't keep.
    open: Option<Option<&'static str>>,
    indent: usize,
    exec_dirs: Option<Value>,
    filters_path: Option<Value>,
}

const DEFAULT: &str = "DEFAULT";

impl Parser {
    fn line(&mut self, raw: &str, range: std::ops::Range<usize>) -> Result<(), String> {
        let line = raw.strip_suffix('\n').unwrap_or(raw);
        let line = line.strip_suffix('\r').unwrap_or(line);
        // Python ends lines at a lone \r as well, and takes \x1c to \x1f for blanks.
        if let Some(c) = line.chars().find(|&c| c.is_control() && c != '\t') {
            return Err(format!("the control character {c:?} must not be there"));
        }
        let text = line.trim();
        if text.starts_with(['#', ';']) {
            return Ok(());
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if text.is_empty() || (self.open.is_some() && indent > self.indent) {
            self.continue_value(text);
            return Ok(());
        }
        self.indent = indent;
        if text.starts_with('[') {
            return self.header(text);
        }
        let value_start = range.start + (text.as_ptr() as usize - raw.as_ptr() as usize);
        self.option(text, value_start, range)
    }

    fn continue_value(&mut self, text: &str) {
        let value = match self.open {
            Some(Some(EXEC_DIRS)) => self.exec_dirs.as_mut(),
            Some(Some(FILTERS_PATH)) => self.filters_path.as_mut(),
            _ => None,
        };
        if let Some(value) = value {
            value.joined.push('\n');
            value.joined.push_str(text);
        }
    }

    fn header(&mut self, text: &str) -> Result<(), String> {
        // Python takes `[a] b` for [a], and newer ones `[a]b]` for [a]b]: nobody means that.
        let name = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .filter(|name| !name.is_empty() && !name.contains(['[', ']']))
            .ok_or_else(|| format!("{text:?} is no section such as [DEFAULT]"))?;
        if name != DEFAULT && !self.sections.insert(name.to_owned()) {
            return Err(format!(
                "the section [{name}] is there twice; oslo.rootwrap refuses that"
            ));
        }
        self.section = Some(name.to_owned());
        self.open = None;
        Ok(())
    }

    fn option(&mut self, text: &str, start: usize, line: std::ops::Range<usize>) -> Result<(), String> {
        let Some(section) = self.section.clone() else {
            return Err(format!(
                "{text:?} stands before any section; oslo.rootwrap refuses that"
            ));
        };
        let (name, value) = text
            .split_once(['=', ':'])
            .ok_or_else(|| format!("{text:?} is no `key = value`; oslo.rootwrap refuses that"))?;
        let key = name.trim_end().to_lowercase();
        if key.is_empty() {
            return Err(format!("{text:?} has no key; oslo.rootwrap refuses that"));
        }
        if !self.keys.insert((section.clone(), key.clone())) {
            return Err(format!("{key} is there twice; oslo.rootwrap refuses that"));
        }
        let value_start = start + name.len() + 1 + (value.len() - value.trim_start().len());
        let found = Value {
            joined: value.trim().to_owned(),
            line,
            first: value_start..value_start + value.trim().len(),
        };
        self.open = Some(match key.as_str() {
            EXEC_DIRS if section == DEFAULT => {
                self.exec_dirs = Some(found);
                Some(EXEC_DIRS)
            }
            FILTERS_PATH if section == DEFAULT => {
                self.filters_path = Some(found);
                Some(FILTERS_PATH)
            }
            _ => None,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
