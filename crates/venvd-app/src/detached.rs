//! Apps that run from their venv without venvd, by plain files: `venvctl detach`.

use std::fs;
use std::path::PathBuf;

use crate::Layout;
use crate::name::AppName;

/// Returns the file that says that an app is none of venvd's business for now.
#[must_use]
pub fn marker(layout: &Layout, app: &AppName) -> PathBuf {
    layout.links("detached").join(app.as_str())
}

/// Returns whether that is so.
#[must_use]
pub fn is_detached(layout: &Layout, app: &AppName) -> bool {
    fs::symlink_metadata(marker(layout, app)).is_ok()
}
