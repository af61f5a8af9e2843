//! Getting the wheels of a lock. No code of any package runs here: wheels are only fetched and hashed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use venvd_app::definition::Index;
use venvd_fs::beneath::{self, Choice, Kind};
use venvd_fs::{IoContext, atomic};

use super::confine::{INSIDE, Job, Network};
use super::{Bench, Stage};
use crate::error::{Error, Step};
use crate::lock::{Lock, Pinned, normalise};

/// Fills the wheels directory with what the lock demands.
pub(super) fn fetch(bench: &mut Bench<'_>, lock: &Lock) -> Result<(), Error> {
    let index = &bench.request.app.build.index;
    let is_local = index.find_links.iter().all(|place| place.starts_with('/'));
    if bench.request.offline || (index.no_index && is_local) {
        bench.progress.report(Stage::Download, "from local wheels");
        let places: Vec<PathBuf> = local_places(bench).into_iter().map(|(host, _)| host).collect();
        return collect(&places, lock, &bench.staging.wheels());
    }
    download(bench)?;
    // What the downloader left becomes root's own before root looks into it.
    let from = bench.staging.work().join("download");
    let mut wheels_only = |path: &Path, kind: Kind| match path.extension() {
        Some(extension) if kind == Kind::File && extension == "whl" => Choice::Copy,
        _ => Choice::Skip,
    };
    beneath::copy_tree(&from, &bench.staging.wheels(), &mut wheels_only)?;
    Ok(())
}

fn download(bench: &mut Bench<'_>) -> Result<(), Error> {
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
    arguments.push(format!("{INSIDE}/download").into());
    arguments.extend(["-r".into(), "/dev/shm/input/requirements.txt".into()]);
    arguments.extend(index_arguments(bench, "--index-url"));
    let job = Job {
        step: Step::Download,
        stage: Stage::Download,
        network: Network::Host,
        program: bench.interpreter.path.clone(),
        arguments,
        environment: bench.request.environment.clone(),
    };
    bench.run(&job)
}

/// Returns the arguments that say where distributions come from.
pub(super) fn index_arguments(bench: &Bench<'_>, url_option: &str) -> Vec<OsString> {
    let Index {
        url,
        no_index,
        find_links,
    } = &bench.request.app.build.index;
    let offline = *no_index || bench.request.offline;
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
    let places = bench
        .request
        .app
        .build
        .index
        .find_links
        .iter()
        .filter(|place| place.starts_with('/'));
    places
        .enumerate()
        .map(|(number, place)| {
            (
                bench.layout.on_disk(place.as_str()),
                format!("/dev/shm/links-{number}").into(),
            )
        })
        .collect()
}

/// Copies the wheels that a lock demands from local directories, by their hashes.
fn collect(places: &[PathBuf], lock: &Lock, wheels: &Path) -> Result<(), Error> {
    let candidates = candidates(places, lock)?;
    let hashed: Vec<(String, PathBuf)> = candidates
        .into_par_iter()
        .map(|path| Ok((sha256(&path)?, path)))
        .collect::<Result<_, venvd_fs::Error>>()?;
    let by_hash: BTreeMap<String, PathBuf> = hashed.into_iter().collect();
    let mut missing = Vec::new();
    for pinned in &lock.requirements {
        let found: Vec<_> = pinned
            .hashes
            .iter()
            .filter_map(|hash| by_hash.get_key_value(hash))
            .collect();
        // What a marker excludes here need not be there; the installer knows.
        if found.is_empty() && pinned.marker.is_none() {
            missing.push(format!("{}=={}", pinned.name, pinned.version));
        }
        for (hash, path) in found {
            copy_verified(path, wheels, hash)?;
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let places = places.iter().map(|place| place.display().to_string()).collect();
    Err(Error::MissingWheels { places, missing })
}

fn candidates(places: &[PathBuf], lock: &Lock) -> Result<Vec<PathBuf>, venvd_fs::Error> {
    let names: std::collections::BTreeSet<&str> = lock
        .requirements
        .iter()
        .map(|Pinned { name, .. }| name.as_str())
        .collect();
    let mut candidates = Vec::new();
    for place in places {
        for entry in fs::read_dir(place).at("list", place)? {
            let path = entry.at("list", place)?.path();
            let file_name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some((name, _)) = file_name.split_once('-').filter(|_| file_name.ends_with(".whl")) else {
                continue;
            };
            if names.contains(normalise(name).as_str()) {
                candidates.push(path);
            }
        }
    }
    Ok(candidates)
}

/// Copies a wheel, and believes the copy only by its own hash.
fn copy_verified(path: &Path, wheels: &Path, expected: &str) -> Result<(), Error> {
    let target = wheels.join(path.file_name().unwrap_or_default());
    if target.exists() {
        return Ok(());
    }
    let mut file = File::create_new(&target).at("create", &target)?;
    let hash = hash_while(path, &mut |chunk| file.write_all(chunk).at("write", &target))?;
    if hash == expected {
        return Ok(());
    }
    Err(io::Error::other("it changed while it was read"))
        .at("copy", path)
        .map_err(Error::Io)
}

/// Returns the sha256 of a file, in hex.
pub(super) fn sha256(path: &Path) -> Result<String, venvd_fs::Error> {
    hash_while(path, &mut |_| Ok(()))
}

fn hash_while(
    path: &Path,
    with: &mut dyn FnMut(&[u8]) -> Result<(), venvd_fs::Error>,
) -> Result<String, venvd_fs::Error> {
    let mut file = File::open(path).at("open", path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut chunk).at("read", path)?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
            break;
        };
        hasher.update(read);
        with(read)?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes what the steps read: the lock, as requirements.
pub(super) fn write_requirements(bench: &Bench<'_>, lock: &Lock) -> Result<(), Error> {
    let path = bench.staging.input().join("requirements.txt");
    atomic::write(&path, lock.render().as_bytes(), 0o644)?;
    Ok(())
}
