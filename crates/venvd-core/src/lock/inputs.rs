//! What a lock was made from, kept in its first lines, so that the same wish finds the lock that was made for it.

use std::path::Path;

use venvd_app::{App, Layout};
use venvd_fs::IoContext;

use crate::interpreter::Interpreter;

const DIGEST_LINE: &str = "# Inputs: blake3:";
const PACKAGES_LINE: &str = "# Made by venvd from: ";

/// What a lock is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inputs {
    /// The packages, as declared.
    pub(crate) packages: Vec<String>,
    /// The text of each constraints file.
    pub(crate) constraints: Vec<String>,
    digest: String,
}

impl Inputs {
    /// Reads what the definition of an app names.
    pub(crate) fn read(layout: &Layout, app: &App, interpreter: &Interpreter) -> Result<Self, venvd_fs::Error> {
        let packages: Vec<String> = app.build.packages.iter().map(|package| package.to_string()).collect();
        let read = |path: &Path| std::fs::read_to_string(layout.on_disk(path)).at("read the constraints", path);
        let constraints: Vec<String> = app
            .build
            .constraints
            .iter()
            .map(|path| read(path))
            .collect::<Result<_, _>>()?;
        let mut hasher = blake3::Hasher::new();
        let Interpreter { minor, platform, .. } = interpreter;
        let sdists: Vec<&str> = app.build.sdists.iter().map(|name| name.as_str()).collect();
        let parts = [
            packages.len().to_string(),
            constraints.len().to_string(),
            sdists.join(" "),
        ];
        for part in parts
            .iter()
            .chain(&packages)
            .chain(&constraints)
            .chain([minor, platform])
        {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part.as_bytes());
        }
        let digest = hasher.finalize().to_hex().to_string();
        Ok(Self {
            packages,
            constraints,
            digest,
        })
    }

    /// Returns the first lines of a lock that is made from this.
    pub(crate) fn header(&self) -> String {
        format!(
            "{PACKAGES_LINE}{}\n{DIGEST_LINE}{}\n",
            self.packages.join(", "),
            self.digest
        )
    }

    /// Returns whether a lock was made from this.
    pub(crate) fn made(&self, text: &str) -> bool {
        line(text, DIGEST_LINE) == Some(&self.digest)
    }

    /// Returns how a lock's own inputs differ from these, for people.
    pub(crate) fn differences(&self, text: &str) -> Vec<String> {
        let now = self.packages.join(", ");
        match line(text, PACKAGES_LINE) {
            None => vec!["it was built from a lock that was given, not from packages".to_owned()],
            Some(before) if before != now => vec![format!("it was made for `{before}`, now it would be `{now}`")],
            Some(_) => vec!["the constraints, [build] sdists, the python or the platform changed".to_owned()],
        }
    }
}

fn line<'text>(text: &'text str, prefix: &str) -> Option<&'text str> {
    text.lines()
        .take_while(|line| line.starts_with('#'))
        .find_map(|line| line.strip_prefix(prefix))
}
