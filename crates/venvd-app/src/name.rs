//! Names, parsed once and trusted afterwards.
//!
//! Each ends up in paths, unit files or sudoers, so each has an alphabet in which nothing means anything there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {rule}")]
pub struct NameError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { text: text.to_owned(), what: $what, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn shaped(text: &str, max: usize, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    text.len() <= max && bytes.next().is_some_and(first) && bytes.all(rest)
}

name!(
    /// The name of an app: `nova`.
    AppName,
    "an app name",
    "it begins with a lower-case letter, followed by at most 31 of a-z, 0-9, _ and -",
    |text| shaped(text, 32, |b| b.is_ascii_lowercase(), |b| b.is_ascii_lowercase()
        || b.is_ascii_digit()
        || b"_-".contains(&b))
);

name!(
    /// The tag of a venv, legal as an OCI tag too: `29.2.0`.
    Tag,
    "a tag",
    "it begins with a letter, a digit or _, followed by at most 63 of a-z, A-Z, 0-9, . _ and -",
    |text| shaped(text, 64, |b| b.is_ascii_alphanumeric() || b == b'_', |b| b.is_ascii_alphanumeric()
        || b"._-".contains(&b))
);

name!(
    /// The name of a program in a venv's `bin`: `nova-manage`.
    ProgramName,
    "a program name",
    "it has letters, digits and . _ + - only, begins with a letter, a digit or _, and has no slash",
    |text| shaped(text, 128, |b| b.is_ascii_alphanumeric() || b == b'_', |b| b.is_ascii_alphanumeric()
        || b"._+-".contains(&b))
);

name!(
    /// The name of a system user. No capitals: sudoers takes those for an alias.
    UserName,
    "a user name",
    "it begins with a-z or _, followed by at most 30 of a-z, 0-9, _ and -",
    |text| shaped(text, 31, |b| b.is_ascii_lowercase() || b == b'_', |b| b.is_ascii_lowercase()
        || b.is_ascii_digit()
        || b"_-".contains(&b))
);

/// The unit types that systemd knows, from systemd.unit(5).
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

name!(
    /// The name of a unit file with its type: `nova-compute.service`, `nova-worker@.service`.
    UnitName,
    "a unit name",
    "systemd.unit(5): letters, digits and : - _ . \\ @, then a type such as .service, 255 bytes at most",
    |text| text.rsplit_once('.').is_some_and(|(stem, kind)| {
        UNIT_TYPES.contains(&kind)
            && text.len() <= 255
            && !stem.is_empty()
            && !stem.starts_with('@')
            && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
    })
);

impl UnitName {
    /// Returns the unit's type: `service`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    /// Returns whether this is a template, `name@.service`.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.0.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with('@'))
    }

    /// Returns the template that this is an instance of: `name@.service` of `name@1.service`.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        let (stem, kind) = self.0.rsplit_once('.')?;
        let (name, _) = stem.split_once('@')?;
        Some(Self(format!("{name}@.{kind}")))
    }
}

/// `#!` and a path must fit in 127 bytes on older kernels, see execve(2).
const SHEBANG_LIMIT: usize = 127;
const LONGEST_SHEBANG_FRAME: usize = "#!/var/lib/venvd/venvs///bin/python".len();

/// The name of a venv: an app and a tag, written `app:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VenvName {
    app: AppName,
    tag: Tag,
}

impl VenvName {
    /// Returns the name of the venv `tag` of `app`.
    ///
    /// # Errors
    /// When the two together would make the first line of its scripts too long for the kernel.
    pub fn new(app: AppName, tag: Tag) -> Result<Self, NameError> {
        if LONGEST_SHEBANG_FRAME + app.0.len() + tag.0.len() > SHEBANG_LIMIT {
            return Err(NameError {
                text: format!("{app}:{tag}"),
                what: "a venv name",
                rule: "app and tag together must be short enough for a script's first line of 127 bytes",
            });
        }
        Ok(Self { app, tag })
    }

    /// Returns the app.
    #[must_use]
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// Returns the tag.
    #[must_use]
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Returns `app/tag`, the path below a directory of venvs.
    #[must_use]
    pub fn relative(&self) -> PathBuf {
        PathBuf::from(self.app.as_str()).join(self.tag.as_str())
    }
}

impl FromStr for VenvName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, tag) = text.split_once(':').ok_or_else(|| NameError {
            text: text.to_owned(),
            what: "a venv name",
            rule: "it is an app and a tag with a colon between them, as nova:29.2.0",
        })?;
        Self::new(app.parse()?, tag.parse()?)
    }
}

impl TryFrom<String> for VenvName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<VenvName> for String {
    fn from(name: VenvName) -> String {
        name.to_string()
    }
}

impl fmt::Display for VenvName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.app, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_their_alphabet_only() {
        for good in ["nova", "a", "os-brick_2"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "Nova", "-a", "a/b", "a.b", "..", "a\n", "ä", &"a".repeat(33)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
        for good in ["29.2.0", "_x", "a-B.c"] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-1", "a/b", "a:b", &"a".repeat(65)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
        }
        for bad in ["", "root:x", "ALL", "%wheel", "#0", "nova x"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", "..", "a b", "-x", "a%n"] {
            assert!(bad.parse::<ProgramName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unit_names_have_a_type() {
        for good in ["nova-compute.service", "a@.service", "a@b.c.timer", r"x\x2dy.socket"] {
            assert!(good.parse::<UnitName>().is_ok(), "{good}");
        }
        for bad in [
            "nova-compute",
            ".service",
            "a/b.service",
            "@.service",
            "a.conf",
            "a b.service",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        assert!("a@.service".parse::<UnitName>().unwrap().is_template());
        let instance = "a@1@2.b.service".parse::<UnitName>().unwrap();
        assert!(!instance.is_template());
        assert_eq!(instance.template().unwrap().as_str(), "a@.service");
        assert_eq!("a.service".parse::<UnitName>().unwrap().template(), None);
    }

    #[test]
    fn a_venv_name_keeps_the_shebang_short() {
        let name: VenvName = "nova:29.2.0".parse().unwrap();
        assert_eq!((name.app().as_str(), name.tag().as_str()), ("nova", "29.2.0"));
        let longest = format!("{}:{}", "a".repeat(32), "b".repeat(60));
        let name: VenvName = longest.parse().unwrap();
        let shebang = format!("#!/var/lib/venvd/venvs/{}/bin/python", name.relative().display());
        assert_eq!(shebang.len(), 127);
        assert!(
            format!("{}:{}", "a".repeat(32), "b".repeat(61))
                .parse::<VenvName>()
                .is_err()
        );
        assert!("nova".parse::<VenvName>().is_err());
    }
}
