//! `RECORD` files, in which a distribution lists what it installed: made true again, and read for who owns what.
//!
//! See the packaging specification "Recording installed projects". Rows of what we left out go, hashes of scripts that
//! were rewritten are computed anew, and the order is by path, so that it does not depend on the installer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use venvd_fs::IoContext;

use crate::error::Error;
use crate::lock::normalise;
use crate::manifest::Distribution;

/// What is installed.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// The distributions, sorted.
    pub(crate) distributions: Vec<Distribution>,
    /// The owner of each file, by its path relative to the tree.
    pub(crate) owners: BTreeMap<PathBuf, String>,
    /// The oldest glibc that all wheels say they run with.
    pub(crate) glibc: Option<(u32, u32)>,
}

/// Corrects every `RECORD` below `site` (relative to the tree) and returns what is installed.
pub(crate) fn update(tree: &Path, site: &Path, changed: &BTreeSet<PathBuf>) -> Result<Installed, Error> {
    let mut installed = Installed::default();
    let directory = tree.join(site);
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let path = entry.at("list", &directory)?.path();
        if path.extension().is_some_and(|extension| extension == "dist-info") {
            let distribution = metadata(&path)?;
            let name = distribution.name.clone();
            for file in update_one(tree, site, &path.join("RECORD"), changed)? {
                installed.owners.insert(file, name.clone());
            }
            installed.glibc = installed.glibc.max(glibc_of(&path)?);
            installed.distributions.push(distribution);
        }
    }
    installed.distributions.sort();
    Ok(installed)
}

/// Corrects one `RECORD`; returns the files it lists, relative to the tree.
fn update_one(tree: &Path, site: &Path, record: &Path, changed: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, Error> {
    let invalid = |reason: String| Error::Relocation {
        path: record.strip_prefix(tree).unwrap_or(record).to_owned(),
        reason,
    };
    let text = fs::read(record).at("read", record)?;
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_slice());
    let mut rows = BTreeMap::new();
    let mut files = Vec::new();
    for row in reader.into_records() {
        let row = row.map_err(|error| invalid(format!("is no table: {error}")))?;
        let name = row.get(0).unwrap_or_default().to_owned();
        let file =
            inside(site, &name).ok_or_else(|| invalid(format!("lists {name:?}, which is outside of the venv")))?;
        let on_disk = tree.join(&file);
        if !on_disk.is_file() {
            continue;
        }
        let hash = if changed.contains(&file) {
            let content = fs::read(&on_disk).at("read", &on_disk)?;
            (record_hash(&content), content.len().to_string())
        } else {
            (
                row.get(1).unwrap_or_default().to_owned(),
                row.get(2).unwrap_or_default().to_owned(),
            )
        };
        rows.insert(name, hash);
        files.push(file);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (name, (hash, size)) in rows {
        writer
            .write_record([name, hash, size])
            .map_err(|error| invalid(error.to_string()))?;
    }
    let corrected = writer.into_inner().map_err(|error| invalid(error.to_string()))?;
    // In staging nothing reads it before the final rename: no need to write it atomically.
    fs::write(record, &corrected).at("write", record)?;
    Ok(files)
}

/// Returns where a row's path leads, relative to the tree; none when outside of it.
fn inside(site: &Path, row: &str) -> Option<PathBuf> {
    let mut path = site.to_owned();
    for component in Path::new(row).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Returns a content's hash as RECORD has it: urlsafe base64 without padding.
fn record_hash(content: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::from("sha256=");
    for chunk in Sha256::digest(content).chunks(3) {
        let bytes = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        for position in 0..=chunk.len() {
            let index = bytes >> (18 - 6 * position) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

fn metadata(dist_info: &Path) -> Result<Distribution, Error> {
    let path = dist_info.join("METADATA");
    let text = fs::read(&path).at("read", &path)?;
    let text = String::from_utf8_lossy(&text);
    // Headers as those of a mail; the description follows after the first empty line.
    let field = |name: &str| {
        let lines = text.lines().take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    match (field("Name"), field("Version")) {
        (Some(name), Some(version)) => Ok(Distribution {
            name: normalise(name),
            version: version.to_owned(),
        }),
        _ => Err(Error::Relocation {
            path,
            reason: "has no name or no version".to_owned(),
        }),
    }
}

/// Returns the glibc that a wheel needs by its tags: of several, the least. None for pure Python.
fn glibc_of(dist_info: &Path) -> Result<Option<(u32, u32)>, Error> {
    let path = dist_info.join("WHEEL");
    match fs::read(&path) {
        Ok(text) => Ok(glibc_of_tags(&String::from_utf8_lossy(&text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at("read", &path).map_err(Error::Io),
    }
}

fn glibc_of_tags(wheel: &str) -> Option<(u32, u32)> {
    let tags = wheel.lines().filter_map(|line| line.strip_prefix("Tag:"));
    let platforms = tags.filter_map(|tag| tag.trim().rsplit('-').next());
    platforms.filter_map(glibc_of_platform).min()
}

/// Returns the glibc that a wheel's platform tag asks for: PEP 600, and the names from before it.
pub(crate) fn glibc_of_platform(platform: &str) -> Option<(u32, u32)> {
    let rest = platform.strip_prefix("manylinux")?;
    let old = [("1_", (2, 5)), ("2010_", (2, 12)), ("2014_", (2, 17))];
    if let Some((_, version)) = old.iter().find(|(prefix, _)| rest.starts_with(prefix)) {
        return Some(*version);
    }
    let mut numbers = rest.strip_prefix('_')?.split('_');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        // base64.urlsafe_b64encode(hashlib.sha256(b'').digest()).rstrip(b'=')
        assert_eq!(record_hash(b""), "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn glibc_is_the_least_that_a_wheel_needs() {
        let tags = |tags: &str| glibc_of_tags(&tags.replace('|', "\nTag: "));
        assert_eq!(
            tags("Wheel-Version: 1.0|cp311-cp311-manylinux_2_17_x86_64|cp311-cp311-manylinux2014_x86_64"),
            Some((2, 17))
        );
        assert_eq!(
            tags("|cp39-abi3-manylinux_2_34_x86_64|cp39-abi3-manylinux_2_28_x86_64"),
            Some((2, 28))
        );
        assert_eq!(tags("|py3-none-any"), None);
    }

    #[test]
    fn records_are_made_true() {
        let tree = tempfile::tempdir().unwrap();
        let site = Path::new("lib/python3.11/site-packages");
        let info = tree.path().join(site).join("nova_x-1.dist-info");
        fs::create_dir_all(&info).unwrap();
        fs::create_dir(tree.path().join("bin")).unwrap();
        fs::write(tree.path().join("bin/nova"), "").unwrap();
        fs::write(tree.path().join(site).join("a,b.py"), "").unwrap();
        fs::write(
            info.join("METADATA"),
            "Metadata-Version: 2.1\nName: Nova_X\nVersion: 1\n\nName: no\n",
        )
        .unwrap();
        let rows = "nova_x-1.dist-info/RECORD,,\nnova_x-1.dist-info/INSTALLER,sha256=x,4\n../../../bin/nova,sha256=old,9\n\
                    \"a,b.py\",sha256=same,0\n__pycache__/a.pyc,,\n";
        fs::write(info.join("RECORD"), rows).unwrap();
        let installed = update(tree.path(), site, &[PathBuf::from("bin/nova")].into()).unwrap();
        assert_eq!(
            fs::read_to_string(info.join("RECORD")).unwrap(),
            "../../../bin/nova,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n\"a,b.py\",sha256=same,0\n\
             nova_x-1.dist-info/RECORD,,\n"
        );
        assert_eq!(
            installed.distributions,
            [Distribution {
                name: "nova-x".into(),
                version: "1".into()
            }]
        );
        assert_eq!(installed.owners[Path::new("bin/nova")], "nova-x");
        for row in ["../../../../etc/passwd,,", "/etc/passwd,,"] {
            fs::write(info.join("RECORD"), row).unwrap();
            assert_eq!(
                update(tree.path(), site, &BTreeSet::new()).unwrap_err().code(),
                "relocation",
                "{row}"
            );
        }
    }
}
