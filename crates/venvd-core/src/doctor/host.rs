//! File systems, space, leftovers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use venvd_app::Layout;

use super::{Diagnosis, is_there};
use crate::build::staging;

/// What a build of a larger service needs at least; below it the next one is likely to fail.
const LITTLE: u64 = 1 << 30;

/// A larger service has 20,000 files with its bytecode, and its build twice as many.
const FEW_FILES: u64 = 50_000;

pub(super) fn examine(layout: &Layout, diagnosis: &mut Diagnosis) {
    let venvs = nearest(layout.venvs());
    let etc = nearest(layout.configuration());
    flags(layout, &venvs, FsFlags::ST_NOEXEC, diagnosis);
    flags(layout, &venvs, FsFlags::ST_RDONLY, diagnosis);
    flags(layout, &etc, FsFlags::ST_RDONLY, diagnosis);
    space(layout, &venvs, diagnosis);
    for other in [layout.staging(), layout.store()] {
        same_file_system(layout, &venvs, &other, diagnosis);
    }
    leftovers(layout, diagnosis);
}

/// Returns the nearest directory above that is there.
fn nearest(mut path: PathBuf) -> PathBuf {
    while !is_there(&path) && path.pop() {}
    path
}

fn flags(layout: &Layout, path: &Path, flag: FsFlags, diagnosis: &mut Diagnosis) {
    let about = layout.root().on_host(path).display().to_string();
    match statvfs(path) {
        Ok(status) if status.flags().contains(flag) && flag == FsFlags::ST_NOEXEC => {
            let message = "its file system is mounted noexec: no program of a venv can be started".to_owned();
            let advice = format!("`mount -o remount,exec` it, also in fstab(5), or mount another one at {about}");
            diagnosis.wrong(about, "noexec", (message, advice));
        }
        Ok(status) if status.flags().contains(flag) => {
            let message = "its file system is mounted read-only: nothing can be built or activated".to_owned();
            let advice = "`mount -o remount,rw` it; see `dmesg` for whether an error made it so".to_owned();
            diagnosis.wrong(about, "read-only", (message, advice));
        }
        Ok(_) => {}
        Err(error) => diagnosis.unreadable(about, &std::io::Error::from(error)),
    }
}

fn space(layout: &Layout, path: &Path, diagnosis: &mut Diagnosis) {
    // Told by the flags already.
    let Ok(status) = statvfs(path) else { return };
    let about = layout.root().on_host(path).display().to_string();
    let free = status.blocks_available() * status.fragment_size();
    let advice = || "`venvctl gc --dry-run` shows what can go; or enlarge it".to_owned();
    if free < LITTLE {
        let message = format!(
            "{} MiB are free on its file system: the next build may not fit",
            free >> 20
        );
        diagnosis.note(&about, "space", (message, advice()));
    }
    // Some file systems have no fixed number, and say 0.
    if status.files() > 0 && status.files_available() < FEW_FILES {
        let message = format!(
            "{} inodes are free on its file system: the next build may not fit",
            status.files_available()
        );
        diagnosis.note(&about, "space", (message, advice()));
    }
}

/// A sealed venv is put in place by one rename, and shares files by links: neither crosses file systems.
fn same_file_system(layout: &Layout, venvs: &Path, other: &Path, diagnosis: &mut Diagnosis) {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    if let (Ok(one), Ok(two)) = (device(venvs), device(other))
        && one != two
    {
        let message = format!("is on another file system than {:?}", layout.root().on_host(venvs));
        let advice =
            "keep all of /var/lib/venvd on one file system: builds end with a rename, and files are shared by links";
        diagnosis.wrong(
            layout.root().on_host(other).display(),
            "file-system",
            (message, advice.to_owned()),
        );
    }
}

fn leftovers(layout: &Layout, diagnosis: &mut Diagnosis) {
    match staging::dead(layout) {
        Ok(dead) => {
            for path in dead {
                let advice = "`venvctl gc` removes it; so does the next build".to_owned();
                let message = "was left by a build that did not end".to_owned();
                diagnosis.note(layout.root().on_host(&path).display(), "leftover", (message, advice));
            }
        }
        Err(error) => {
            diagnosis.unreadable(layout.root().on_host(&layout.staging()).display(), &error);
        }
    }
}
