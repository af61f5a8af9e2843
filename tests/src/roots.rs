//! The Debian roots that machines boot from: made once by mmdebstrap, then never written again.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{Os, cache, host, tools::Tools};

/// Raise it when the steps of this file change in a way that the package list does not show.
const RECIPE: &str = "1";

/// What a small Debian server has, and what venvd meets on one. No recommends.
const PACKAGES: [&str; 22] = [
    "bash-completion",
    "ca-certificates",
    "curl",
    "dbus",
    "dbus-user-session",
    "fish",
    "iproute2",
    "less",
    "libpam-systemd",
    "netbase",
    "passwd",
    "polkitd",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tmux",
    "tzdata",
    "util-linux",
    "zsh",
];

/// Settings of the host's apt that a root is fetched with too: its way through a proxy, and a mirror that is a snapshot.
const APT_SETTINGS: [&str; 5] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::https::CaInfo",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// Gives the root of a release, and makes it if it is not in the cache (half a minute).
///
/// Its name carries a hash of the recipe, so a changed recipe makes a new root. Two processes that ask at once make
/// one; a process that dies leaves no half root under that name.
///
/// # Errors
/// When no mirror is known, or a package can't be fetched or installed.
pub fn ensure(os: Os) -> Result<PathBuf> {
    let roots = cache::subdir("roots")?;
    let root = roots.join(format!("{os}-{}", recipe_key(os)));
    // Never half there under this name, so no lock is needed to see that it is there.
    if root.exists() {
        return Ok(root);
    }
    host::check(host::Purpose::Prepare)?;
    let _lock = cache::lock(&format!("root-{os}"))?;
    if root.exists() {
        return Ok(root);
    }
    let tools = Tools::ensure()?;
    let building = roots.join(format!(".building-{os}"));
    cache::remove_tree(&building)?;
    debootstrap(os, &building)
        .with_context(|| format!("can't make the root of {os} (can apt reach its mirror? tests/bin/host-setup installs a missing tool or keyring)"))?;
    finish(&building, &tools).with_context(|| format!("can't finish the root of {os}"))?;
    fs::rename(&building, &root).with_context(|| format!("can't rename to {}", root.display()))?;
    Ok(root)
}

fn packages(os: Os) -> Vec<&'static str> {
    let mut packages = PACKAGES.to_vec();
    if os == Os::Debian13 {
        packages.push("sudo-rs");
    }
    packages
}

fn recipe_key(os: Os) -> String {
    let mut parts = vec![RECIPE, os.suite(), Tools::uv_requirement()];
    parts.extend(packages(os));
    cache::key(&parts)
}

fn debootstrap(os: Os, target: &Path) -> Result<()> {
    let archives = cache::subdir("debs")?.join(os.suite());
    fs::create_dir_all(&archives).with_context(|| format!("can't make {}", archives.display()))?;
    // Keeps the downloaded packages from one root to the next: the recipe of mmdebstrap(1), "--skip".
    let hooks = [
        "--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives".to_owned(),
        format!("--setup-hook=sync-in '{}' /var/cache/apt/archives", archives.display()),
        format!(
            "--customize-hook=sync-out /var/cache/apt/archives '{}'",
            archives.display()
        ),
    ];
    let mut command = mmdebstrap();
    command
        .arg("--variant=minbase")
        .args(["--skip=download/empty", "--skip=essential/unlink"])
        .args(hooks)
        .arg(format!("--include={}", packages(os).join(",")));
    run(&mut command, os, target)
}

/// Unpacks a package of a release and what it depends on at `target`, and installs nothing: a program to be looked at or
/// run from there.
pub(crate) fn unpack(os: Os, package: &str, target: &Path) -> Result<()> {
    host::check(host::Purpose::Prepare)?;
    run(
        mmdebstrap().args(["--variant=extract", &format!("--include={package}")]),
        os,
        target,
    )
}

/// In namespaces that end with us, so that a killed test leaves neither mounts nor a process that still installs.
fn mmdebstrap() -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig=KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "mmdebstrap",
        ])
        .args(["--quiet", "--mode=root", "--format=directory"]);
    command
}

fn run(mmdebstrap: &mut Command, os: Os, target: &Path) -> Result<()> {
    mmdebstrap
        .args(apt_options()?)
        .arg(os.suite())
        .arg(target)
        .arg(format!("deb {} {} main", mirror()?, os.suite()));
    host::run(mmdebstrap)?;
    Ok(())
}

/// Finds the mirror that this host's own apt uses, so that none is written down here; `VENVD_MIRROR` overrides it.
pub(crate) fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("VENVD_MIRROR") {
        return Ok(mirror);
    }
    let targets = host::run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    match pick_mirror(&targets) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("this host's apt names no mirror of Debian's main archive; name one in VENVD_MIRROR"),
    }
}

/// Picks the archive itself out of `URI RELEASE COMPONENT` lines, not its updates, security or anybody else's.
fn pick_mirror(targets: &str) -> Option<&str> {
    const SUITES: [&str; 8] = [
        "bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable",
    ];
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
        (SUITES.contains(&release) && component == "main").then_some(uri)
    })
}

fn apt_options() -> Result<Vec<String>> {
    let mut options = Vec::new();
    for setting in APT_SETTINGS {
        let said = host::run(Command::new("apt-config").args(["dump", "--no-empty", setting]))?;
        options.extend(said.lines().map(|line| format!("--aptopt={line}")));
    }
    Ok(options)
}

/// What a machine needs beyond the packages.
fn finish(root: &Path, tools: &Tools) -> Result<()> {
    // mmdebstrap copies the host's name; sudo complains about one that /etc/hosts does not have.
    write(&root.join("etc/hostname"), "machine\n")?;
    write(
        &root.join("etc/hosts"),
        "127.0.0.1 localhost\n127.0.1.1 machine\n::1 localhost\n",
    )?;
    // Not empty, or systemd takes every boot for the first one and presets all units; each machine gets its own.
    write(&root.join("etc/machine-id"), "00000000000000000000000000000001\n")?;
    let resolver = root.join("etc/resolv.conf");
    if resolver.symlink_metadata().is_ok() {
        fs::remove_file(&resolver).with_context(|| format!("can't remove {}", resolver.display()))?;
    }
    // There: journald keeps its journal over reboots (journald.conf(5), Storage=auto).
    let journal = root.join("var/log/journal");
    fs::create_dir_all(&journal).with_context(|| format!("can't make {}", journal.display()))?;
    // The packages that mmdebstrap left for the cache to keep.
    for entry in fs::read_dir(root.join("var/cache/apt/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
        }
    }
    let uv = root.join("usr/local/bin/uv");
    fs::copy(tools.uv(), &uv).with_context(|| format!("can't copy uv to {}", uv.display()))?;
    fs::set_permissions(&uv, Permissions::from_mode(0o755))?;
    chown(&uv, Some(0), Some(0))?;
    Ok(())
}

fn write(path: &Path, contents: &str) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_archive_itself() {
        for (targets, mirror) in [
            ("", None),
            ("http://a/debian-security/ bookworm-security main\n", None),
            (
                "http://a/debian/ bookworm-updates main\nhttp://b/debian/ bookworm main\n",
                Some("http://b/debian/"),
            ),
            ("https://x/node/ nodistro main\nhttps://c/ubuntu/ noble main\n", None),
            (
                "http://d/debian/ trixie contrib\nhttp://d/debian/ trixie main\n",
                Some("http://d/debian/"),
            ),
            ("odd line\n\nhttp://e/ stable main\n", Some("http://e/")),
        ] {
            assert_eq!(pick_mirror(targets), mirror, "{targets}");
        }
    }

    #[test]
    fn releases_have_roots_of_their_own() {
        assert_ne!(recipe_key(Os::Debian12), recipe_key(Os::Debian13));
        assert!(packages(Os::Debian13).contains(&"sudo-rs"));
        assert!(!packages(Os::Debian12).contains(&"sudo-rs"));
    }
}
