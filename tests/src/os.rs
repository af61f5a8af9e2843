//! The Debian releases that machines can run.

use std::{fmt, str::FromStr};

use anyhow::bail;

/// A Debian release that venvd supports and is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Os {
    /// bookworm: systemd 252, sudo 1.9.13, Python 3.11
    Debian12,
    /// trixie: systemd 257, sudo 1.9.16 and sudo-rs, Python 3.13
    Debian13,
}

impl Os {
    /// All of them, oldest first.
    pub const ALL: [Self; 2] = [Self::Debian12, Self::Debian13];

    /// The code name, which is the suite on a mirror.
    #[must_use]
    pub fn suite(self) -> &'static str {
        match self {
            Self::Debian12 => "bookworm",
            Self::Debian13 => "trixie",
        }
    }

    /// The minor version of its `/usr/bin/python3`, such as `3.11`.
    #[must_use]
    pub fn python(self) -> &'static str {
        match self {
            Self::Debian12 => "3.11",
            Self::Debian13 => "3.13",
        }
    }

    /// The newest glibc that a wheel may ask for, as (major, minor).
    #[must_use]
    pub fn glibc(self) -> (u32, u32) {
        match self {
            Self::Debian12 => (2, 36),
            Self::Debian13 => (2, 41),
        }
    }
}

impl fmt::Display for Os {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Debian12 => "debian12",
            Self::Debian13 => "debian13",
        })
    }
}

impl FromStr for Os {
    type Err = anyhow::Error;

    /// Takes `12`, `debian12` or `bookworm`, and the same for 13: what `DEMO_OS=` may say.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        for os in Self::ALL {
            let name = os.to_string();
            if text == name || text == os.suite() || name.strip_prefix("debian") == Some(text) {
                return Ok(os);
            }
        }
        bail!("`{text}` is no release that machines can run: 12 or 13")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_release_is_understood() {
        for (text, os) in [
            ("12", Os::Debian12),
            ("debian12", Os::Debian12),
            ("bookworm", Os::Debian12),
            ("13", Os::Debian13),
            ("debian13", Os::Debian13),
            ("trixie", Os::Debian13),
        ] {
            assert_eq!(text.parse::<Os>().unwrap(), os, "{text}");
        }
        for text in ["", "11", "debian", "sid"] {
            let error = text.parse::<Os>().unwrap_err().to_string();
            assert!(error.contains("12 or 13"), "{text}: {error}");
        }
    }
}
