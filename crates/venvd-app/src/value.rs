//! Values of definitions that have a form of their own.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::name::ProgramName;

/// Why a value is refused; shown behind file, line and key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

pub(crate) fn refuse<T>(message: impl Into<String>) -> Result<T, ValueError> {
    Err(ValueError(message.into()))
}

macro_rules! value {
    ($(#[$doc:meta])* $type:ident($inner:ty), $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type($inner);

        impl TryFrom<String> for $type {
            type Error = ValueError;
            fn try_from(text: String) -> Result<Self, ValueError> {
                let parse: fn(&str) -> Result<$inner, ValueError> = $parse;
                parse(&text).map(Self)
            }
        }

        impl std::ops::Deref for $type {
            type Target = $inner;
            fn deref(&self) -> &$inner {
                &self.0
            }
        }
    };
}

value!(
    /// An absolute path without `..`, blanks or control characters.
    AbsolutePath(PathBuf),
    |text| {
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\$;%*?[]".contains(&b));
        if !text.starts_with('/') || !plain || text.split('/').any(|part| part == "..") {
            return refuse(format!("{text:?} is not an absolute path of plain characters without `..`"));
        }
        Ok(PathBuf::from(text))
    }
);

value!(
    /// The name of a Python module or package at the top level: `libvirt`.
    ModuleName(String),
    |text| {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return refuse(format!("{text:?} is not the name of a Python module at the top level, such as libvirt"));
        }
        Ok(text.to_owned())
    }
);

value!(
    /// The normalised name of a distribution: `oslo-config` for `oslo.config` and `Oslo_Config` (PEP 503).
    DistributionName(String),
    |text| {
        let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !plain || !edge(text.bytes().next()) || !edge(text.bytes().last()) {
            return refuse(format!("{text:?} is not the name of a distribution, such as oslo.config"));
        }
        let mut name = text.to_ascii_lowercase().replace(['_', '.'], "-");
        while name.contains("--") {
            name = name.replace("--", "-");
        }
        Ok(name)
    }
);

value!(
    /// A time span such as `300ms`, `10s`, `2m` or `1h`.
    Span(Duration),
    |text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return refuse(format!("{text:?} is not a time span such as 300ms, 10s, 2m or 1h")),
        };
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
            Some(millis) => Ok(Duration::from_millis(millis)),
            None => refuse(format!("{text:?} is not a time span such as 300ms, 10s, 2m or 1h")),
        }
    }
);

value!(
    /// One line of text that goes into a unit file: no line breaks or other control characters.
    Line(String),
    |text| {
        if text.trim().is_empty() || text.ends_with('\\') || text.chars().any(char::is_control) {
            return refuse(format!("{text:?} must be one line, not empty, without control characters or a final \\"));
        }
        Ok(text.to_owned())
    }
);

value!(
    /// The name of an environment variable.
    VariableName(String),
    |text| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if text.is_empty() || text.as_bytes()[0].is_ascii_digit() || !text.bytes().all(word) {
            return refuse(format!("{text:?} is not the name of an environment variable"));
        }
        Ok(text.to_owned())
    }
);

value!(
    /// The value of an environment variable; `{venv}` in it stands for the venv's directory.
    VariableValue(String),
    |text| {
        if text.chars().any(|c| c.is_control() || "\"'\\".contains(c)) {
            return refuse(format!("{text:?} has a control character, quote or backslash"));
        }
        Ok(text.to_owned())
    }
);

value!(
    /// A requirement as installers take it (PEP 508): `nova`, `PyMySQL>=1`.
    Requirement(String),
    |text| {
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !begins || text.chars().any(char::is_control) || text.contains(" #") {
            return refuse(format!("{text:?} is not a requirement such as `nova` or `PyMySQL>=1`"));
        }
        Ok(text.to_owned())
    }
);

value!(
    /// The address of a package index, without credentials.
    IndexUrl(String),
    |text| {
        let rest = ["https://", "http://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rest else {
            return refuse(format!("{text:?} is not an http, https or file URL"));
        };
        if rest.split('/').next().is_some_and(|host| host.contains('@')) {
            return refuse("credentials do not belong in a definition; put them in the client's own configuration (netrc)");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse(format!("{text:?} has blanks or control characters"));
        }
        Ok(text.to_owned())
    }
);

value!(
    /// A directory or address where wheels lie: `/srv/wheels`, `https://…`.
    Location(String),
    |text| {
        if text.starts_with('/') {
            AbsolutePath::try_from(text.to_owned())?;
        } else {
            IndexUrl::try_from(text.to_owned())?;
        }
        Ok(text.to_owned())
    }
);

/// Imports a Python function of its caller's choosing and calls it as root, over a socket whose name is random.
const PRIVSEP_HELPER: &str = "privsep-helper";

/// A command that the app's user may run as root: a program of the venv and its pinned arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SudoCommand {
    /// The program in the venv's `bin`.
    pub program: ProgramName,
    /// The arguments, never empty. Plain characters only.
    pub arguments: Vec<String>,
    /// Whether any further arguments may follow (a final ` *`).
    pub open_ended: bool,
}

impl TryFrom<String> for SudoCommand {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let command = Self::parse(&text)?;
        if command.cannot_be_pinned() {
            return refuse(format!(
                "{PRIVSEP_HELPER} calls, as root, what its caller names, and no argument pins that; services call it \
                 through rootwrap, which admits it by itself; for one that can't, name it in `unsafe`"
            ));
        }
        Ok(command)
    }
}

impl SudoCommand {
    /// Returns whether the program runs whatever its caller names, so that no argument pins anything.
    #[must_use]
    pub fn cannot_be_pinned(&self) -> bool {
        self.program.as_str() == PRIVSEP_HELPER
    }

    fn parse(text: &str) -> Result<Self, ValueError> {
        let mut words: Vec<&str> = text.split(' ').collect();
        let open_ended = words.last() == Some(&"*");
        if open_ended {
            words.pop();
        }
        let mut words = words.into_iter();
        let program = words
            .next()
            .unwrap_or_default()
            .parse::<ProgramName>()
            .map_err(|error| {
                ValueError(format!(
                    "{error}; a sudo command names a program of the venv without a path"
                ))
            })?;
        let arguments: Vec<String> = words.map(str::to_owned).collect();
        if arguments.is_empty() {
            return refuse(format!(
                "{text:?} pins no argument: sudo would admit any; name the configuration file at least"
            ));
        }
        for argument in &arguments {
            // The characters that mean nothing to sudoers(5), nor to a glob.
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+@/-".contains(&b);
            if argument.is_empty() || !argument.bytes().all(plain) {
                return refuse(format!(
                    "the argument {argument:?} is not made of letters, digits and . _ + @ / - alone, with one blank between \
                     arguments; only a final * may stand for more"
                ));
            }
            if argument.split('/').any(|part| part == "..") {
                return refuse(format!("the argument {argument:?} has a `..`"));
            }
        }
        Ok(Self {
            program,
            arguments,
            open_ended,
        })
    }
}

/// A sudo command that makes whoever runs it root: `privsep-helper` with its first arguments and a final ` *`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UnsafeCommand(SudoCommand);

impl TryFrom<String> for UnsafeCommand {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let command = SudoCommand::parse(&text)?;
        if !command.cannot_be_pinned() {
            return refuse(format!(
                "only {PRIVSEP_HELPER} belongs here; name {} in `commands`",
                command.program
            ));
        }
        if !command.open_ended {
            return refuse(format!(
                "{PRIVSEP_HELPER} is given a socket with a random name, so without a final * the rule would never match"
            ));
        }
        Ok(Self(command))
    }
}

impl std::ops::Deref for UnsafeCommand {
    type Target = SudoCommand;
    fn deref(&self) -> &SudoCommand {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, millis) in [("300ms", 300), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(*Span::try_from(text.to_owned()).unwrap(), Duration::from_millis(millis));
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn sudo_commands_are_pinned_and_plain() {
        let command = SudoCommand::try_from("nova-rootwrap /etc/nova/rootwrap.conf *".to_owned()).unwrap();
        assert_eq!(command.arguments, ["/etc/nova/rootwrap.conf"]);
        assert!(command.open_ended);
        for bad in [
            "",
            "nova-rootwrap",
            "nova-rootwrap *",
            "/usr/bin/x /etc/x",
            "x /etc/../x",
            "x  /etc/x",
            "x /etc/x, ALL",
            "x /etc/x\nroot ALL=(ALL) ALL",
            "x /etc/*",
            "x * /etc/x",
            "x a=b",
            "x \"a\"",
            "../x /a",
            "x \\*",
            "privsep-helper --config-file /etc/x *",
        ] {
            assert!(SudoCommand::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unsafe_commands_are_those_that_no_argument_pins() {
        let good = "privsep-helper --config-file /etc/nova/nova.conf *".to_owned();
        let command = UnsafeCommand::try_from(good).unwrap();
        assert_eq!(command.arguments, ["--config-file", "/etc/nova/nova.conf"]);
        for (bad, reason) in [
            ("privsep-helper *", "pins no argument"),
            ("privsep-helper", "pins no argument"),
            ("privsep-helper --config-file /etc/nova/nova.conf", "never match"),
            ("privsep-helper --config-file /etc/*/nova.conf *", "only a final *"),
            ("nova-rootwrap /etc/nova/rootwrap.conf *", "`commands`"),
            ("privsep-helper2 /etc/x *", "`commands`"),
        ] {
            let refusal = UnsafeCommand::try_from(bad.to_owned()).unwrap_err();
            assert!(refusal.to_string().contains(reason), "{bad}: {refusal}");
        }
    }

    #[test]
    fn urls_hold_no_credentials() {
        assert!(IndexUrl::try_from("https://index.example.org/simple".to_owned()).is_ok());
        for bad in ["ftp://x", "https://user:secret@index.example.org/", "https://a b/"] {
            assert!(IndexUrl::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn requirements_are_no_options() {
        assert!(Requirement::try_from("nova>=1".to_owned()).is_ok());
        for bad in ["-r x", "--index-url=x", "", "a\nb", "a # x"] {
            assert!(Requirement::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert!(AbsolutePath::try_from("/etc/nova/nova.conf".to_owned()).is_ok());
        for bad in ["", "etc", "/a/../b", "/a b", "/a\n", "/a%n", "/a*"] {
            assert!(AbsolutePath::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
