//! A private virtual environment with the Python tools of these tests: pip, `packaging` and uv.
//!
//! The host's own Python may refuse to install into itself (PEP 668), and its pip and uv may be of any version or
//! missing; so the versions are fixed here, and fetched by the host's ordinary pip configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, host};

/// The tools and their versions. uv also goes into the roots.
const REQUIREMENTS: [&str; 2] = ["uv==0.13.9", "packaging==26.3"];

/// The environment of the tools.
#[derive(Clone, Debug)]
pub struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Gives the environment, and makes it if it is not in the cache.
    ///
    /// # Errors
    /// When Python can't make one (`python3-venv` is missing) or pip can't fetch the tools.
    pub fn ensure() -> Result<Self> {
        let _lock = cache::lock("tools")?;
        let dir = cache::subdir("tools")?.join(cache::key(&REQUIREMENTS));
        let done = dir.join("complete");
        if !done.exists() {
            // A venv can't be moved, so this one is made in place, and the marker says that it is whole.
            cache::remove_tree(&dir)?;
            make(&dir)?;
            fs::write(&done, "").with_context(|| format!("can't write {}", done.display()))?;
        }
        Ok(Self { dir })
    }

    /// Its Python, with pip and `packaging`.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.dir.join("bin/python")
    }

    /// The uv program: one file, which also runs elsewhere.
    #[must_use]
    pub fn uv(&self) -> PathBuf {
        self.dir.join("bin/uv")
    }

    /// What the version of uv is pinned to, as a requirement.
    #[must_use]
    pub fn uv_requirement() -> &'static str {
        REQUIREMENTS[0]
    }
}

fn make(dir: &Path) -> Result<()> {
    host::run(Command::new("python3").args(["-m", "venv"]).arg(dir))
        .context("can't make a virtual environment for the tools; is the package python3-venv installed?")?;
    host::run(
        Command::new(dir.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:"])
            .args(REQUIREMENTS),
    )
    .context("can't fetch the tools with pip; is the package index reachable?")?;
    Ok(())
}
