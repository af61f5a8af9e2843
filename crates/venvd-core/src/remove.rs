//! Removing a venv that nothing needs any more.

use std::fs;
use std::path::Path;

use venvd_app::links::{self, Link, VenvPath};
use venvd_app::{Layout, VenvName};
use venvd_fs::lock::Lock;
use venvd_fs::{IoContext, atomic};

use crate::error::Error;

/// How many processes an error names.
const NAMED_PROCESSES: usize = 5;

/// Removes a venv that was built on this host.
///
/// It vanishes by one rename, so that a crash leaves it whole or gone, never half.
///
/// # Errors
/// When it is linked, in use by a process, or not there.
pub fn remove(layout: &Layout, name: &VenvName) -> Result<(), Error> {
    let _lock = Lock::exclusive(&layout.store_lock())?;
    let venv = VenvPath::local(name.clone());
    let directory = layout.venv(name);
    if fs::symlink_metadata(&directory).is_err() {
        return Err(Error::NoSuchVenv { venv: name.clone() });
    }
    for (link, role) in [
        (Link::Active, "active"),
        (Link::Committed, "committed"),
        (Link::Previous, "previous"),
    ] {
        if links::read(layout, link, name.app())?.as_ref() == Some(&venv) {
            return Err(Error::Linked {
                venv: name.clone(),
                role,
            });
        }
    }
    // Until it is over, the way back may be a venv that no link leads to, and that nothing runs from.
    let pending = layout.pending(name.app());
    match fs::symlink_metadata(&pending) {
        Ok(_) => return Err(Error::Pending { venv: name.clone() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).at("look at", &pending)?,
    }
    let processes = users(&directory)?;
    if !processes.is_empty() {
        return Err(Error::InUse {
            venv: name.clone(),
            processes,
        });
    }
    let staging = layout.staging();
    atomic::create_directories(&staging, 0o711)?;
    let grave = tempfile::Builder::new()
        .prefix(&format!("removed-{}-{}.", name.app(), name.tag()))
        .tempdir_in(&staging)
        .at("create a directory in", &staging)?;
    atomic::rename_new(&directory, &grave.path().join("venv"))?;
    let path = grave.path().to_owned();
    grave.close().at("remove", &path)?;
    // The app's directory goes with its last venv; that it is not empty is the usual case.
    if let Some(parent) = directory.parent() {
        match fs::remove_dir(parent) {
            Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                return Err(error).at("remove", parent)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the processes that run from `directory`: by executable, mapping, working directory, arguments or environment.
///
/// The executable of a venv's Python is the host's, so the arguments (`<venv>/bin/python <venv>/bin/nova-api`) and
/// `VIRTUAL_ENV` say more than `/proc/PID/exe`.
fn users(directory: &Path) -> Result<Vec<String>, Error> {
    let proc = Path::new("/proc");
    let mut users = Vec::new();
    for entry in fs::read_dir(proc).at("list", proc)? {
        let entry = entry.at("list", proc)?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid != std::process::id() && uses(&entry.path(), directory) {
            // A process that ended meanwhile has no name any more.
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            users.push(format!("{} ({pid})", name.trim_end()));
        }
        if users.len() == NAMED_PROCESSES {
            break;
        }
    }
    Ok(users)
}

/// Whatever can't be read of a process belongs to one that has just ended: proc(5).
fn uses(process: &Path, directory: &Path) -> bool {
    let leads_in = |link: &str| fs::read_link(process.join(link)).is_ok_and(|target| target.starts_with(directory));
    let prefix = format!("{}/", directory.display());
    let maps = || fs::read_to_string(process.join("maps")).is_ok_and(|maps| maps.contains(&format!(" {prefix}")));
    let arguments = || {
        strings(&process.join("cmdline"))
            .iter()
            .any(|word| word.starts_with(&format!("{prefix}bin/")))
    };
    let variable = format!("VIRTUAL_ENV={}", directory.display());
    let environment = || strings(&process.join("environ")).contains(&variable);
    leads_in("exe") || leads_in("cwd") || leads_in("root") || arguments() || environment() || maps()
}

fn strings(path: &Path) -> Vec<String> {
    fs::read(path)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}
