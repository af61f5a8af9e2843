//! Installing wheels into a venv, confined and without network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::confine::{INSIDE, Job, Network};
use super::tools::Installer;
use super::{Bench, Stage};
use crate::error::{Error, Step};
use crate::manifest::BuilderRecord;

/// Where the installer makes the venv.
pub(crate) const VENV: &str = "/dev/shm/venvd/venv";

/// Installs the wheels that lie ready, and returns what installed them.
pub(super) fn install(bench: &mut Bench<'_>) -> Result<BuilderRecord, Error> {
    let (name, version) = match &bench.tools.installer {
        Installer::Uv(uv) => {
            let uv = uv.clone();
            ("uv", with_uv(bench, &uv)?)
        }
        Installer::Pip => ("pip", with_pip(bench)?),
    };
    let venvd = env!("CARGO_PKG_VERSION").to_owned();
    Ok(BuilderRecord {
        name: name.to_owned(),
        version,
        venvd,
    })
}

fn with_uv(bench: &mut Bench<'_>, uv: &Path) -> Result<String, Error> {
    let python = bench.interpreter.path.clone();
    let version = bench.ask(uv, words(&["--version"]))?;
    let mut make = words(&[
        "venv",
        "--no-config",
        "--no-project",
        "--no-python-downloads",
        "--python",
    ]);
    make.extend([python.into(), VENV.into()]);
    step(bench, uv, make)?;
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
        "--link-mode",
        "copy",
    ]));
    sync.extend(words(&[
        "--python",
        &format!("{VENV}/bin/python"),
        "/dev/shm/input/requirements.txt",
    ]));
    step(bench, uv, sync)?;
    // `uv 0.13.9 (…)`
    Ok(version.split(' ').nth(1).unwrap_or("unknown").to_owned())
}

fn with_pip(bench: &mut Bench<'_>) -> Result<String, Error> {
    let python = bench.interpreter.path.clone();
    // `--without-pip`: neither pip nor setuptools is in the venv unless the lock names it, and ensurepip, which
    // distributions put into packages of their own, is not needed.
    step(bench, &python, words(&["-I", "-m", "venv", "--without-pip", VENV]))?;
    let inner = PathBuf::from(format!("{VENV}/bin/python"));
    let mut arguments = bench.tools.pip();
    // A wheel runs in any python; an installed pip has to be told for whom (`--python`, pip 22.3).
    let (program, version) = match bench.tools.pip_wheel_version() {
        Some(version) => (&inner, version),
        None => {
            let mut ask = arguments.clone();
            ask.push("--version".into());
            // `pip 23.0.1 from …`
            let answer = bench.ask(&python, ask)?;
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
    step(bench, program, arguments)?;
    Ok(version)
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn step(bench: &mut Bench<'_>, program: &Path, arguments: Vec<OsString>) -> Result<(), Error> {
    let job = Job {
        step: Step::Install,
        stage: Stage::Install,
        network: Network::None,
        program: program.to_owned(),
        arguments,
        environment: environment(),
    };
    bench.run(&job)
}

/// Nothing of the caller's: an install step has all that it needs.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    [
        // Time stamps and paths of the build host would make equal builds differ.
        ("UV_NO_INSTALLER_METADATA", "1".to_owned()),
        ("UV_CACHE_DIR", format!("{INSIDE}/cache")),
        ("PIP_CONFIG_FILE", "/dev/null".to_owned()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec()
}
