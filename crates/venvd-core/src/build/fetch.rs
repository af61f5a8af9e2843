//! Getting the wheels of a lock. No code of any package runs here: wheels are only fetched and hashed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use venvd_app::definition::Index;
use venvd_fs::atomic;
use venvd_fs::beneath::{Choice, Kind};

use super::confine::{Job, Left};
use super::local::{self, LocalFiles, WHEEL};
use super::{Bench, Stage};
use crate::error::{Error, Step};
use crate::lock::{Lock, Pinned, render};

/// Fills the wheels directory with what the lock demands as wheels.
pub(super) fn fetch(bench: &mut Bench<'_>, wanted: &[&Pinned]) -> Result<(), Error> {
    let places: Vec<PathBuf> = local_places(bench).into_iter().map(|(host, _)| host).collect();
    let local = LocalFiles::look(&places, wanted, &WHEEL)?;
    let wheels = bench.staging.wheels();
    if bench.offline() {
        bench.progress.report(Stage::Download, "from local wheels");
        return local.take_all(wanted, &wheels);
    }
    // What lies here needs no network: a mirror that has everything is never asked past.
    let rest = local.take_fitting(bench.interpreter, wanted, &wheels)?;
    if rest.is_empty() {
        return Ok(());
    }
    atomic::write(
        &bench.staging.input().join("download.txt"),
        render(&rest).as_bytes(),
        0o644,
    )?;
    bench.expect(Stage::Download, rest.len());
    let left = download(bench)?;
    // What the downloader left becomes root's own before root looks into it.
    let mut new = Vec::new();
    let mut new_wheels = |path: &Path, kind: Kind| match path.extension() {
        Some(extension) if kind == Kind::File && extension == "whl" && !wheels.join(path).exists() => {
            new.push(wheels.join(path));
            Choice::Copy
        }
        _ => Choice::Skip,
    };
    left.take("download", &wheels, &mut new_wheels)?;
    local::verify_all(&new, &rest)
}

fn download(bench: &mut Bench<'_>) -> Result<Left, Error> {
    let phase = bench.phase(Step::Download)?;
    let target = phase.directory("download")?;
    let mut arguments = bench.tools.pip();
    arguments.extend(
        [
            "download",
            "--progress-bar=off",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "-d",
        ]
        .map(OsString::from),
    );
    arguments.push(target.into());
    arguments.extend(["-r".into(), "/dev/shm/input/download.txt".into()]);
    arguments.extend(index_arguments(bench, "--index-url"));
    let job = Job {
        name: "pip",
        program: bench.interpreter.path.clone(),
        arguments,
        environment: bench.request.environment.clone(),
    };
    bench
        .run(phase, &[job])
        .map_err(|error| error.hint_at_files(is_offline(bench)))
}

/// Returns whether no index may be asked.
pub(super) fn is_offline(bench: &Bench<'_>) -> bool {
    bench.request.app.build.index.no_index || bench.request.offline
}

/// Returns the arguments that say where distributions come from.
pub(super) fn index_arguments(bench: &Bench<'_>, url_option: &str) -> Vec<OsString> {
    let Index { url, find_links, .. } = &bench.request.app.build.index;
    let offline = is_offline(bench);
    let mut arguments: Vec<OsString> = Vec::new();
    match url {
        Some(url) if !offline => arguments.extend([url_option.into(), url.as_str().into()]),
        _ if offline => arguments.push("--no-index".into()),
        _ => {}
    }
    let remote = find_links
        .iter()
        .filter(|place| !place.starts_with('/') && !bench.request.offline);
    let remote = remote.map(|place| PathBuf::from(place.as_str()));
    let local = local_places(bench).into_iter().map(|(_, inside)| inside);
    for place in remote.chain(local) {
        arguments.extend(["--find-links".into(), place.into()]);
    }
    arguments
}

/// Returns the local places for wheels: on disk, and as they are shown to confined programs.
pub(super) fn local_places(bench: &Bench<'_>) -> Vec<(PathBuf, PathBuf)> {
    let declared = bench.request.app.build.index.find_links.iter();
    let declared = declared
        .filter(|place| place.starts_with('/'))
        .map(|place| bench.layout.on_disk(place.as_str()));
    declared
        .chain(bench.request.find_links.iter().cloned())
        .enumerate()
        .map(|(number, host)| (host, format!("/dev/shm/links-{number}").into()))
        .collect()
}

/// Writes what the steps read: the lock, as requirements.
pub(super) fn write_requirements(bench: &Bench<'_>, lock: &Lock) -> Result<(), Error> {
    let path = bench.staging.input().join("requirements.txt");
    atomic::write(&path, lock.render().as_bytes(), 0o644)?;
    Ok(())
}
