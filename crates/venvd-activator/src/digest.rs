//! The digest of a venv's manifest: what somebody said yes to, whatever its tag leads to later.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_core::Manifest;

/// BLAKE3, in hex, of all that decides what a venv is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct NoDigest;

impl Digest {
    /// Returns that of a venv; nothing where none is sealed.
    #[must_use]
    pub fn of(layout: &Layout, venv: &VenvPath) -> Option<Self> {
        let manifest = Manifest::load(&layout.on_disk(venv.path())).ok()?;
        manifest.digest().parse().ok()
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let text = text.as_bytes();
        let mut digest = [0; 32];
        if text.len() != 2 * digest.len() {
            return Err(NoDigest);
        }
        let digit = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let &[high, low] = pair else { return Err(NoDigest) };
            *byte = digit(high).ok_or(NoDigest)? << 4 | digit(low).ok_or(NoDigest)?;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, venv};

    #[test]
    fn digests_are_hex_and_nothing_else() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        assert_eq!(text.to_uppercase().parse::<Digest>().unwrap().to_string(), text);
        for bad in ["", "0a", &"x".repeat(64), &"é".repeat(32), &text[1..]] {
            assert_eq!(bad.parse::<Digest>(), Err(NoDigest), "{bad}");
        }
    }

    #[test]
    fn it_is_that_of_the_manifest() {
        let place = Place::new();
        let manifest = Manifest::load(&place.layout.on_disk(venv("1").path())).unwrap();
        let digest = Digest::of(&place.layout, &venv("1")).unwrap();
        assert_eq!(digest.to_string(), manifest.digest());
        assert_eq!(Digest::of(&place.layout, &venv("9")), None);
    }
}
