//! The few fields of a `METADATA` file that matter: "Core metadata specifications".

use std::fmt;
use std::path::Path;

use pep440_rs::Version;
use pep508_rs::Pep508Url;

use crate::lock::normalise;

/// What a distribution says of itself.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Normalised.
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) requires: Vec<Requirement>,
    pub(super) requires_python: Option<String>,
}

/// A line of `Requires-Dist`.
#[derive(Debug)]
pub(super) struct Requirement {
    pub(super) text: String,
    pub(super) parsed: pep508_rs::Requirement<Address>,
}

/// Where a requirement says that it comes from. It is not looked at, so anything may stand there.
#[derive(Debug)]
pub(super) struct Address(String);

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Pep508Url for Address {
    type Err = std::convert::Infallible;

    fn parse_url(url: &str, _: Option<&Path>) -> Result<Self, Self::Err> {
        Ok(Self(url.to_owned()))
    }
}

impl Metadata {
    /// Reads the header; the reason of a failure reads after the file's name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut name, mut version, mut requires_python) = (None, None, None);
        let mut requires = Vec::new();
        for (field, value) in fields(text) {
            match field.to_ascii_lowercase().as_str() {
                "name" => name = Some(normalise(&value)),
                "version" => version = Some(value),
                "requires-python" => requires_python = Some(value),
                "requires-dist" => requires.push(requirement(value)?),
                _ => {}
            }
        }
        let name = name.ok_or("has no Name")?;
        let version = version.ok_or("has no Version")?;
        let version = version
            .parse()
            .map_err(|_| format!("says Version: {version}, which is no version"))?;
        Ok(Self {
            name,
            version,
            requires,
            requires_python,
        })
    }
}

fn requirement(text: String) -> Result<Requirement, String> {
    match text.parse() {
        Ok(parsed) => Ok(Requirement { text, parsed }),
        Err(_) => Err(format!("says Requires-Dist: {text}, which can't be understood")),
    }
}

/// Returns the fields of the header, up to the first empty line; a line that begins with a blank goes on with the one
/// before it.
fn fields(text: &str) -> Vec<(&str, String)> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((field, value)) = line.split_once(':') {
            fields.push((field, value.trim().to_owned()));
        }
    }
    fields
}
