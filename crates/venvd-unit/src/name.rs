//! Unit names, taken apart as systemd's `unit-name.c` does.

use std::fmt;

/// The unit types that systemd knows (systemd.unit(5)).
pub(crate) const TYPES: [&str; 11] = [
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

/// Longest unit name, without the NUL that systemd counts.
const LONGEST: usize = 255;

/// A valid unit name: plain, template (`a@.service`) or instance (`a@b.service`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId {
    text: String,
    /// Where the type's dot is.
    dot: usize,
    /// Where the first `@` is.
    at: Option<usize>,
}

/// The text is no unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a unit name")]
pub struct InvalidName {
    /// The text.
    pub text: String,
}

impl UnitId {
    /// Takes a unit name apart.
    ///
    /// # Errors
    /// When systemd would not take it for one (systemd.unit(5)).
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName { text: text.to_owned() };
        let dot = text.rfind('.').filter(|dot| *dot > 0).ok_or_else(invalid)?;
        let (stem, suffix) = text.split_at(dot);
        let at = stem.find('@');
        let valid = text.len() <= LONGEST
            && suffix.strip_prefix('.').is_some_and(|kind| TYPES.contains(&kind))
            && stem
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
            && at != Some(0);
        if valid {
            Ok(Self {
                text: text.to_owned(),
                dot,
                at,
            })
        } else {
            Err(invalid())
        }
    }

    /// Returns the whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the type: `service`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text.get(self.dot + 1..).unwrap_or_default()
    }

    /// Returns the name without its type: `a@b` of `a@b.service`.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.text.get(..self.dot).unwrap_or_default()
    }

    /// Returns what is before `@`, or before the type's dot.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.text.get(..self.at.unwrap_or(self.dot)).unwrap_or_default()
    }

    /// Returns the part between `@` and the type's dot, empty for a template, `None` for a plain name.
    fn after_at(&self) -> Option<&str> {
        self.at.and_then(|at| self.text.get(at + 1..self.dot))
    }

    /// Returns the instance's own part: `b` of `a@b.service`.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.after_at().filter(|part| !part.is_empty())
    }

    /// Returns whether this is a template.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.after_at() == Some("")
    }

    /// Returns the template of an instance: `a@.service` of `a@b.service`.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        self.instance().and_then(|_| self.with_instance(""))
    }

    /// Returns this template or instance with another instance part.
    pub(crate) fn with_instance(&self, instance: &str) -> Option<Self> {
        self.at?;
        Self::parse(&format!("{}@{instance}.{}", self.prefix(), self.kind())).ok()
    }

    /// Returns the next more general name with drop-ins of its own: `a-b-c.service` → `a-b-.service` → `a-.service`.
    pub(crate) fn shorter(&self) -> Option<Self> {
        // `unit_file_find_dirs()`: one trailing dash is the mark of an earlier cut, so it is taken off first.
        let prefix = self.prefix();
        let stem = prefix
            .strip_suffix('-')
            .filter(|stem| !stem.is_empty())
            .unwrap_or(prefix);
        let dash = stem.rfind('-').filter(|dash| *dash > 0)?;
        let cut = stem.get(..=dash)?;
        let text = match self.instance() {
            Some(instance) => format!("{cut}@{instance}.{}", self.kind()),
            None => format!("{cut}.{}", self.kind()),
        };
        Self::parse(&text).ok()
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UnitId {
        UnitId::parse(text).unwrap()
    }

    #[test]
    fn takes_names_apart() {
        for (text, prefix, instance, template) in [
            ("a.service", "a", None, None),
            ("a@.service", "a", None, None),
            ("a@b.service", "a", Some("b"), Some("a@.service")),
            ("a@b@c.d.timer", "a", Some("b@c.d"), Some("a@.timer")),
            ("a.b.socket", "a.b", None, None),
        ] {
            let name = id(text);
            assert_eq!(name.prefix(), prefix, "{text}");
            assert_eq!(name.instance(), instance, "{text}");
            assert_eq!(
                name.template().map(|t| t.as_str().to_owned()),
                template.map(str::to_owned),
                "{text}"
            );
        }
        assert!(id("a@.service").is_template());
        assert!(!id("a.service").is_template());
        for bad in [
            "",
            "a",
            ".service",
            "@.service",
            "@a.service",
            "a.conf",
            "a/b.service",
            "a b.service",
            "ä.service",
        ] {
            assert!(UnitId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(UnitId::parse(&format!("{}.service", "a".repeat(248))).is_err());
    }

    #[test]
    fn shortens_at_dashes() {
        let chain = |text: &str| {
            std::iter::successors(id(text).shorter(), UnitId::shorter)
                .map(|n| n.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(chain("foo-bar-waldo.service"), ["foo-bar-.service", "foo-.service"]);
        assert_eq!(chain("foo-bar@i.service"), ["foo-@i.service"]);
        assert_eq!(chain("foo-bar@.service"), ["foo-.service"]);
        assert_eq!(chain("foo.service"), [""; 0]);
        assert_eq!(chain("-foo.service"), [""; 0]);
        assert_eq!(chain("-.slice"), [""; 0]);
    }
}
