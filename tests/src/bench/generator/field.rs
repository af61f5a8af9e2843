//! Where the generator is measured: a directory on a tmpfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use super::Say;
use super::host::Host;
use super::quadlet::Quadlet;
use crate::cache;

/// A tmpfs that every Linux host has.
const TMPFS: &str = "/dev/shm";

/// How the directories begin that measurements are made in.
const PREFIX: &str = "venvd-bench-";

/// The directory, and the programs that are measured.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) generator: PathBuf,
    pub(super) quadlet: Quadlet,
    directory: TempDir,
    _lock: fs::File,
}

impl Field {
    /// Fetches quadlet if it is not in the cache.
    pub(super) fn ensure(generator: &Path, say: Say<'_>) -> Result<Self> {
        // Two that measure at once would measure each other.
        let lock = cache::lock("bench")?;
        sweep()?;
        say("quadlet");
        let quadlet = Quadlet::ensure()?;
        let kind = statfs(TMPFS).with_context(|| format!("can't look at {TMPFS}"))?;
        ensure!(kind.filesystem_type() == TMPFS_MAGIC, "{TMPFS} is no tmpfs");
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(TMPFS)
            .context("can't make a directory")?;
        // Beside the programs that it is compared with.
        let copy = directory.path().join("venvd-generator");
        fs::copy(generator, &copy).with_context(|| format!("can't copy {}", generator.display()))?;
        Ok(Self {
            generator: copy,
            quadlet,
            directory,
            _lock: lock,
        })
    }

    /// Makes a host with this many units.
    pub(super) fn host(&self, units: usize) -> Result<Host<'_>> {
        Host::new(self, &self.directory.path().join(format!("{units}")), units)
    }
}

/// Removes what a measurement left in memory that was killed; the lock is held.
fn sweep() -> Result<()> {
    for entry in fs::read_dir(TMPFS).with_context(|| format!("can't read {TMPFS}"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            cache::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
