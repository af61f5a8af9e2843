//! pipx, to be compared with.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::Tools;
use crate::{cache, host};

/// The version of it.
const PIPX: &str = "pipx==1.18.4";

/// Gives a directory with its modules, and makes it if it is not in the cache.
pub(super) fn ensure() -> Result<PathBuf> {
    let python = Tools::ensure()?.python();
    let _lock = cache::lock("pipx")?;
    let directory = cache::subdir("tools")?.join(cache::key(&[PIPX]));
    let done = directory.join("complete");
    if !done.exists() {
        cache::remove_tree(&directory)?;
        host::run(
            Command::new(python)
                .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target"])
                .arg(&directory)
                .arg(PIPX),
        )
        .context("can't fetch pipx with pip")?;
        fs::write(&done, "").with_context(|| format!("can't write {}", done.display()))?;
    }
    Ok(directory)
}

/// Where uv, which does pipx's work, has its wheels from.
pub(super) const UV_CONFIGURATION: &str = "no-index = true\nfind-links = [\"/srv/wheels\"]\n";

/// What it runs with in a machine, where that directory is `guest`: with a home of its own.
pub(super) fn environment(guest: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("PYTHONPATH".to_owned(), guest.to_owned()),
        ("PIPX_HOME".to_owned(), "/tmp/pipx".to_owned()),
        ("UV_CACHE_DIR".to_owned(), "/tmp/uv".to_owned()),
    ])
}
