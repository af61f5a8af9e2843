//! Making a lock from packages and constraints: whichever tool there is, what comes out is the same kind of text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use venvd_fs::{IoContext, atomic};

use super::Bench;
use super::confine::{INSIDE, Job};
use super::fetch::{index_arguments, is_offline, local_places};
use super::local::sha256;
use super::sdist;
use super::tools::Installer;
use crate::error::{Error, Step};
use crate::lock::{Format, Inputs, Lock};

/// Resolves the packages of an app to a lock.
pub(super) fn resolve(bench: &mut Bench<'_>, inputs: &Inputs) -> Result<Lock, Error> {
    let input = bench.staging.input();
    atomic::write(
        &input.join("packages.txt"),
        inputs.packages.join("\n").as_bytes(),
        0o644,
    )?;
    for (number, text) in inputs.constraints.iter().enumerate() {
        atomic::write(&input.join(format!("constraints-{number}.txt")), text.as_bytes(), 0o644)?;
    }
    let lines = match &bench.tools.installer {
        // Which of a distribution's files a hash is of, only pip says.
        Installer::Uv(uv) if bench.request.app.build.sdists.is_empty() => {
            let uv = uv.clone();
            with_uv(bench, &uv, inputs)?
        }
        Installer::Uv(_) | Installer::Pip => with_pip(bench, inputs)?,
    };
    let text = format!("{}{lines}", inputs.header());
    Ok(Lock::parse(
        Path::new("the lock that was made"),
        Format::Requirements,
        text,
    )?)
}

fn constraints(inputs: &Inputs) -> impl Iterator<Item = OsString> {
    (0..inputs.constraints.len())
        .flat_map(|number| ["-c".into(), format!("/dev/shm/input/constraints-{number}.txt").into()])
}

fn with_uv(bench: &mut Bench<'_>, uv: &Path, inputs: &Inputs) -> Result<String, Error> {
    let mut arguments: Vec<OsString> = [
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--only-binary=:all:",
    ]
    .map(OsString::from)
    .to_vec();
    arguments.extend(["--no-python-downloads", "--cache-dir"].map(OsString::from));
    arguments.push(format!("{INSIDE}/cache").into());
    arguments.extend(["--python".into(), bench.interpreter.path.clone().into()]);
    arguments.extend(constraints(inputs));
    arguments.extend(index_arguments(bench, "--default-index"));
    arguments.extend([
        "-o".into(),
        format!("{INSIDE}/lock.txt").into(),
        "/dev/shm/input/packages.txt".into(),
    ]);
    let job = Job {
        name: "uv",
        program: uv.to_owned(),
        arguments,
        environment: bench.request.environment.clone(),
    };
    let phase = bench.phase(Step::Lock)?;
    String::from_utf8(
        bench
            .run(phase, &[job])
            .map_err(|error| error.hint_at_files(is_offline(bench)))?
            .read("lock.txt")?,
    )
    .map_err(|error| std::io::Error::other(error.utf8_error()))
    .at("read", Path::new("the lock that uv made"))
    .map_err(Error::Io)
}

/// What `pip install --report` says, as far as it matters.
#[derive(Deserialize)]
struct Report {
    install: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    download_info: DownloadInfo,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct DownloadInfo {
    url: String,
    archive_info: Option<ArchiveInfo>,
}

#[derive(Deserialize, Default)]
struct ArchiveInfo {
    /// The older form, `sha256=…`.
    hash: Option<String>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

fn with_pip(bench: &mut Bench<'_>, inputs: &Inputs) -> Result<String, Error> {
    let mut arguments = bench.tools.pip();
    // With a target of its own, pip does not ask whether the system's environment is "externally managed".
    arguments.extend(
        [
            "install",
            "--progress-bar=off",
            "--dry-run",
            "--ignore-installed",
            "--use-pep517",
            "--target",
        ]
        .map(OsString::from),
    );
    arguments.push(format!("{INSIDE}/target").into());
    arguments.extend(sdist::format_options(bench));
    arguments.extend(["--report".into(), format!("{INSIDE}/report.json").into()]);
    arguments.extend(constraints(inputs));
    arguments.extend(index_arguments(bench, "--index-url"));
    arguments.extend(["-r".into(), "/dev/shm/input/packages.txt".into()]);
    let job = Job {
        name: "pip",
        program: bench.interpreter.path.clone(),
        arguments,
        environment: bench.request.environment.clone(),
    };
    let phase = bench.phase(Step::Lock)?;
    let report = bench
        .run(phase, &[job])
        .map_err(|error| error.hint_at_files(is_offline(bench)))?
        .read("report.json")?;
    let report: Report = serde_json::from_slice(&report)
        .map_err(std::io::Error::from)
        .at("read", Path::new("the report that pip made"))?;
    let places = local_places(bench);
    let mut lines = Vec::new();
    for Item {
        metadata,
        download_info,
    } in report.install
    {
        let hash = hash_of(download_info, &places)?;
        lines.push(format!(
            "{}=={} --hash=sha256:{hash}\n",
            metadata.name, metadata.version
        ));
    }
    lines.sort();
    Ok(lines.concat())
}

/// Returns the sha256 that pip found, or that of the local wheel it chose, for which it says none.
fn hash_of(download: DownloadInfo, places: &[(PathBuf, PathBuf)]) -> Result<String, Error> {
    let ArchiveInfo { hash, mut hashes } = download.archive_info.unwrap_or_default();
    let old_form = || {
        hash.as_deref()
            .and_then(|hash| hash.strip_prefix("sha256="))
            .map(str::to_owned)
    };
    if let Some(hash) = hashes.remove("sha256").or_else(old_form) {
        return Ok(hash);
    }
    let local = places.iter().find_map(|(host, inside)| {
        let name = download
            .url
            .strip_prefix("file://")?
            .strip_prefix(inside.to_str()?)?
            .strip_prefix('/')?;
        (!name.contains('/')).then(|| host.join(name.replace("%2B", "+").replace("%21", "!")))
    });
    match local {
        Some(path) => Ok(sha256(&path)?),
        None => {
            let error = std::io::Error::other("the index gives no sha256 for it; make the lock by other means");
            Err(error).at("lock", Path::new(&download.url)).map_err(Error::Io)
        }
    }
}
