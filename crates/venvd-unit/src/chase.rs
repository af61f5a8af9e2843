//! Symlinks below a root: systemd's `chase_symlinks()`. A link never leads out of the root.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as systemd follows on one path (`CHASE_SYMLINKS_MAX`).
const LINKS_MAX: usize = 32;

/// What open(2) says of too many links; the standard library has no stable name for it.
const ELOOP: i32 = 40;

/// Whether a link in the last place is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Follow,
    Keep,
}

/// Returns where the host's `path` is below `root`.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    let mut joined = root.to_owned();
    joined.extend(path.components().filter(|part| matches!(part, Component::Normal(_))));
    joined
}

/// Resolves the links in the host's absolute `path`, read below `root`. Parts that do not exist stay as they are.
///
/// # Errors
/// When there are too many links, a directory can't be read or is none, or `..` comes after a part that is not there.
pub(crate) fn chase(root: &Path, path: &Path, last: Last) -> io::Result<PathBuf> {
    let mut done = PathBuf::from("/");
    let mut todo: Vec<OsString> = parts(path).collect();
    todo.reverse();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            done.pop();
            continue;
        }
        done.push(&part);
        if todo.is_empty() && last == Last::Keep {
            break;
        }
        let target = match std::fs::read_link(below(root, &done)) {
            Ok(target) => target,
            // EINVAL: not a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
            // Nobody knows what would be above something that is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && todo.iter().all(|part| part != "..") => continue,
            Err(error) => return Err(error),
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::from_raw_os_error(ELOOP));
        }
        done.pop();
        if target.is_absolute() {
            done = PathBuf::from("/");
        }
        let mut more: Vec<OsString> = parts(&target).collect();
        more.reverse();
        todo.extend(more);
    }
    Ok(done)
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("usr/lib/systemd")).unwrap();
        std::fs::create_dir_all(at("etc")).unwrap();
        symlink("usr/lib", at("lib")).unwrap();
        symlink("/lib/systemd/x", at("etc/x")).unwrap();
        symlink("../../../../lib/y", at("etc/up")).unwrap();
        symlink("loop", at("etc/loop")).unwrap();
        for (path, last, want) in [
            ("/lib/systemd/x", Last::Follow, "/usr/lib/systemd/x"),
            ("/etc/x", Last::Follow, "/usr/lib/systemd/x"),
            ("/etc/x", Last::Keep, "/etc/x"),
            ("/etc/./up", Last::Follow, "/usr/lib/y"),
            ("/nowhere/a/b", Last::Follow, "/nowhere/a/b"),
            ("/../..", Last::Follow, "/"),
        ] {
            assert_eq!(
                chase(root.path(), Path::new(path), last).unwrap(),
                Path::new(want),
                "{path}"
            );
        }
        std::fs::write(at("etc/file"), "x").unwrap();
        for path in ["/etc/loop", "/nowhere/a/../b", "/etc/file/x"] {
            assert!(chase(root.path(), Path::new(path), Last::Follow).is_err(), "{path}");
        }
    }
}
