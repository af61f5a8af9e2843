//! Wheels and source distributions in local directories, found by their hashes alone: a name or a place proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use venvd_fs::IoContext;

use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::lock::{Pinned, normalise};
use crate::record::glibc_of_platform;

/// The endings of wheels' names.
pub(super) const WHEEL: [&str; 1] = [".whl"];

/// The files of one kind in some directories that may be of use.
#[derive(Debug)]
pub(super) struct LocalFiles<'a> {
    places: &'a [PathBuf],
    endings: &'static [&'static str],
    by_hash: BTreeMap<String, PathBuf>,
}

impl<'a> LocalFiles<'a> {
    /// Hashes the files in `places` that have a name and an ending that is looked for.
    pub(super) fn look(
        places: &'a [PathBuf],
        wanted: &[&Pinned],
        endings: &'static [&'static str],
    ) -> Result<Self, Error> {
        let hashed: Vec<(String, PathBuf)> = candidates(places, wanted, endings)?
            .into_par_iter()
            .map(|path| Ok((sha256(&path)?, path)))
            .collect::<Result<_, venvd_fs::Error>>()?;
        Ok(Self {
            places,
            endings,
            by_hash: hashed.into_iter().collect(),
        })
    }

    /// Copies every wheel that the lock admits; the installer chooses.
    ///
    /// # Errors
    /// When one that is needed anyhow has none.
    pub(super) fn take_all(&self, wanted: &[&Pinned], to: &Path) -> Result<(), Error> {
        let mut missing = self.take_any(wanted, to)?;
        // What a marker excludes here need not be there; the installer knows.
        missing.retain(|pinned| pinned.marker.is_none());
        if missing.is_empty() {
            Ok(())
        } else {
            Err(self.missing(&missing))
        }
    }

    /// Copies every file that the lock admits, and returns what none was found for.
    pub(super) fn take_any<'lock>(&self, wanted: &[&'lock Pinned], to: &Path) -> Result<Vec<&'lock Pinned>, Error> {
        let mut rest = Vec::new();
        for pinned in wanted {
            let found = self.admitted(pinned);
            if found.is_empty() {
                rest.push(*pinned);
            }
            for (hash, path) in found {
                copy_verified(path, to, hash)?;
            }
        }
        Ok(rest)
    }

    /// Returns the error for what is in none of the places.
    pub(super) fn missing(&self, missing: &[&Pinned]) -> Error {
        let missing = missing
            .iter()
            .map(|pinned| format!("{}=={}", pinned.name, pinned.version))
            .collect();
        let what = if self.endings == WHEEL {
            "wheel"
        } else {
            "source distribution"
        };
        let mut places: Vec<String> = self.places.iter().map(|place| place.display().to_string()).collect();
        if places.is_empty() {
            places.push("[build.index] find-links or --find-links, which name no directory,".to_owned());
        }
        Error::MissingWheels { what, places, missing }
    }

    /// Copies the wheels that run with this Python for certain, and returns what is still to be had.
    pub(super) fn take_fitting<'lock>(
        &self,
        interpreter: &Interpreter,
        wanted: &[&'lock Pinned],
        wheels: &Path,
    ) -> Result<Vec<&'lock Pinned>, Error> {
        let mut rest = Vec::new();
        for pinned in wanted.iter().copied() {
            let mut found = self.admitted(pinned);
            found.retain(|(_, path)| {
                path.file_name()
                    .is_some_and(|name| fits(&name.to_string_lossy(), interpreter))
            });
            if found.is_empty() {
                rest.push(pinned);
            }
            for (hash, path) in found {
                copy_verified(path, wheels, hash)?;
            }
        }
        Ok(rest)
    }

    fn admitted(&self, pinned: &Pinned) -> Vec<(&String, &PathBuf)> {
        pinned
            .hashes
            .iter()
            .filter_map(|hash| self.by_hash.get_key_value(hash))
            .collect()
    }
}

/// Returns whether a wheel runs with an interpreter, by the tags in its name (PEP 425). A doubt means no.
fn fits(file_name: &str, interpreter: &Interpreter) -> bool {
    let mut parts = file_name.trim_end_matches(".whl").rsplit('-');
    let (Some(platforms), Some(abis), Some(pythons)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some(minor) = interpreter
        .minor
        .strip_prefix("3.")
        .and_then(|minor| minor.parse::<u32>().ok())
    else {
        return false;
    };
    let libc = interpreter.libc.strip_prefix("glibc ").and_then(|version| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let number = |tag: &str, prefix: &str| tag.strip_prefix(prefix)?.parse::<u32>().ok();
    let exact = format!("cp3{minor}");
    let abi_any = |wanted: &str| abis.split('.').any(|abi| abi == wanted);
    let python_fits = pythons.split('.').any(|tag| {
        (tag == "py3" || number(tag, "py3").is_some_and(|oldest| oldest <= minor)) && abi_any("none")
            || tag == exact && (abi_any(&exact) || abi_any("none") || abi_any("abi3"))
            || number(tag, "cp3").is_some_and(|oldest| oldest <= minor) && abi_any("abi3")
    });
    let platform_fits = platforms.split('.').any(|platform| {
        let ours = platform.ends_with(&interpreter.arch);
        let old_enough = || {
            glibc_of_platform(platform)
                .zip(libc)
                .is_some_and(|(needed, libc)| needed <= libc)
        };
        platform == "any" || ours && (platform.starts_with("linux_") || old_enough())
    });
    interpreter.implementation == "cpython" && python_fits && platform_fits
}

fn candidates(places: &[PathBuf], wanted: &[&Pinned], endings: &[&str]) -> Result<Vec<PathBuf>, venvd_fs::Error> {
    let names: BTreeSet<&str> = wanted.iter().map(|pinned| pinned.name.as_str()).collect();
    let mut candidates = Vec::new();
    for place in places {
        for entry in fs::read_dir(place).at("list", place)? {
            let path = entry.at("list", place)?.path();
            let file_name = path.file_name().unwrap_or_default().to_string_lossy();
            // Old source distributions have dashes in their names' first part, too.
            let named = file_name
                .match_indices('-')
                .any(|(at, _)| names.contains(normalise(file_name.split_at(at).0).as_str()));
            if named && endings.iter().any(|ending| file_name.ends_with(ending)) {
                candidates.push(path);
            }
        }
    }
    Ok(candidates)
}

/// Copies a wheel, and believes the copy only by its own hash.
fn copy_verified(path: &Path, wheels: &Path, expected: &str) -> Result<(), Error> {
    let target = wheels.join(path.file_name().unwrap_or_default());
    if target.exists() {
        return Ok(());
    }
    let mut file = File::create_new(&target).at("create", &target)?;
    // The installer, who is not us, must read it whatever the umask is.
    file.set_permissions(Permissions::from_mode(0o644))
        .at("set the mode of", &target)?;
    let hash = hash_while(path, &mut |chunk| file.write_all(chunk).at("write", &target))?;
    if hash == expected {
        return Ok(());
    }
    Err(io::Error::other("it changed while it was read"))
        .at("copy", path)
        .map_err(Error::Io)
}

/// Checks that a file has one of the hashes that the lock admits for it.
pub(super) fn verify(path: &Path, pinned: &Pinned) -> Result<(), Error> {
    if pinned.hashes.contains(&sha256(path)?) {
        return Ok(());
    }
    let reason = format!(
        "it has none of the lock's hashes for {}=={}",
        pinned.name, pinned.version
    );
    Err(io::Error::other(reason)).at("believe", path).map_err(Error::Io)
}

/// Checks that each of some files has a hash that the lock admits for something.
pub(super) fn verify_all(paths: &[PathBuf], wanted: &[&Pinned]) -> Result<(), Error> {
    let admitted: BTreeSet<&String> = wanted.iter().flat_map(|pinned| &pinned.hashes).collect();
    paths.par_iter().try_for_each(|path| {
        if admitted.contains(&sha256(path)?) {
            return Ok(());
        }
        Err(io::Error::other("it has none of the lock's hashes")).at("believe", path)
    })?;
    Ok(())
}

/// Returns the sha256 of a file, in hex.
pub(super) fn sha256(path: &Path) -> Result<String, venvd_fs::Error> {
    hash_while(path, &mut |_| Ok(()))
}

fn hash_while(
    path: &Path,
    with: &mut dyn FnMut(&[u8]) -> Result<(), venvd_fs::Error>,
) -> Result<String, venvd_fs::Error> {
    let mut file = File::open(path).at("open", path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut chunk).at("read", path)?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
            break;
        };
        hasher.update(read);
        with(read)?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_for_certain_fits() {
        let interpreter: Interpreter = serde_json::from_str(
            r#"{"version":"3.11.2","minor":"3.11","implementation":"cpython","cache_tag":"","soabi":"","magic":"",
            "platform":"linux-x86_64","arch":"x86_64","libc":"glibc 2.36","stdlib":"/"}"#,
        )
        .unwrap();
        for (tags, expected) in [
            ("py3-none-any", true),
            ("py2.py3-none-any", true),
            ("py39-none-any", true),
            ("py312-none-any", false),
            ("py2-none-any", false),
            ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", true),
            ("cp311-cp311-manylinux2014_x86_64", true),
            ("cp311-cp311-linux_x86_64", true),
            ("cp311-cp311-manylinux_2_38_x86_64", false),
            ("cp311-cp311-musllinux_1_2_x86_64", false),
            ("cp311-cp311-manylinux_2_17_aarch64", false),
            ("cp313-cp313-manylinux_2_17_x86_64", false),
            ("cp311-cp311t-manylinux_2_17_x86_64", false),
            ("cp39-abi3-manylinux_2_28_x86_64", true),
            ("cp312-abi3-manylinux_2_28_x86_64", false),
            ("cp310-cp310-manylinux_2_17_x86_64", false),
            ("py3-none-manylinux_2_17_x86_64", true),
            ("py3-none-win_amd64", false),
        ] {
            assert_eq!(
                fits(&format!("nova_x-1.0-{tags}.whl"), &interpreter),
                expected,
                "{tags}"
            );
        }
        assert!(!fits("nova.whl", &interpreter));
    }
}
