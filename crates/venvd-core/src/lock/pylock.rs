//! `pylock.toml`, see PEP 751. Of what it can say, only wheels and named source distributions are taken.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{LockError, Pinned, is_name, is_sha256, is_version, normalise, tidy_marker};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    #[serde(default)]
    wheels: Vec<File>,
    sdist: Option<File>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Pinned>, LockError> {
    let wrong = |reason: String| LockError::Pylock {
        path: path.to_owned(),
        reason,
    };
    let pylock: Pylock = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    if pylock.lock_version.split('.').next() != Some("1") {
        return Err(wrong(format!(
            "lock-version {:?} is not supported, 1.0 is",
            pylock.lock_version
        )));
    }
    pylock
        .packages
        .into_iter()
        .map(|package| pinned(package).map_err(wrong))
        .collect()
}

fn pinned(package: Package) -> Result<Pinned, String> {
    let Package {
        name,
        version,
        marker,
        wheels,
        sdist,
    } = package;
    if !is_name(&name) {
        return Err(format!("{name:?} is not the name of a distribution"));
    }
    let version = version.filter(|version| is_version(version)).ok_or_else(|| {
        format!("{name} has no exact version; sources from a directory or repository can't be sealed")
    })?;
    let marker = match marker {
        // PEP 751 has these two for choices that venvd does not offer.
        Some(marker) if marker.contains("extras") || marker.contains("dependency_groups") => {
            return Err(format!(
                "the marker of {name} depends on extras or groups; export the lock for one choice"
            ));
        }
        Some(marker) => Some(tidy_marker(&marker).ok_or_else(|| format!("{name} has a broken marker {marker:?}"))?),
        None => None,
    };
    if wheels.is_empty() && sdist.is_none() {
        return Err(format!("{name} has neither wheels nor an sdist"));
    }
    let mut hashes = std::collections::BTreeSet::new();
    for file in wheels.into_iter().chain(sdist) {
        match file.hashes.get("sha256").map(|hash| hash.to_ascii_lowercase()) {
            Some(hash) if is_sha256(&hash) => drop(hashes.insert(hash)),
            _ => return Err(format!("a file of {name} has no sha256")),
        }
    }
    Ok(Pinned {
        name: normalise(&name),
        version,
        marker,
        hashes,
    })
}
