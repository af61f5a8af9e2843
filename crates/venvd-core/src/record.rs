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
    /// The `RECORD`s that have hashes of scripts which name the venv's place, relative to the tree.
    pub(crate) placed: BTreeSet<PathBuf>,
    /// Files that several distributions installed with other content each.
    pub(crate) contested: Vec<Contest>,
    /// The oldest glibc that all wheels say they run with.
    pub(crate) glibc: Option<(u32, u32)>,
}

/// A file that several distributions installed with other content each: which of them is there is decided by the order
/// of the install, so by nothing that a lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contest {
    /// The file, relative to the tree.
    pub(crate) path: PathBuf,
    /// Those that installed it; the last, by name, is to have it.
    pub(crate) distributions: Vec<String>,
    /// The hash that the last one recorded.
    pub(crate) hash: String,
}

/// A row of a `RECORD`.
struct Row {
    /// As it stands there, relative to the directory of packages.
    name: String,
    /// Relative to the tree.
    file: PathBuf,
    hash: String,
    size: String,
}

/// Corrects every `RECORD` below `site` (relative to the tree) and returns what is installed.
///
/// `placed` are the scripts that were written anew.
pub(crate) fn update(tree: &Path, site: &Path, placed: &BTreeSet<PathBuf>) -> Result<Installed, Error> {
    let mut installed = Installed::default();
    let mut contests: BTreeMap<PathBuf, Contest> = BTreeMap::new();
    let mut hashes: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (info, distribution) in distributions(&tree.join(site))? {
        let record = info.join("RECORD");
        let relative = record.strip_prefix(tree).unwrap_or(&record).to_owned();
        let content = fs::read(&record).at("read", &record)?;
        let mut rows = rows(&relative, site, &content)?;
        rows.retain(|row| tree.join(&row.file).is_file());
        for row in &rows {
            let before = hashes.insert(row.file.clone(), row.hash.clone());
            let owner = installed.owners.insert(row.file.clone(), distribution.name.clone());
            if let (Some(owner), true) = (owner, before.is_some_and(|before| before != row.hash)) {
                let contest = contests.entry(row.file.clone()).or_insert_with(|| Contest {
                    path: row.file.clone(),
                    distributions: vec![owner],
                    hash: String::new(),
                });
                contest.distributions.push(distribution.name.clone());
                contest.hash.clone_from(&row.hash);
            }
        }
        let mut names_place = false;
        for row in rows.iter_mut().filter(|row| placed.contains(&row.file)) {
            let path = tree.join(&row.file);
            row.set(&fs::read(&path).at("read", &path)?);
            names_place = true;
        }
        // In staging nothing reads it before the final rename: no need to write it atomically.
        fs::write(&record, table(&relative, rows)?).at("write", &record)?;
        if names_place {
            installed.placed.insert(relative);
        }
        installed.glibc = installed.glibc.max(glibc_of(&info)?);
        installed.distributions.push(distribution);
    }
    installed.contested = contests.into_values().collect();
    Ok(installed)
}

/// Returns a `RECORD`, at `path` relative to a venv, with the hashes of files whose content is another now.
pub(crate) fn rewrite(path: &str, record: &[u8], contents: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Error> {
    let path = Path::new(path);
    let site = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let mut rows = rows(path, site, record)?;
    for row in &mut rows {
        if let Some(content) = row.file.to_str().and_then(|file| contents.get(file)) {
            row.set(content);
        }
    }
    table(path, rows)
}

/// Returns the metadata directories on disk and what they say, sorted by name, so that every run goes the same way.
fn distributions(site: &Path) -> Result<Vec<(PathBuf, Distribution)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(site).at("list", site)? {
        let path = entry.at("list", site)?.path();
        if path.extension().is_some_and(|extension| extension == "dist-info") {
            let distribution = metadata(&path)?;
            found.push((path, distribution));
        }
    }
    found.sort_by(|(_, one), (_, other)| one.cmp(other));
    Ok(found)
}

/// Reads the `RECORD` at `path`, relative to the tree, where the packages are in `site`.
fn rows(path: &Path, site: &Path, content: &[u8]) -> Result<Vec<Row>, Error> {
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(content);
    let mut rows = Vec::new();
    for row in reader.into_records() {
        let row = row.map_err(|error| invalid(path, format!("is no table: {error}")))?;
        let field = |index: usize| row.get(index).unwrap_or_default().to_owned();
        let name = field(0);
        let file = inside(site, &name)
            .ok_or_else(|| invalid(path, format!("lists {name:?}, which is outside of the venv")))?;
        rows.push(Row {
            name,
            file,
            hash: field(1),
            size: field(2),
        });
    }
    Ok(rows)
}

/// Returns the text of a `RECORD`, sorted.
fn table(path: &Path, mut rows: Vec<Row>) -> Result<Vec<u8>, Error> {
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows.dedup_by(|one, other| one.name == other.name);
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer
            .write_record([row.name, row.hash, row.size])
            .map_err(|error| invalid(path, error.to_string()))?;
    }
    writer.into_inner().map_err(|error| invalid(path, error.to_string()))
}

impl Row {
    fn set(&mut self, content: &[u8]) {
        self.hash = record_hash(content);
        self.size = content.len().to_string();
    }
}

fn invalid(path: &Path, reason: String) -> Error {
    Error::Relocation {
        path: path.to_owned(),
        reason,
    }
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
        assert_eq!(installed.placed, [site.join("nova_x-1.dist-info/RECORD")].into());
        let contents = BTreeMap::from([("bin/nova".to_owned(), b"x".to_vec())]);
        let moved = rewrite(
            "lib/python3.11/site-packages/nova_x-1.dist-info/RECORD",
            rows.as_bytes(),
            &contents,
        )
        .unwrap();
        let moved = String::from_utf8(moved).unwrap();
        assert!(
            moved.contains("../../../bin/nova,sha256=LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE,1\n"),
            "{moved}"
        );
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
