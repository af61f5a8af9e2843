//! Apps that an administrator took out of venvd's hands: their units run from the venv by plain files, and nothing of
//! venvd touches units, policies or links of theirs until they are attached again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use venvd_app::{AppName, Layout, detached};
use venvd_fs::atomic;

use crate::error::Error;

/// What was left, by whom and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Who said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// The files and links, as paths of the host.
    #[serde(default)]
    pub files: Vec<PathBuf>,
}

/// Returns what was left of an app, if it is detached. Whatever the file says, it counts.
///
/// # Errors
/// When the file is there and can't be read.
pub fn read(layout: &Layout, app: &AppName) -> Result<Option<Detached>, Error> {
    let text = atomic::read(&detached::marker(layout, app))?;
    Ok(text.map(|text| toml::from_str(&String::from_utf8_lossy(&text)).unwrap_or_default()))
}

/// Takes an app out of venvd's hands.
///
/// # Errors
/// When the file can't be written.
pub fn write(layout: &Layout, app: &AppName, left: &Detached) -> Result<(), Error> {
    // Strings and numbers only: this can't fail, and an empty file counts as well.
    let text = toml::to_string(left).unwrap_or_default();
    atomic::write(&detached::marker(layout, app), text.as_bytes(), 0o644)?;
    Ok(())
}

/// Takes it back.
///
/// # Errors
/// When the file can't be removed.
pub fn remove(layout: &Layout, app: &AppName) -> Result<(), Error> {
    atomic::remove(&detached::marker(layout, app))?;
    Ok(())
}
