//! The lock: exactly which distributions, each with the hashes its wheel may have.
//!
//! Two forms are read, requirements with hashes and `pylock.toml` (PEP 751); both mean the same afterwards. What an
//! installer is given is always written anew from what was understood ([`Lock::render`]), so that no option hidden in
//! a lock reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use venvd_app::value::ModuleName;

use crate::interpreter::Interpreter;
use crate::manifest::Python;

mod inputs;
mod pylock;
mod requirements;

pub(crate) use inputs::Inputs;

/// The form of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Requirements with hashes, as `uv pip compile --generate-hashes` and `pip-compile` write them.
    Requirements,
    /// `pylock.toml`.
    Pylock,
}

impl Format {
    /// Returns the form of a file by its name: `….toml` is a pylock.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension() {
            Some(extension) if extension == "toml" => Self::Pylock,
            _ => Self::Requirements,
        }
    }

    /// Returns the ending of such files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Requirements => "txt",
            Self::Pylock => "toml",
        }
    }
}

/// A lock that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Its form.
    pub format: Format,
    /// As it was written.
    pub text: String,
    /// What it demands, sorted by name, version and marker.
    pub requirements: Vec<Pinned>,
}

/// One distribution of a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pinned {
    /// Its normalised name: `oslo-config`.
    pub name: String,
    /// Its version, as written.
    pub version: String,
    /// The environment marker under which it is wanted.
    pub marker: Option<String>,
    /// The sha256 hashes, in hex, that its file may have. Never empty.
    pub hashes: BTreeSet<String>,
}

/// Why a lock can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A line is none that a lock may have.
    #[error("{path:?}, line {line}: {reason}")]
    Line {
        /// The lock.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A requirement has no hash.
    #[error(
        "{path:?}, line {line}: {requirement} has no --hash=sha256:…; make the lock with hashes \
         (`uv pip compile --generate-hashes`)"
    )]
    NotHashed {
        /// The lock.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The requirement.
        requirement: String,
    },
    /// A pylock.toml is not one, or has what can't be installed from wheels.
    #[error("{path:?}: {reason}")]
    Pylock {
        /// The lock.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It demands nothing.
    #[error("{path:?} demands no distribution at all")]
    Empty {
        /// The lock.
        path: PathBuf,
    },
    /// It demands one distribution twice.
    #[error("{path:?} demands {name} twice")]
    Twice {
        /// The lock.
        path: PathBuf,
        /// The distribution.
        name: String,
    },
}

impl LockError {
    /// Returns the word by which scripts tell errors apart.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotHashed { .. } => "lock-not-hashed",
            _ => "lock-invalid",
        }
    }
}

impl Lock {
    /// Reads a lock. `path` is for messages only.
    ///
    /// # Errors
    /// When something in it is not exactly pinned and hashed, or is an option for an installer.
    pub fn parse(path: &Path, format: Format, text: String) -> Result<Self, LockError> {
        let mut requirements = match format {
            Format::Requirements => requirements::parse(path, &text)?,
            Format::Pylock => pylock::parse(path, &text)?,
        };
        requirements.sort();
        if requirements.is_empty() {
            return Err(LockError::Empty { path: path.to_owned() });
        }
        // With markers the same name may well be there for two platforms.
        let twice = requirements
            .windows(2)
            .find(|pair| matches!(pair, [one, other] if one.name == other.name && one.marker == other.marker));
        if let Some([one, ..]) = twice {
            return Err(LockError::Twice {
                path: path.to_owned(),
                name: one.name.clone(),
            });
        }
        Ok(Self {
            format,
            text,
            requirements,
        })
    }

    /// Returns the lock as requirements with hashes and nothing else, in an order of its own.
    #[must_use]
    pub fn render(&self) -> String {
        render(&self.requirements.iter().collect::<Vec<_>>())
    }

    /// Returns the digest, BLAKE3 in hex, of all that decides a venv's content: this lock, Python's minor version and
    /// SOABI, the platform, the names of host modules. Comments, order and form of the lock have no part in it, nor has Python's patch version.
    #[must_use]
    pub fn digest(&self, interpreter: &Interpreter, host_modules: &[ModuleName]) -> String {
        let modules: Vec<&str> = host_modules.iter().map(|module| module.as_str()).collect();
        self.digest_of(
            (&interpreter.minor, &interpreter.soabi),
            &interpreter.platform,
            &modules,
        )
    }

    /// Returns the digest as [`Lock::digest`] does, of what a manifest says of Python, platform and host modules.
    pub(crate) fn digest_for(&self, python: &Python, platform: &str, modules: &[&str]) -> String {
        self.digest_of((&python.minor, &python.soabi), platform, modules)
    }

    fn digest_of(&self, (minor, soabi): (&str, &str), platform: &str, modules: &[&str]) -> String {
        let text = format!(
            "venvd 1\npython {minor} {soabi}\nplatform {platform}\nhost modules {}\n{}",
            modules.join(" "),
            self.render()
        );
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// Returns the version of a distribution, by any spelling of its name.
    #[must_use]
    pub fn version_of(&self, name: &str) -> Option<&str> {
        let name = normalise(name);
        self.requirements
            .iter()
            .find(|pinned| pinned.name == name)
            .map(|pinned| pinned.version.as_str())
    }

    /// Returns what differs from another lock, one phrase each, for people.
    #[must_use]
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let (before, now) = (before.by_name(), self.by_name());
        let names: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
        let describe = |name| match (before.get(name), now.get(name)) {
            (Some(before), None) => Some(format!("{name} {} was in it and is not now", versions(before))),
            (None, Some(now)) => Some(format!("{name} {} was not in it and is now", versions(now))),
            (Some(before), Some(now)) if versions(before) != versions(now) => {
                Some(format!("{name} was {} and is {} now", versions(before), versions(now)))
            }
            (Some(before), Some(now)) if before != now => {
                Some(format!("{name} {} has other hashes or another marker", versions(now)))
            }
            _ => None,
        };
        names.into_iter().filter_map(describe).collect()
    }

    fn by_name(&self) -> BTreeMap<&str, Vec<&Pinned>> {
        let mut names: BTreeMap<&str, Vec<&Pinned>> = BTreeMap::new();
        for pinned in &self.requirements {
            names.entry(&pinned.name).or_default().push(pinned);
        }
        names
    }
}

/// Returns some requirements of a lock, as an installer reads them.
pub(crate) fn render(requirements: &[&Pinned]) -> String {
    let mut text = String::new();
    for pinned in requirements {
        text.push_str(&format!("{}=={}", pinned.name, pinned.version));
        if let Some(marker) = &pinned.marker {
            text.push_str(&format!(" ; {marker}"));
        }
        for hash in &pinned.hashes {
            text.push_str(&format!(" \\\n    --hash=sha256:{hash}"));
        }
        text.push('\n');
    }
    text
}

fn versions(pinned: &[&Pinned]) -> String {
    let versions: BTreeSet<&str> = pinned.iter().map(|pinned| pinned.version.as_str()).collect();
    versions.into_iter().collect::<Vec<_>>().join(" or ")
}

/// Returns a distribution's name in its normal form: lower case, runs of `-`, `_` and `.` as one `-` (PEP 503).
#[must_use]
pub fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for character in name.chars() {
        if !"-_.".contains(character) {
            normal.push(character.to_ascii_lowercase());
        } else if !normal.ends_with('-') {
            normal.push('-');
        }
    }
    normal
}

/// Returns whether a text is a distribution's name (PEP 508).
fn is_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    ends(text.bytes().next())
        && ends(text.bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Returns whether a text is one exact version: no `*`, no operators.
fn is_version(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+!-_".contains(&byte))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns a marker with single blanks, if it has only what markers are made of.
fn tidy_marker(text: &str) -> Option<String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || " \t()<>=!~_.'\"-,+*".contains(character);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    // `--hash` and the like would be options again.
    let option = words.iter().any(|word| word.starts_with('-'));
    (!words.is_empty() && !option && text.chars().all(plain)).then(|| words.join(" "))
}

#[cfg(test)]
mod tests;
