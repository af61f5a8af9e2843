//! Installing wheels into a venv, confined and without network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Bench;
use super::confine::{INSIDE, Job, Left};
use super::tools::Installer;
use crate::error::{Error, Step};
use crate::manifest::BuilderRecord;

/// Where the installer makes the venv.
pub(crate) const VENV: &str = "/dev/shm/venvd/venv";

/// The name of that directory in what the phase left.
pub(super) const NAME: &str = "venv";

/// What an installer made.
#[derive(Debug)]
pub(super) struct Installation {
    /// With the venv in the directory [`NAME`].
    pub(super) left: Left,
    pub(super) builder: BuilderRecord,
}

/// Installs the wheels that lie ready.
pub(super) fn install(bench: &mut Bench<'_>) -> Result<Installation, Error> {
    let (name, version, jobs) = match &bench.tools.installer {
        Installer::Uv(uv) => {
            let uv = uv.clone();
            let version = bench.ask(job("uv", &uv, words(&["--version"])))?;
            // `uv 0.13.9 (…)`
            let version = version.split(' ').nth(1).unwrap_or("unknown").to_owned();
            ("uv", version, with_uv(bench, &uv))
        }
        Installer::Pip => {
            let (version, jobs) = with_pip(bench)?;
            ("pip", version, jobs)
        }
    };
    let phase = bench.phase(Step::Install)?;
    let left = bench.run(phase, &jobs)?;
    let venvd = env!("CARGO_PKG_VERSION").to_owned();
    let builder = BuilderRecord {
        name: name.to_owned(),
        version,
        venvd,
    };
    Ok(Installation { left, builder })
}

fn with_uv(bench: &Bench<'_>, uv: &Path) -> Vec<Job> {
    let mut make = words(&[
        "venv",
        "--no-config",
        "--no-project",
        "--no-python-downloads",
        "--python",
    ]);
    make.extend([bench.interpreter.path.clone().into(), VENV.into()]);
    let mut sync = words(&[
        "pip",
        "sync",
        "--no-config",
        "--no-python-downloads",
        "--offline",
        "--no-index",
    ]);
    sync.extend(words(&[
        "--find-links",
        "/dev/shm/wheels",
        "--require-hashes",
        "--no-build",
        // What is unpacked is linked, not copied; the cache, of this run alone, goes when uv ends, and the links with it.
        "--no-cache",
        "--link-mode",
        "hardlink",
    ]));
    sync.extend(words(&[
        "--python",
        &format!("{VENV}/bin/python"),
        "/dev/shm/input/requirements.txt",
    ]));
    vec![job("uv", uv, make), job("uv", uv, sync)]
}

fn with_pip(bench: &mut Bench<'_>) -> Result<(String, Vec<Job>), Error> {
    let python = bench.interpreter.path.clone();
    // `--without-pip`: neither pip nor setuptools is in the venv unless the lock names it, and ensurepip, which
    // distributions put into packages of their own, is not needed.
    let make = job("venv", &python, words(&["-I", "-m", "venv", "--without-pip", VENV]));
    let inner = PathBuf::from(format!("{VENV}/bin/python"));
    let mut arguments = bench.tools.pip();
    // A wheel runs in any python; an installed pip has to be told for whom (`--python`, pip 22.3).
    let (program, version) = match bench.tools.pip_wheel_version() {
        Some(version) => (&inner, version),
        None => {
            let mut ask = arguments.clone();
            ask.push("--version".into());
            // `pip 23.0.1 from …`
            let answer = bench.ask(job("pip", &python, ask))?;
            arguments.extend(["--python".into(), inner.clone().into()]);
            (&python, answer.split(' ').nth(1).unwrap_or("unknown").to_owned())
        }
    };
    arguments.extend(words(&[
        "install",
        "--progress-bar=off",
        "--no-deps",
        "--no-index",
        "--no-compile",
    ]));
    arguments.extend(words(&[
        "--no-warn-script-location",
        "--only-binary=:all:",
        "--require-hashes",
    ]));
    arguments.extend(words(&[
        "--find-links",
        "/dev/shm/wheels",
        "-r",
        "/dev/shm/input/requirements.txt",
    ]));
    let install = job("pip", program, arguments);
    Ok((version, vec![make, install]))
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn job(name: &'static str, program: &Path, arguments: Vec<OsString>) -> Job {
    Job {
        name,
        program: program.to_owned(),
        arguments,
        environment: environment(),
    }
}

/// Nothing of the caller's: an install step has all that it needs.
fn environment() -> Vec<(OsString, OsString)> {
    [
        // Time stamps and paths of the build host would make equal builds differ.
        ("UV_NO_INSTALLER_METADATA", "1".to_owned()),
        ("UV_CACHE_DIR", format!("{INSIDE}/cache")),
        ("PIP_CONFIG_FILE", "/dev/null".to_owned()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec()
}
