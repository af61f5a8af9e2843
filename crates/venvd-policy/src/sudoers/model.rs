//! Rules and `secure_path`, made of an allowlist of characters, and their text.
//!
//! sudoers(5) has silent traps: a raw `#` in a path cuts the rule to a grant on what stands before it, a name in
//! capitals is an alias, a path that ends in `/` is a whole directory, no arguments are any arguments. So nothing is
//! escaped here: what is not plain is refused, whatever was checked before.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::path::Path;

use venvd_app::value::SudoCommand;
use venvd_app::{AppName, UserName};

use super::header::with_header;
use crate::Refused;

/// sudo-rs takes no token of more than 1024 bytes.
const LONGEST: usize = 1000;

/// An absolute path that means itself to sudo: no blank, quote, glob, comma, colon, `=`, `#`, backslash or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlainPath(String);

impl PlainPath {
    /// Takes a path that is plain.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(path: &Path) -> Result<Self, Refused> {
        let refused = || Refused {
            what: "the path",
            text: path.to_string_lossy().into_owned(),
            rule: "it is absolute, of at most 1000 letters, digits and . _ + - between single slashes, without `..`",
        };
        let text = path.to_str().ok_or_else(refused)?;
        let mut parts = text.strip_prefix('/').ok_or_else(refused)?.split('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let good = |part: &str| !["", ".", ".."].contains(&part) && part.bytes().all(plain);
        if text.len() <= LONGEST && parts.all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused())
        }
    }

    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a user that means itself to sudo.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PlainUser(String);

impl PlainUser {
    fn new(user: &UserName) -> Result<Self, Refused> {
        let text = user.as_str();
        let first = |b: u8| b.is_ascii_lowercase() || b == b'_';
        let rest = |b: u8| first(b) || b.is_ascii_digit() || b == b'-';
        if text.len() <= 31 && text.bytes().next().is_some_and(first) && text.bytes().all(rest) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refused {
            what: "the user",
            text: text.to_owned(),
            rule: "it is at most 31 of a-z, 0-9, _ and -, and begins with a letter or _",
        })
    }
}

/// A command that a user may run as root: a program by its full path, with pinned arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    user: PlainUser,
    program: PlainPath,
    arguments: Vec<String>,
    open_ended: bool,
}

impl Rule {
    /// Makes the rule for `command`, whose program is `program`.
    ///
    /// # Errors
    /// When anything in it could mean more than itself to sudo, or when no argument is pinned.
    pub fn new(user: &UserName, program: &Path, command: &SudoCommand) -> Result<Self, Refused> {
        let user = PlainUser::new(user)?;
        let program = PlainPath::new(program)?;
        if program.0.ends_with("/sudoedit") {
            return Err(Refused {
                what: "the program",
                text: program.0,
                rule: "`sudoedit` is a built-in command of sudo",
            });
        }
        if command.arguments.is_empty() {
            return Err(Refused {
                what: "the command",
                text: program.0,
                rule: "without an argument sudo would admit any; name the configuration file at least",
            });
        }
        for argument in &command.arguments {
            check_argument(argument)?;
        }
        let rule = Self {
            user,
            program,
            arguments: command.arguments.clone(),
            open_ended: command.open_ended,
        };
        if rule.to_string().len() > LONGEST {
            return Err(Refused {
                what: "the rule",
                text: rule.to_string(),
                rule: "it is at most 1000 bytes long",
            });
        }
        Ok(rule)
    }

    /// Returns the program's full path.
    pub(crate) fn program(&self) -> &str {
        self.program.as_str()
    }

    /// Returns the pinned arguments.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Returns whether further arguments may follow.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.open_ended
    }
}

fn check_argument(argument: &str) -> Result<(), Refused> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+@/-".contains(&b);
    if !argument.is_empty() && argument.bytes().all(plain) && !argument.split('/').any(|part| part == "..") {
        return Ok(());
    }
    Err(Refused {
        what: "the argument",
        text: argument.to_owned(),
        rule: "it is of letters, digits and . _ + @ / - alone, without `..`",
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // NOSETENV, since a caller who sets PYTHONPATH runs his own code as root. No !requiretty: an error on sudo-rs.
        let (user, program) = (&self.user.0, &self.program.0);
        write!(formatter, "{user} ALL=(root) NOPASSWD: NOSETENV: {program}")?;
        for argument in &self.arguments {
            write!(formatter, " {argument}")?;
        }
        formatter.write_str(if self.open_ended { " *" } else { "" })
    }
}

/// Where sudo looks for a user's commands, and the PATH of what it runs.
///
/// It replaces the system's own (there is no `+=` that every sudo knows), so it holds that one's directories as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurePath(Vec<PlainPath>);

impl SecurePath {
    /// Puts directories in front of the system's, each once.
    pub fn new(front: impl IntoIterator<Item = PlainPath>, system: &[PlainPath]) -> Self {
        let mut seen = BTreeSet::new();
        let all = front.into_iter().chain(system.iter().cloned());
        Self(all.filter(|directory| seen.insert(directory.clone())).collect())
    }
}

impl fmt::Display for SecurePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, directory) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_char(':')?;
            }
            formatter.write_str(directory.as_str())?;
        }
        Ok(())
    }
}

/// Returns the text of an app's file.
#[must_use]
pub fn rules_file(app: &AppName, rules: &[Rule]) -> String {
    let mut body = String::new();
    for rule in rules {
        let _infallible = writeln!(body, "{rule}");
    }
    with_header(&format!("from the definition of {app}"), &body)
}

/// Returns the text of a user's file with his `secure_path`.
///
/// # Errors
/// When the user's name could mean more than itself to sudo.
pub fn path_file(user: &UserName, path: &SecurePath) -> Result<String, Refused> {
    let user = PlainUser::new(user)?.0;
    let body = format!("Defaults:{user} secure_path=\"{path}\"\n");
    Ok(with_header(
        &format!("from the definitions of all apps of {user}"),
        &body,
    ))
}

#[cfg(test)]
mod tests;
