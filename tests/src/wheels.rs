//! The wheels of all committed locks, fetched once: machines have no network and install from here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{Os, cache, host, locks, tools::Tools};

/// Where machines show the wheels, by convention: `MachineBuilder::bind_ro(wheels, wheels::GUEST)`.
pub const GUEST: &str = "/srv/wheels";

const FETCH: &str = include_str!("fetch_wheels.py");

/// Gives a directory that has every wheel of every lock for a release, and fetches what is missing.
///
/// It is one directory for both releases, so it also has wheels that a release has no use for. They come from where
/// the host's pip is configured to fetch from, and each is checked against the lock's hashes.
///
/// # Errors
/// When pip can't fetch one, with what it said.
pub fn ensure(os: Os) -> Result<PathBuf> {
    let wheels = cache::subdir("wheels")?;
    let complete = wheels.join(format!(".complete-{os}-{}", locks_key()?));
    if complete.exists() {
        return Ok(wheels);
    }
    let _lock = cache::lock("wheels")?;
    if complete.exists() {
        return Ok(wheels);
    }
    let fetched = wheels.join(".fetching");
    cache::remove_tree(&fetched)?;
    cache::make_dir(&fetched)?;
    fetch(os, &wheels, &fetched).with_context(|| format!("can't fetch the wheels for {os}"))?;
    for entry in fs::read_dir(&fetched).with_context(|| format!("can't read {}", fetched.display()))? {
        let wheel = entry?.path();
        let Some(name) = wheel.file_name() else { continue };
        fs::rename(&wheel, wheels.join(name)).with_context(|| format!("can't move {}", wheel.display()))?;
    }
    cache::remove_tree(&fetched)?;
    fs::write(&complete, "").with_context(|| format!("can't write {}", complete.display()))?;
    Ok(wheels)
}

/// Changes when any lock does, or the way that wheels are picked.
fn locks_key() -> Result<String> {
    let mut parts = vec![FETCH.to_owned()];
    for name in locks::all() {
        let path = locks::path(name);
        parts.push(fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?);
    }
    Ok(cache::key(&parts.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn fetch(os: Os, known: &Path, target: &Path) -> Result<()> {
    let (major, minor) = os.glibc();
    let mut command = Command::new(Tools::ensure()?.python());
    command
        .args(["-c", FETCH, os.python(), &format!("{major}.{minor}")])
        .arg(known)
        .arg(target)
        .arg(locks::sdists()?.join(","))
        .args(locks::all().map(locks::path));
    host::run(&mut command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_that_of_the_locks() {
        assert_eq!(locks_key().unwrap(), locks_key().unwrap());
        assert_eq!(locks_key().unwrap().len(), 12);
    }
}
