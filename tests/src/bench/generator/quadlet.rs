//! Quadlet, podman's generator, from Debian 13: unpacked with the libraries it needs, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{Os, cache, roots};

/// An unpacked podman.
#[derive(Debug)]
pub(super) struct Quadlet {
    root: PathBuf,
    loader: PathBuf,
}

impl Quadlet {
    /// Unpacks it in the cache if it is not there yet.
    pub(super) fn ensure() -> Result<Self> {
        let _lock = cache::lock("podman")?;
        let root = cache::subdir("tools")?.join(format!("podman-{}", Os::Debian13));
        if !root.exists() {
            let building = root.with_extension("building");
            cache::remove_tree(&building)?;
            roots::unpack(Os::Debian13, "podman", &building).context("can't fetch podman")?;
            fs::rename(&building, &root).with_context(|| format!("can't rename to {}", root.display()))?;
        }
        let loader = loader(&root.join("usr/lib64"))?;
        Ok(Self { root, loader })
    }

    /// Returns the command that reads `input` and writes below `output`. By the loader of that Debian, so that no change of
    /// root is in the figure.
    pub(super) fn command(&self, input: &Path, output: &Path) -> Command {
        let mut command = Command::new(&self.loader);
        command
            .arg("--library-path")
            .arg(self.loader.parent().unwrap_or(Path::new("/")))
            .arg(self.root.join("usr/libexec/podman/quadlet"))
            .arg("-no-kmsg-log")
            .arg(output)
            .env("QUADLET_UNIT_DIRS", input);
        command
    }
}

/// Finds the dynamic loader, which lies with the C library.
fn loader(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("ld-linux") {
            return fs::canonicalize(entry.path()).context("can't resolve the dynamic loader");
        }
    }
    bail!("there is no dynamic loader in {}", directory.display())
}
