//! What the figures are taken on: nova, all of its wheels, and the tools that venvd is compared with.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;
use venvd_app::links::VenvPath;
use venvd_app::{Layout, Settings, search};
use venvd_core::build::{Outcome, Progress, Request};
use venvd_core::{Manifest, build};
use venvd_fs::Root;

use super::Say;
use crate::{Os, cache, host, locks, tools::Tools, wheels};

/// The BLAKE3 program of BLAKE3's authors.
const B3SUM: &str = "1.8.7";

/// How the directories begin that measurements are made in.
const PREFIX: &str = "bench-";

/// nova is built from here; ovs exists as source only.
const DEFINITION: &str = "\
[build]
packages = [\"nova\"]
sdists = [\"ovs\"]
python = \"/usr/bin/python3\"
builder = \"uv\"
[build.index]
no-index = true
";

/// The tools and wheels, and a directory for hosts; it goes when this does.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) uv: PathBuf,
    pub(super) b3sum: PathBuf,
    pub(super) wheels: PathBuf,
    directory: TempDir,
    _lock: File,
}

impl Fixture {
    /// Fetches what is missing in the cache.
    pub(super) fn ensure(say: Say<'_>) -> Result<Self> {
        // Two that measure at once would measure each other.
        let lock = cache::lock("bench")?;
        sweep()?;
        say("the tools and wheels");
        let b3sum = b3sum()?;
        let wheels = wheels::ensure(this_host()?)?;
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(cache::dir()?)
            .context("can't make a directory")?;
        Ok(Self {
            uv: Tools::ensure()?.uv(),
            b3sum,
            wheels,
            directory,
            _lock: lock,
        })
    }

    /// Returns a path of its own for something.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a host without any venv.
    pub(super) fn host(&self, name: &str) -> Result<Host> {
        let root = self.path(name);
        let apps = root.join("etc/venvd/apps");
        fs::create_dir_all(&apps).with_context(|| format!("can't make {}", apps.display()))?;
        fs::write(apps.join("nova.toml"), DEFINITION).with_context(|| format!("can't write in {}", apps.display()))?;
        Ok(Host {
            layout: Layout::new(Root::at(&root)),
            root,
        })
    }

    /// Builds a lock's venv on a host.
    pub(super) fn build(&self, host: &Host, lock: &str, progress: &mut dyn Progress) -> Result<VenvPath> {
        let mut request = Request::new(search::load_app(&host.layout, &"nova".parse()?)?);
        request.tag = Some(tag(lock).parse()?);
        request.lock = Some(locks::path(lock));
        request.offline = true;
        request.find_links = vec![self.wheels.clone()];
        request.uv = Some(self.uv.clone());
        let built = build(&host.layout, &Settings::default(), &request, progress)
            .map_err(|error| anyhow::anyhow!("can't build {lock}: {}", venvd_fs::report(&error)))?;
        anyhow::ensure!(built.outcome == Outcome::New, "{lock} was there already");
        Ok(built.venv)
    }

    /// Makes an empty venv as uv does, at `name`, and returns the command that installs a lock into it and compiles it.
    /// What uv unpacks and builds is in a cache of its own, on the same file system, so that it hard links.
    pub(super) fn uv_install(&self, name: &str, lock: &str) -> Result<Command> {
        let venv = self.path(name);
        remove(&venv)?;
        host::run(
            self.uv()
                .args(["venv", "--quiet", "--python", "/usr/bin/python3"])
                .arg(&venv),
        )?;
        let mut install = self.uv();
        install
            .args(["pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"])
            .args(["--no-index", "--find-links"])
            .arg(&self.wheels)
            .arg("--python")
            .arg(venv.join("bin/python"))
            .arg(locks::path(lock));
        Ok(install)
    }

    fn uv(&self) -> Command {
        let mut uv = Command::new(&self.uv);
        uv.env("UV_CACHE_DIR", self.path("uv-cache"))
            .env("UV_PYTHON_DOWNLOADS", "never")
            .arg("--offline");
        uv
    }
}

/// A root with a definition, and later with venvs.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) root: PathBuf,
    pub(super) layout: Layout,
}

impl Host {
    /// Returns where a venv lies on disk.
    pub(super) fn directory(&self, venv: &VenvPath) -> PathBuf {
        self.layout.on_disk(venv.path())
    }

    pub(super) fn manifest(&self, venv: &VenvPath) -> Result<Manifest> {
        let directory = self.directory(venv);
        Manifest::load(&directory).with_context(|| format!("can't read the manifest of {}", directory.display()))
    }

    /// Removes all of it.
    pub(super) fn remove(self) -> Result<()> {
        remove(&self.root)
    }
}

/// The tag that a lock's venv gets: `nova-33.0.2` is `nova:33.0.2`.
pub(super) fn tag(lock: &str) -> &str {
    lock.rsplit_once('-').map_or(lock, |(_, version)| version)
}

/// Removes a tree, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    cache::remove_tree(path)
}

/// Removes what a measurement left that was killed; the lock is held.
fn sweep() -> Result<()> {
    let cache = cache::dir()?;
    for entry in fs::read_dir(&cache).with_context(|| format!("can't read {}", cache.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Wheels differ by release, and so does the system's python.
fn this_host() -> Result<Os> {
    let minor =
        host::run(Command::new("/usr/bin/python3").args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]))?;
    Os::ALL
        .into_iter()
        .find(|os| os.python() == minor.trim())
        .with_context(|| format!("there are no wheels for this host's python {}", minor.trim()))
}

fn b3sum() -> Result<PathBuf> {
    let _lock = cache::lock("b3sum")?;
    let directory = cache::subdir("tools")?.join(format!("b3sum-{B3SUM}"));
    let program = directory.join("bin/b3sum");
    if !program.exists() {
        // cargo renames the program into place when it is whole.
        let mut install = Command::new("cargo");
        install.args(["install", "--quiet", "--locked", "--version", B3SUM, "b3sum", "--root"]);
        host::run(install.arg(&directory)).context("can't install b3sum")?;
    }
    Ok(program)
}
