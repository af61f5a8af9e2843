//! The newest sudo-rs, which no Debian release has: built once into the cache, by the ordinary cargo.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, host};

/// The newest version when these tests were written.
pub const VERSION: &str = "0.2.15";

/// Whether this host has what building it needs, besides cargo: the headers of PAM.
#[must_use]
pub fn can_be_built() -> bool {
    Path::new("/usr/include/security/pam_appl.h").exists()
}

/// Gives the directory with `sudo` and `visudo`, and builds them if they are not in the cache.
///
/// # Errors
/// When cargo can't fetch or build it: it needs the headers of PAM (`libpam0g-dev`).
pub fn ensure() -> Result<PathBuf> {
    let _lock = cache::lock("sudo-rs")?;
    let dir = cache::subdir("tools")?.join(format!("sudo-rs-{VERSION}"));
    let done = dir.join("complete");
    if !done.exists() {
        cache::remove_tree(&dir)?;
        let target = tempfile::tempdir().context("can't make a directory to build sudo-rs in")?;
        host::run(
            Command::new("cargo")
                .args(["install", "--quiet", "--locked", "--version", VERSION, "--root"])
                .arg(&dir)
                .arg("sudo-rs")
                .env("CARGO_TARGET_DIR", target.path()),
        )
        .context("can't build sudo-rs; is libpam0g-dev installed, and the registry reachable?")?;
        fs::write(&done, "").with_context(|| format!("can't write {}", done.display()))?;
    }
    Ok(dir.join("bin"))
}
