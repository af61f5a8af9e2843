//! Distributions that are built from source, because the definition names them in `[build] sdists`.
//!
//! Their files come like wheels: by a step that runs none of their code, and root believes them by their hashes alone.
//! What a build backend then does, it does without network, as nobody, with nothing but the lock's own wheels to build
//! with; the wheel that comes out is installed like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use venvd_fs::beneath::{Choice, Kind};
use venvd_fs::{IoContext, atomic};

use super::confine::{INSIDE, Job, Left};
use super::fetch::local_places;
use super::local::{self, LocalFiles};
use super::{Amount, Bench, Stage, Unit};
use crate::error::{Error, Step};
use crate::lock::{Lock, Pinned, normalise};

/// Gets source distributions by their hashes, see its own first lines.
const FETCH: &str = include_str!("sdist/fetch.py");

/// Unpacks one and has pip build it.
const BUILD: &str = include_str!("sdist/build.py");

/// Which endings a source distribution has (PEP 625, and older ones).
pub(super) const ENDINGS: [&str; 2] = [".tar.gz", ".zip"];

/// Where the steps see root's own copies.
const SOURCES: &str = "/dev/shm/sdists";

/// The directory in which a phase leaves what it built.
const BUILT: &str = "built";

/// When everything in a wheel was made that is built here: the first time that a zip can say.
const SOURCE_DATE_EPOCH: &str = "315532800";

/// What a lock demands, by how it comes.
#[derive(Debug)]
pub(super) struct Split<'lock> {
    /// As wheels.
    pub(super) wheels: Vec<&'lock Pinned>,
    /// As source distributions.
    pub(super) sources: Vec<&'lock Pinned>,
}

/// Divides a lock by what the definition says may be built from source.
pub(super) fn split<'lock>(bench: &Bench<'_>, lock: &'lock Lock) -> Split<'lock> {
    let named: BTreeSet<&str> = names(bench).collect();
    let (sources, wheels) = lock
        .requirements
        .iter()
        .partition(|pinned| named.contains(pinned.name.as_str()));
    Split { wheels, sources }
}

/// Returns the normalised names of what may be built from source.
pub(super) fn names<'a>(bench: &Bench<'a>) -> impl Iterator<Item = &'a str> {
    bench.request.app.build.sdists.iter().map(|name| name.as_str())
}

/// Returns an installer's options for which distributions may come as what.
pub(super) fn format_options(bench: &Bench<'_>) -> Vec<OsString> {
    let mut options = vec![OsString::from("--only-binary=:all:")];
    options.extend(names(bench).map(|name| format!("--no-binary={name}").into()));
    options
}

/// What the fetching script is told.
#[derive(Serialize)]
struct Task<'a> {
    wanted: Vec<Wanted<'a>>,
    index: Option<&'a str>,
    no_index: bool,
    find_links: Vec<String>,
    pip: Vec<String>,
    to: String,
}

#[derive(Serialize)]
struct Wanted<'a> {
    name: &'a str,
    version: &'a str,
    hashes: &'a BTreeSet<String>,
}

/// Fills the directory of sources with what is demanded, each file with a hash of the lock.
pub(super) fn fetch(bench: &mut Bench<'_>, sources: &[&Pinned]) -> Result<(), Error> {
    let places: Vec<PathBuf> = local_places(bench).into_iter().map(|(host, _)| host).collect();
    let to = bench.staging.sdists();
    let local = LocalFiles::look(&places, sources, &ENDINGS)?;
    let rest = local.take_any(sources, &to)?;
    if rest.is_empty() {
        return Ok(());
    }
    if bench.offline() {
        return Err(local.missing(&rest));
    }
    bench.expect(Stage::Download, rest.len());
    let left = ask(bench, &rest)?;
    let mut expected: BTreeMap<String, &Pinned> = BTreeMap::new();
    for pinned in rest {
        for ending in ENDINGS {
            expected.insert(format!("{}-{}{ending}", pinned.name, pinned.version), pinned);
        }
    }
    // What the script left becomes root's own before root looks into it.
    let mut choose = |path: &Path, kind: Kind| match path.to_str() {
        Some(name) if kind == Kind::File && expected.contains_key(name) => Choice::Copy,
        _ => Choice::Skip,
    };
    left.take("download", &to, &mut choose)?;
    for (name, pinned) in &expected {
        let path = to.join(name);
        if path.exists() {
            local::verify(&path, pinned)?;
        }
    }
    Ok(())
}

fn ask(bench: &mut Bench<'_>, wanted: &[&Pinned]) -> Result<Left, Error> {
    let phase = bench.phase(Step::Download)?;
    let download = phase.directory("download")?;
    let index = &bench.request.app.build.index;
    let find_links = index.find_links.iter().map(|place| place.as_str());
    let mut pip = vec![bench.interpreter.path.display().to_string()];
    pip.extend(bench.tools.pip().iter().map(|word| word.to_string_lossy().into_owned()));
    let task = Task {
        wanted: wanted
            .iter()
            .map(|pinned| Wanted {
                name: &pinned.name,
                version: &pinned.version,
                hashes: &pinned.hashes,
            })
            .collect(),
        index: index.url.as_ref().map(|url| url.as_str()),
        no_index: index.no_index,
        // Local ones have been looked through.
        find_links: find_links
            .filter(|place| !place.starts_with('/'))
            .map(str::to_owned)
            .collect(),
        pip,
        to: download.display().to_string(),
    };
    let input = bench.staging.input();
    let path = input.join("sdists.json");
    let json = serde_json::to_vec(&task)
        .map_err(std::io::Error::from)
        .at("write", &path)?;
    atomic::write(&path, &json, 0o644)?;
    atomic::write(&input.join("fetch.py"), FETCH.as_bytes(), 0o644)?;
    let job = Job {
        name: "python",
        program: bench.interpreter.path.clone(),
        arguments: ["-I", "-S", "/dev/shm/input/fetch.py", "/dev/shm/input/sdists.json"]
            .map(OsString::from)
            .to_vec(),
        environment: bench.request.environment.clone(),
    };
    bench.run(phase, &[job])
}

/// Builds what lies in the directory of sources, and returns the lock by which the result is installed: it demands
/// exactly the wheels that were built.
pub(super) fn build(bench: &mut Bench<'_>, lock: &Lock, sources: &[&Pinned]) -> Result<Lock, Error> {
    let mut built = lock.clone();
    atomic::write(&bench.staging.input().join("build.py"), BUILD.as_bytes(), 0o644)?;
    for (done, pinned) in (0..).zip(sources) {
        let Some(source) = source_of(bench, pinned)? else {
            // Excluded here by its marker; where it is not, the installer will miss it.
            continue;
        };
        let name = format!("{} {}", pinned.name, pinned.version);
        bench.progress.distribution(Stage::Build, &name);
        let wheel = build_one(bench, pinned, &source)?;
        let amount = Amount {
            done: done + 1,
            total: Some(sources.len() as u64),
            unit: Unit::Distributions,
        };
        bench.progress.amount(Stage::Build, amount);
        let hash = local::sha256(&wheel)?;
        let mut same = built.requirements.iter_mut().filter(|other| *other == *pinned);
        if let Some(pinned) = same.next() {
            pinned.hashes = BTreeSet::from([hash]);
        }
    }
    Ok(built)
}

fn source_of(bench: &Bench<'_>, pinned: &Pinned) -> Result<Option<String>, Error> {
    let directory = bench.staging.sdists();
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let path = entry.at("list", &directory)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if pinned.hashes.contains(&local::sha256(&path)?) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn build_one(bench: &mut Bench<'_>, pinned: &Pinned, source: &str) -> Result<PathBuf, Error> {
    let mut arguments = ["-I", "-S", "/dev/shm/input/build.py"].map(OsString::from).to_vec();
    arguments.push(format!("{SOURCES}/{source}").into());
    arguments.push(format!("{INSIDE}/source").into());
    arguments.push(bench.interpreter.path.clone().into());
    arguments.extend(bench.tools.pip());
    arguments.extend(
        [
            "wheel",
            "--progress-bar=off",
            "--no-deps",
            "--no-index",
            // Else an old package is built by whatever setuptools the host has.
            "--use-pep517",
            "--only-binary=:all:",
            "--find-links",
            "/dev/shm/wheels",
        ]
        .map(OsString::from),
    );
    arguments.extend(["-w".into(), format!("{INSIDE}/{BUILT}").into()]);
    let job = Job {
        name: "pip",
        program: bench.interpreter.path.clone(),
        arguments,
        environment: environment(),
    };
    let phase = bench.phase(Step::Build)?;
    let left = bench.run(phase, &[job]).map_err(|error| needs(error, pinned))?;
    take_wheel(bench, pinned, &left)
}

/// Nothing of the caller's, and nothing of today.
fn environment() -> Vec<(OsString, OsString)> {
    [
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH),
        ("PYTHONHASHSEED", "0"),
        ("TZ", "UTC"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec()
}

/// Says which build requirement is not in the lock, if that is what went wrong.
fn needs(error: Error, pinned: &Pinned) -> Error {
    let Error::Step { tail, log, .. } = &error else {
        return error;
    };
    let lacking = tail
        .lines()
        .find_map(|line| line.split_once("No matching distribution found for "));
    match lacking {
        Some((_, requirement)) => Error::BuildNeeds {
            distribution: format!("{}=={}", pinned.name, pinned.version),
            requirement: requirement.trim().to_owned(),
            log: log.clone(),
        },
        None => error,
    }
}

/// Makes the one wheel that was built root's own, beside those that were fetched.
fn take_wheel(bench: &Bench<'_>, pinned: &Pinned, left: &Left) -> Result<PathBuf, Error> {
    let mut found = Vec::new();
    let mut choose = |path: &Path, kind: Kind| match path.to_str() {
        Some(name) if kind == Kind::File && is_wheel_of(name, pinned) => {
            found.push(name.to_owned());
            Choice::Copy
        }
        _ => Choice::Skip,
    };
    let wheels = bench.staging.wheels();
    let fresh = bench.staging.built();
    left.take(BUILT, &fresh, &mut choose)?;
    let [name] = found.as_slice() else {
        return Err(Error::NotBuilt {
            distribution: format!("{}=={}", pinned.name, pinned.version),
            wheels: found,
        });
    };
    let target = wheels.join(name);
    // A fetched wheel is never replaced by one that a package's own code made.
    atomic::rename_new(&fresh.join(name), &target)?;
    Ok(target)
}

/// Returns whether a file's name is that of a wheel of this very distribution.
fn is_wheel_of(file_name: &str, pinned: &Pinned) -> bool {
    let mut parts = file_name.split('-');
    let named = parts.next().is_some_and(|name| normalise(name) == pinned.name);
    let version = parts.next().unwrap_or_default();
    file_name.ends_with(".whl") && named && same_version(version, &pinned.version)
}

/// Returns whether two spellings mean one version, as far as a file's name may differ from a lock's (PEP 427).
fn same_version(one: &str, other: &str) -> bool {
    let plain = |version: &str| version.to_ascii_lowercase().replace(['-', '_'], ".");
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(name: &str, version: &str) -> Pinned {
        Pinned {
            name: name.to_owned(),
            version: version.to_owned(),
            marker: None,
            hashes: BTreeSet::new(),
        }
    }

    #[test]
    fn a_built_wheel_has_the_name_of_its_source() {
        for (file_name, name, version, expected) in [
            ("ovs-3.4.1-cp311-cp311-linux_x86_64.whl", "ovs", "3.4.1", true),
            ("oslo_config-1.0-py3-none-any.whl", "oslo-config", "1.0", true),
            ("Oslo.Config-1.0-py3-none-any.whl", "oslo-config", "1.0", true),
            ("a-1.0+local.1-py3-none-any.whl", "a", "1.0+local-1", true),
            ("ovs-3.4.2-py3-none-any.whl", "ovs", "3.4.1", false),
            ("nova-3.4.1-py3-none-any.whl", "ovs", "3.4.1", false),
            ("ovs-3.4.1.tar.gz", "ovs", "3.4.1", false),
        ] {
            assert_eq!(is_wheel_of(file_name, &pinned(name, version)), expected, "{file_name}");
        }
    }

    #[test]
    fn a_build_requirement_that_is_missing_is_named() {
        let step = |tail: &str| Error::Step {
            step: Step::Build,
            program: "pip".to_owned(),
            status: "exit status: 1".to_owned(),
            tail: tail.to_owned(),
            log: "/log".into(),
        };
        let tail = "    ERROR: Could not find a version that satisfies the requirement setuptools>=40.8.0 (from versions: none)\n    \
                    ERROR: No matching distribution found for setuptools>=40.8.0";
        let error = needs(step(tail), &pinned("ovs", "3.4.1"));
        assert_eq!(error.code(), "build-needs");
        let text = error.to_string();
        assert!(
            text.contains("ovs==3.4.1") && text.contains("setuptools>=40.8.0"),
            "{text}"
        );
        assert_eq!(
            needs(step("gcc: not found"), &pinned("ovs", "1")).code(),
            "build-failed"
        );
    }
}
