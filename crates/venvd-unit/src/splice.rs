//! Another program in a command line, and nothing else changed.
//!
//! Words are not taken apart and put together again: every byte that is not the program's own stays, so that
//! whatever an administrator wrote means tomorrow what it means today.

use std::ops::Range;

use crate::command::{self, Command, CommandLine};
use crate::lexer::LINE_LIMIT;

/// Directories of programs that a bare name may stand for (`{/usr,/usr/local,}/{bin,sbin}`).
const PROGRAM_DIRECTORIES: [&str; 6] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/bin",
    "/sbin",
];

/// Room for the key and `=` in front of a value.
const LONGEST_KEY: usize = 64;

/// Why a line is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The line has a fault: what systemd makes of it is not what its author wanted.
    #[error("systemd does not accept the line: {0}")]
    Fault(crate::command::Fault),
    /// `|`: the line is a shell's.
    #[error("the line runs through a shell (prefix `|`); give the command with `exec`")]
    Shell {
        /// Where in the value the command's first word is.
        span: Range<usize>,
    },
    /// The value ends with a backslash that would join it with the line behind it.
    #[error("the line ends with a backslash")]
    Backslash {
        /// Where in the value it is.
        at: usize,
    },
    /// Systemd would take the line for too long, and lose it.
    #[error("the line would be longer than systemd reads")]
    TooLong,
    /// A path that would mean something else on a command line, or nothing.
    #[error("the path {path:?} is too long, or has characters that mean something on a command line")]
    Path {
        /// The path.
        path: String,
    },
}

impl Refusal {
    /// Returns which part of the value is to blame, for [`crate::effective::Entry::trouble`].
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        match self {
            Self::Fault(fault) => fault.at..fault.end,
            Self::Shell { span } => span.clone(),
            Self::Backslash { at } => *at..at + 1,
            Self::TooLong | Self::Path { .. } => 0..1,
        }
    }
}

/// Returns the name of the program that `program` runs, if it is a bare name or in one of the directories where
/// distributions put programs.
///
/// Nothing else matches: Debian's OpenStack units say `/etc/init.d/NAME systemd-start`, and a program of the venv
/// with such an argument would be a disaster.
#[must_use]
pub fn program_name(program: &str) -> Option<&str> {
    if !program.contains('/') {
        return Some(program).filter(|name| !name.is_empty());
    }
    let (directory, name) = program.rsplit_once('/')?;
    if !name.is_empty() && PROGRAM_DIRECTORIES.contains(&directory) {
        return Some(name);
    }
    // Written another way: `//usr/./bin`.
    let parts = directory.split('/').filter(|part| !part.is_empty() && *part != ".");
    let directory: String = parts.flat_map(|part| ["/", part]).collect();
    (program.starts_with('/') && !name.is_empty() && PROGRAM_DIRECTORIES.contains(&directory.as_str())).then_some(name)
}

/// A program's path, fit to stand in a command line unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainPath(String);

impl PlainPath {
    /// Takes an absolute path.
    ///
    /// # Errors
    /// When a character of it would have to be quoted or escaped, or systemd would not take it for a program. `%` would not: it is doubled where it is inserted.
    pub fn new(path: &str) -> Result<Self, Refusal> {
        let plain = |b: u8| b.is_ascii_graphic() && !b"\"'\\$;`".contains(&b);
        if path.starts_with('/') && path.bytes().all(plain) && command::check_program(path, true).is_ok() {
            Ok(Self(path.to_owned()))
        } else {
            Err(Refusal::Path { path: path.to_owned() })
        }
    }

    /// Returns the path as it is written into a unit, specifiers escaped.
    #[must_use]
    pub fn escaped(&self) -> String {
        self.0.replace('%', "%%")
    }
}

/// Replaces the programs of a command line for which `replace` gives a path.
///
/// `line` is what [`crate::command::parse`] made of `value`. Returns `None` when nothing is replaced.
///
/// # Errors
/// When a program is to be replaced and can't be.
pub fn splice(
    value: &str,
    line: &CommandLine,
    replace: impl Fn(&Command) -> Option<PlainPath>,
) -> Result<Option<String>, Refusal> {
    let mut spliced = String::with_capacity(value.len() + 64);
    let mut copied = 0;
    for command in &line.commands {
        let Some(path) = replace(command) else { continue };
        if command.prefixes.shell {
            return Err(Refusal::Shell {
                span: command.token.span.clone(),
            });
        }
        let (range, prefixes) = match &command.token.path {
            Some(path) => (path.clone(), ""),
            // Quotes open or close inside the program: they go with it.
            None => (command.token.span.clone(), command.token.prefixes.as_str()),
        };
        spliced.push_str(value.get(copied..range.start).unwrap_or_default());
        spliced.push_str(prefixes);
        spliced.push_str(&path.escaped());
        copied = range.end;
    }
    if copied == 0 {
        return Ok(None);
    }
    if let Some(fault) = line.fault {
        return Err(Refusal::Fault(fault));
    }
    spliced.push_str(value.get(copied..).unwrap_or_default());
    // Of the value as it is: where the backslash is in it is what its author wants to know.
    check_line(value)?;
    check_line(&spliced)?;
    Ok(Some(spliced))
}

/// Checks that a value can be written on one line of a unit file and is read again as it is.
///
/// # Errors
/// When its last backslash would continue the line, or the line has more bytes than systemd reads with its key.
pub fn check_line(value: &str) -> Result<(), Refusal> {
    if value.len() + LONGEST_KEY >= LINE_LIMIT {
        return Err(Refusal::TooLong);
    }
    let backslashes = value.bytes().rev().take_while(|b| *b == b'\\').count();
    if backslashes % 2 == 1 {
        Err(Refusal::Backslash { at: value.len() - 1 })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(value: &str) -> Result<Option<String>, Refusal> {
        let path = PlainPath::new("/v/b%/nova-api").unwrap();
        splice(value, &command::parse(value), |c| {
            (program_name(&c.program) == Some("nova-api")).then(|| path.clone())
        })
    }

    #[test]
    fn replaces_the_program_and_nothing_else() {
        for (value, want) in [
            ("/usr/bin/nova-api", "/v/b%%/nova-api"),
            ("nova-api --x", "/v/b%%/nova-api --x"),
            (
                "/usr/bin/nova-api  --a='b c'  \"$X\" ${Y} %i\t\\x41 ",
                "/v/b%%/nova-api  --a='b c'  \"$X\" ${Y} %i\t\\x41 ",
            ),
            (
                "-@:!!/usr/bin/nova-api nova-api /usr/bin/nova-api",
                "-@:!!/v/b%%/nova-api nova-api /usr/bin/nova-api",
            ),
            ("\"-/usr/bin/nova-api\" x", "\"-/v/b%%/nova-api\" x"),
            ("-'/usr/bin/nova-api' x", "-'/v/b%%/nova-api' x"),
            ("-/usr/bin/'nova-api' x", "-/v/b%%/nova-api x"),
            (r"/usr/bin/nova\x2dapi x", "/v/b%%/nova-api x"),
            (
                "/usr/bin/true ; -nova-api a ; /sbin/nova-api b ;",
                "/usr/bin/true ; -/v/b%%/nova-api a ; /v/b%%/nova-api b ;",
            ),
            (r"nova-api \; x", r"/v/b%%/nova-api \; x"),
            ("//usr/./bin//nova-api", "/v/b%%/nova-api"),
        ] {
            let got = run(value).unwrap();
            assert_eq!(got.as_deref(), Some(want), "{value:?}");
            let (old, new) = (command::parse(value), command::parse(want));
            assert_eq!(new.fault, None);
            for (old, new) in old.commands.iter().zip(&new.commands) {
                assert_eq!(
                    (&old.arguments, old.prefixes),
                    (&new.arguments, new.prefixes),
                    "{value:?}"
                );
            }
        }
    }

    #[test]
    fn leaves_other_programs_alone() {
        for value in [
            "",
            "/usr/bin/nova-api-wsgi",
            "/etc/init.d/nova-api systemd-start",
            "/opt/bin/nova-api",
            "/usr/libexec/nova-api",
            "/usr/bin/env nova-api",
            "/usr/bin/../bin/nova-api",
            "/usr/bin/%p",
            "-",
            "/bin/sh -c 'nova-api; x'",
        ] {
            assert_eq!(run(value), Ok(None), "{value:?}");
        }
    }

    #[test]
    fn refuses_what_it_can_not_do() {
        assert_eq!(run("|nova-api x"), Err(Refusal::Shell { span: 0..9 }));
        assert_eq!(run("nova-api x\\"), Err(Refusal::Backslash { at: 10 }));
        // Short enough as it is, and too long with the path in it.
        let longest = format!("nova-api {}", "x".repeat(LINE_LIMIT - LONGEST_KEY - 10));
        assert!(check_line(&longest).is_ok());
        assert_eq!(run(&longest), Err(Refusal::TooLong));
        assert!(matches!(run("nova-api ; rel/x"), Err(Refusal::Fault(_))));
        for bad in ["", "bin/x", "/a b", "/a\"", "/a\\", "/a$b", "/a;", "/a/", "/ä"] {
            assert!(PlainPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(PlainPath::new(&format!("/{}", "a".repeat(256))).is_err());
    }

    #[test]
    fn program_names() {
        for (program, want) in [
            ("a", Some("a")),
            ("/usr/bin/a", Some("a")),
            ("/usr/sbin/a", Some("a")),
            ("/usr/local/bin/a", Some("a")),
            ("/usr/local/sbin/a", Some("a")),
            ("/bin/a", Some("a")),
            ("/sbin/a", Some("a")),
            ("/usr/a", None),
            ("/usr/bin/x/a", None),
            ("/a", None),
            ("usr/bin/a", None),
            ("", None),
        ] {
            assert_eq!(program_name(program), want, "{program:?}");
        }
    }
}
