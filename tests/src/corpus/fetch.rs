//! The unit files of Debian packages, fetched once by apt: they are not ours to commit.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{Os, cache, host, roots};

/// A package in each line; a number behind it is the one release that has it.
const PACKAGES: &str = include_str!("packages.txt");

/// Raise it when what is kept of a package changes.
const RECIPE: &str = "1";

/// How many packages are downloaded before they are unpacked and removed: what an interrupted run has to do again.
const BATCH: usize = 64;

/// Gives a directory with one directory for each package: its unit files, and `etc/default`, which they read.
///
/// What is missing is fetched by apt, which checks it against the archive's signature. An interrupted run goes on
/// where it ended.
///
/// # Errors
/// When apt can't fetch a package, or a package of the list has no units.
pub fn ensure(os: Os) -> Result<PathBuf> {
    let name = format!("{os}-{}", cache::key(&[RECIPE, PACKAGES]));
    let corpus = cache::subdir("corpus")?.join(&name);
    // Never half there under this name, so no lock is needed to see that it is there.
    if corpus.exists() {
        return Ok(corpus);
    }
    let _lock = cache::lock(&format!("corpus-{os}"))?;
    if corpus.exists() {
        return Ok(corpus);
    }
    let fetching = corpus.with_file_name(format!(".fetching-{name}"));
    let unpacked = fetching.join("packages");
    cache::make_dir(&unpacked)?;
    fetch(os, &fetching, &unpacked).with_context(|| format!("can't fetch the unit files of {os}"))?;
    fs::rename(&unpacked, &corpus).with_context(|| format!("can't rename to {}", corpus.display()))?;
    cache::remove_tree(&fetching)?;
    Ok(corpus)
}

/// Returns the packages of the list that a release has.
fn packages(os: Os) -> impl Iterator<Item = &'static str> {
    let release = os.to_string();
    let lines = PACKAGES.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(move |line| match line.split_once(' ') {
        Some((name, only)) => release.ends_with(only).then_some(name),
        None => Some(line),
    })
}

fn fetch(os: Os, fetching: &Path, unpacked: &Path) -> Result<()> {
    let missing: Vec<_> = packages(os).filter(|name| !unpacked.join(name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = Apt::new(os, fetching)?;
    apt.run(&["update"])?;
    let debs = fetching.join("debs");
    for batch in missing.chunks(BATCH) {
        cache::remove_tree(&debs)?;
        cache::make_dir(&debs)?;
        host::run(apt.command().arg("download").args(batch).current_dir(&debs))?;
        for deb in fs::read_dir(&debs).with_context(|| format!("can't read {}", debs.display()))? {
            let deb = deb?.path();
            // NAME_VERSION_ARCHITECTURE.deb
            let name = deb.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((name, _)) = name.split_once('_') else {
                continue;
            };
            unpack(&deb, &unpacked.join(name), fetching)?;
        }
    }
    match packages(os).find(|name| !unpacked.join(name).exists()) {
        Some(name) => bail!("apt said nothing, and did not fetch {name}"),
        None => Ok(()),
    }
}

/// An apt with a state of its own, so that the host's lists stay as they are. Its way through a proxy is the host's.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(os: Os, fetching: &Path) -> Result<Self> {
        let (state, caches) = (fetching.join("state"), fetching.join("cache"));
        for directory in [state.join("lists/partial"), caches.join("archives/partial")] {
            cache::make_dir(&directory)?;
        }
        let (sources, status) = (fetching.join("sources.list"), fetching.join("status"));
        let line = format!("deb {} {} main\n", roots::mirror()?, os.suite());
        fs::write(&sources, line).with_context(|| format!("can't write {}", sources.display()))?;
        fs::write(&status, "").with_context(|| format!("can't write {}", status.display()))?;
        // The keys are those of the release itself.
        let keys = roots::ensure(os)?.join("etc/apt/trusted.gpg.d");
        let options = [
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache={}", caches.display()),
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::trusted=/dev/null".to_owned(),
            format!("Dir::Etc::trustedparts={}", keys.display()),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        Ok(Self {
            options: options.to_vec(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("-q");
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        host::run(self.command().args(arguments))
    }
}

/// Keeps the unit files of a package and its `etc/default`, below `target`, which is never half there.
fn unpack(deb: &Path, target: &Path, scratch: &Path) -> Result<()> {
    let (tar, tree) = (scratch.join("data.tar"), scratch.join("tree"));
    cache::remove_tree(&tree)?;
    cache::make_dir(&tree)?;
    let contents = fs::File::create(&tar).with_context(|| format!("can't make {}", tar.display()))?;
    let status = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(contents)
        .status();
    if !status.context("can't run dpkg-deb")?.success() {
        bail!("dpkg-deb can't read {}", deb.display());
    }
    let names = host::run(
        Command::new("tar")
            .arg("--list")
            .arg("--quoting-style=literal")
            .arg("--file")
            .arg(&tar),
    )?;
    let kept: Vec<_> = names.lines().filter(|name| is_kept(name)).collect();
    if !kept.iter().any(|name| name.contains("/systemd/")) {
        bail!("{} has no unit files; take it from the list", deb.display());
    }
    let mut extract = Command::new("tar")
        .args(["--extract", "--no-same-owner", "--file"])
        .arg(&tar)
        .arg("--directory")
        .arg(&tree)
        // A package of either layout of /usr.
        .arg("--transform=s,^\\./lib/,./usr/lib/,rSh")
        // Last: an option behind it does not count for the names in it.
        .args(["--no-unquote", "--verbatim-files-from", "--files-from=-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("can't run tar")?;
    if let Some(mut stdin) = extract.stdin.take() {
        stdin
            .write_all(kept.join("\n").as_bytes())
            .context("can't tell tar what to extract")?;
    }
    if !extract.wait().context("can't wait for tar")?.success() {
        bail!("tar can't unpack {}", deb.display());
    }
    fs::rename(&tree, target).with_context(|| format!("can't rename to {}", target.display()))?;
    fs::remove_file(deb).with_context(|| format!("can't remove {}", deb.display()))
}

/// Whether a member of a package is kept: what is in a directory of units, and the files that units take variables
/// from.
fn is_kept(name: &str) -> bool {
    const KEPT: [&str; 4] = [
        "./lib/systemd/system/",
        "./usr/lib/systemd/system/",
        "./etc/systemd/system/",
        "./etc/default/",
    ];
    !name.ends_with('/') && KEPT.iter().any(|directory| name.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_is_sorted_and_says_which_release() {
        let lines: Vec<_> = PACKAGES.lines().filter(|line| !line.starts_with('#')).collect();
        let sorted: BTreeSet<_> = lines.iter().copied().collect();
        assert_eq!(lines, sorted.into_iter().collect::<Vec<_>>());
        for line in lines {
            assert!(
                !line.contains(' ') || line.ends_with(" 12") || line.ends_with(" 13"),
                "{line}"
            );
        }
        for os in Os::ALL {
            assert!(packages(os).any(|name| name == "nova-compute"));
        }
        assert!(packages(Os::Debian12).any(|name| name == "murano-api"));
        assert!(!packages(Os::Debian13).any(|name| name == "murano-api"));
    }

    #[test]
    fn units_and_their_defaults_are_kept() {
        for (name, kept) in [
            ("./lib/systemd/system/a.service", true),
            ("./usr/lib/systemd/system/a.service.d/x.conf", true),
            ("./etc/default/a", true),
            ("./usr/lib/systemd/system/", false),
            ("./usr/lib/systemd/user/a.service", false),
            ("./usr/bin/a", false),
        ] {
            assert_eq!(is_kept(name), kept, "{name}");
        }
    }
}
