//! Is the manifest one that can be believed, and is it this venv's?

use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Component, Path};

use venvd_app::links::VenvPath;
use venvd_fs::report;

use super::finding::{Code, Finding};
use crate::below::Below;
use crate::lock::Lock;
use crate::manifest::{Link, Manifest, ManifestError, PATH};

/// Returns what is said of something in a venv's place that is no directory.
pub(super) fn no_directory(metadata: &Metadata) -> Finding {
    let what = if metadata.is_symlink() {
        "is a symbolic link"
    } else if metadata.is_file() {
        "is a file"
    } else {
        "is neither file nor directory"
    };
    Finding::of(
        Code::NotSealed,
        "",
        format!("{what}, no venv: a sealed venv is a directory"),
    )
}

/// Reads the manifest, through no link.
pub(super) fn load(directory: &Path) -> Result<Manifest, Finding> {
    let not_sealed = |message: String| Finding::of(Code::NotSealed, PATH, message);
    let read = || Below::open(directory)?.read(PATH, u64::MAX);
    let bytes = read().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            not_sealed("is not there: this venv was never sealed, or is damaged".to_owned())
        }
        _ => not_sealed(format!("can't be read: {error}")),
    })?;
    Manifest::parse(&bytes).map_err(|error| match error {
        ManifestError::Invalid { reason } => not_sealed(format!("is no manifest: {reason}")),
        error => not_sealed(report(&error)),
    })
}

/// Checks that a manifest belongs to its place and does not contradict itself.
pub(crate) fn check(venv: &VenvPath, manifest: &Manifest) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let name = venv.name();
    if manifest.app != *name.app() || manifest.tag != *name.tag() {
        wrong.push(format!(
            "it is that of {}:{}, but lies in the place of {name}: a venv can't be copied or renamed by hand, \
             `venvctl install` does it",
            manifest.app, manifest.tag
        ));
    }
    wrong.extend(paths(manifest));
    wrong.extend(
        manifest
            .files
            .iter()
            .filter(|file| !matches!(file.mode, 0o644 | 0o755))
            .map(|file| {
                format!(
                    "it gives {} mode {:04o}; only 0644 and 0755 are sealed",
                    file.path, file.mode
                )
            }),
    );
    wrong.extend(manifest.links.iter().filter_map(|link| leads_out(manifest, link)));
    wrong.extend(programs(manifest));
    wrong
        .into_iter()
        .map(|message| Finding::of(Code::Manifest, PATH, message))
        .collect()
}

/// Each path is one of its own, within the venv.
fn paths(manifest: &Manifest) -> Vec<String> {
    let files = manifest.files.iter().map(|file| file.path.as_str());
    let links = manifest.links.iter().map(|link| link.path.as_str());
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    for path in files.chain(links) {
        let plain = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain || path.chars().any(char::is_control) || path.starts_with(".venvd/") {
            wrong.push(format!("it lists {path:?}, which is no path within a venv"));
        }
        if !seen.insert(path) {
            wrong.push(format!("it lists {path} twice"));
        }
    }
    wrong
}

/// Links lead to something in the venv, to the interpreter, or are those of a host module.
fn leads_out(manifest: &Manifest, link: &Link) -> Option<String> {
    let of_host_module = manifest
        .host_modules
        .iter()
        .any(|module| module.links.contains(&link.path));
    if of_host_module || link.target == manifest.python.interpreter {
        return None;
    }
    let mut depth = Path::new(&link.path).components().count().saturating_sub(1);
    for component in link.target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::CurDir => {}
            _ => {
                return Some(format!(
                    "its link {} leads out of the venv, to {:?}",
                    link.path, link.target
                ));
            }
        }
    }
    None
}

/// Checks that the digest by which builds know a tag's content is that of the lock beside it.
pub(crate) fn digest(manifest: &Manifest) -> Option<Finding> {
    let wrong = |message| Some(Finding::of(Code::Manifest, PATH, message));
    let record = &manifest.lock;
    let lock = match Lock::parse(Path::new(PATH), record.format, record.text.clone()) {
        Ok(lock) => lock,
        Err(error) => return wrong(format!("the lock in it is none: {}", report(&error))),
    };
    let modules: Vec<&str> = manifest.host_modules.iter().map(|module| &*module.name).collect();
    let digest = lock.digest_for(&manifest.python, &manifest.platform, &modules);
    if digest == record.digest {
        return None;
    }
    wrong(format!(
        "its lock, python, platform and host modules have the digest {digest}, but it says {:?}",
        record.digest
    ))
}

fn programs(manifest: &Manifest) -> Option<String> {
    let listed: HashSet<&str> = manifest.programs.iter().map(|program| program.as_str()).collect();
    let files = manifest.files.iter().filter(|file| file.mode == 0o755);
    let there: HashSet<&str> = files
        .filter_map(|file| file.path.strip_prefix("bin/"))
        .filter(|name| name.parse::<venvd_app::ProgramName>().is_ok())
        .collect();
    let mut differ: Vec<&str> = listed.symmetric_difference(&there).copied().collect();
    differ.sort_unstable();
    (!differ.is_empty()).then(|| format!("its list of programs does not fit its files: {}", differ.join(", ")))
}
