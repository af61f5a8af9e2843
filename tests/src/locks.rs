//! The committed locks: requirements with hashes of two successive releases of each app that tests install.
//!
//! Each `locks/NAME.txt` was made by `make locks` from the packages in `locks/NAME.in`, whose first line names the
//! release whose upper constraints apply; a line `# sdists: NAME …` after it names what exists as source only. A lock is
//! valid for Python 3.11 to 3.13 and for any index.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{host, tools::Tools};

/// placement with gunicorn, of two successive releases.
pub const PLACEMENT: [&str; 2] = ["placement-14.0.0", "placement-15.0.0"];

/// cinder (which brings oslo.rootwrap), of two successive releases.
pub const CINDER: [&str; 2] = ["cinder-27.0.0", "cinder-28.0.0"];

/// nova, with what its deployments add, of two point releases of one series: one distribution differs.
pub const NOVA: [&str; 2] = ["nova-33.0.1", "nova-33.0.2"];

/// The rest of the services, of the release that goes with the second ones of the others.
pub const OTHERS: [&str; 4] = ["glance-32.0.0", "keystone-29.1.0", "manila-22.0.2", "neutron-28.0.2"];

/// oslo.rootwrap in two versions: a handful of distributions, for tests that need a real venv but not a big one.
pub const ROOTWRAP: [&str; 2] = ["rootwrap-a", "rootwrap-b"];

/// oslo.privsep with oslo.rootwrap, for tests of privsep's daemons that need no service around them.
pub const PRIVSEP: &str = "privsep";

/// The names of all locks.
pub fn all() -> impl Iterator<Item = &'static str> {
    let pairs = [PLACEMENT, CINDER, NOVA, ROOTWRAP].into_iter().flatten();
    pairs.chain(OTHERS).chain([PRIVSEP])
}

/// The file of a lock, in this source tree.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    dir().join(format!("{name}.txt"))
}

fn input(name: &str) -> PathBuf {
    dir().join(format!("{name}.in"))
}

fn dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/locks"))
}

/// The packages of all locks that are built from source: no wheel of theirs exists.
///
/// # Errors
/// When a lock's input can't be read.
pub fn sdists() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in all() {
        let input = read(&input(name))?;
        names.extend(sdists_of(&input).map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Makes all locks anew with uv, where `constraints` has `upper-constraints-<release>.txt` for each release.
///
/// uv keeps the versions that a lock has already, as far as packages and constraints allow.
///
/// # Errors
/// When a file of constraints is missing, or uv finds no solution.
pub fn make(constraints: &Path, progress: &mut dyn FnMut(&str)) -> Result<()> {
    let tools = Tools::ensure()?;
    let temp = tempfile::tempdir().context("can't make a temporary directory")?;
    for name in all() {
        let input = input(name);
        let packages = read(&input)?;
        let release = release_of(&packages)
            .with_context(|| format!("{} does not begin with `# constraints: RELEASE`", input.display()))?;
        let upper = constraints.join(format!("upper-constraints-{release}.txt"));
        let relaxed = relax(&read(&upper)?, &read(&dir().join("relaxed.txt"))?);
        let kept = temp.path().join("constraints.txt");
        fs::write(&kept, relaxed).with_context(|| format!("can't write {}", kept.display()))?;
        progress(&format!("lock {name}, with the constraints of {release}"));
        let mut compile = Command::new(tools.uv());
        compile
            .args(["pip", "compile", "--quiet", "--universal", "--python-version", "3.11"])
            .args([
                "--generate-hashes",
                "--only-binary",
                ":all:",
                "--no-header",
                "--no-annotate",
            ])
            .args(["--no-emit-index-url", "--no-emit-find-links"])
            .args(sdists_of(&packages).flat_map(|sdist| ["--no-binary", sdist]))
            .arg("--constraints")
            .arg(&kept)
            .arg(&input)
            .arg("--output-file")
            .arg(path(name));
        host::run(&mut compile).with_context(|| format!("can't make the lock {name}"))?;
        check(name)?;
    }
    Ok(())
}

/// Checks that a lock pins every requirement, with hashes, and names no index.
///
/// # Errors
/// The first requirement that does not.
pub fn check(name: &str) -> Result<()> {
    let text = read(&path(name))?.replace("\\\n", " ");
    if text.contains("://") {
        bail!("the lock {name} names an address");
    }
    let mut lines = text.lines().peekable();
    if lines.peek().is_none() {
        bail!("the lock {name} is empty");
    }
    match lines.find(|line| !line.contains("==") || !line.contains("--hash=sha256:")) {
        Some(line) => bail!("the lock {name} has a line that is no version with hashes: {line}"),
        None => Ok(()),
    }
}

fn release_of(input: &str) -> Option<&str> {
    input.lines().next()?.strip_prefix("# constraints: ").map(str::trim)
}

fn sdists_of(input: &str) -> impl Iterator<Item = &str> {
    input
        .lines()
        .filter_map(|line| line.strip_prefix("# sdists: "))
        .flat_map(str::split_whitespace)
}

/// Leaves the packages in `relaxed` out of the constraints.
fn relax(constraints: &str, relaxed: &str) -> String {
    let relaxed: Vec<_> = relaxed.lines().filter(|line| !line.starts_with('#')).collect();
    let keep = |line: &&str| {
        line.split_once('=')
            .is_none_or(|(package, _)| !relaxed.contains(&package.trim()))
    };
    constraints.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_lock_pins_all_with_hashes_and_names_no_index() {
        for name in all() {
            check(name).unwrap();
            let input = read(&input(name)).unwrap();
            assert!(release_of(&input).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_built_from_source_is_named_and_has_one_hash() {
        assert_eq!(sdists().unwrap(), ["ovs", "simplegeneric"]);
        let lock = read(&path(NOVA[1])).unwrap();
        let (_, after) = lock.split_once("\novs==").unwrap();
        let entry = after.split("\n").take_while(|line| !line.contains("==")).count();
        assert_eq!(entry, 2, "{after:.300}");
        // What builds it is an ordinary distribution of the lock.
        assert!(lock.contains("\nsetuptools=="), "{lock:.300}");
    }

    #[test]
    fn relaxed_packages_leave_the_constraints_and_no_others() {
        let constraints = "a===1\ntestresources===2.0.2\n# note\nb===2;python_version=='3.11'\ntest===3\n";
        assert_eq!(
            relax(constraints, "# why\ntestresources\n"),
            "a===1\n# note\nb===2;python_version=='3.11'\ntest===3\n"
        );
    }
}
