//! Is every component of a path in trusted hands?
//!
//! Root executes what lies below a venv, and sudo executes it for others, so one directory that somebody else can
//! write to, anywhere between `/` and the file, is as good as a root shell for him. What a user's own services run may
//! be the user's as well, but nobody else's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::Root;
use crate::error::{Error as FsError, IoContext};

/// As the kernel's `MAXSYMLINKS`, see `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// Who may own what is believed: root, and for what is a user's own also that user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    user: u32,
}

impl Owners {
    /// Root alone.
    pub const ROOT: Self = Self { user: 0 };

    /// Returns root and a user.
    #[must_use]
    pub fn root_and(user: u32) -> Self {
        Self { user }
    }

    /// Returns root and the user that this process runs as: who could do no more with what he is tricked into.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::root_and(nix::unistd::geteuid().as_raw())
    }

    /// Returns the one who may own it besides root, or root.
    #[must_use]
    pub fn user(self) -> u32 {
        self.user
    }

    /// Returns whether this user is one of them.
    #[must_use]
    pub fn admit(self, uid: u32) -> bool {
        uid == 0 || uid == self.user
    }
}

impl std::fmt::Display for Owners {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.user {
            0 => formatter.write_str("only root may own it (chown root:root it)"),
            user => write!(formatter, "only root or user {user} may own it (chown it)"),
        }
    }
}

/// Why a path is not safe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A component could not be looked at.
    #[error(transparent)]
    Io(#[from] FsError),
    /// Somebody who may not owns a component.
    #[error("{}belongs to user {uid}; {owners}", named(.component, .path))]
    Owner {
        /// The path that was asked about.
        path: PathBuf,
        /// The component at fault.
        component: PathBuf,
        /// Its owner.
        uid: u32,
        /// Who may own it.
        owners: Owners,
    },
    /// Group or others can write to a component.
    #[error(
        "{}can be written by others than its owner (mode {mode:04o}; chmod go-w it)",
        named(.component, .path)
    )]
    Writable {
        /// The path that was asked about.
        path: PathBuf,
        /// The component at fault.
        component: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too many symbolic links.
    #[error("too many symbolic links on the way to {path:?}")]
    Loop {
        /// The path that was asked about.
        path: PathBuf,
    },
}

impl Error {
    /// Returns the component at fault, where there is one.
    #[must_use]
    pub fn component(&self) -> Option<&Path> {
        match self {
            Self::Owner { component, .. } | Self::Writable { component, .. } => Some(component),
            Self::Io(_) | Self::Loop { .. } => None,
        }
    }
}

/// Names a component, and whose it is unless it is the path itself.
fn named(component: &Path, path: &Path) -> String {
    if component == path {
        format!("{component:?} ")
    } else {
        format!("{component:?}, on the way to {path:?}, ")
    }
}

/// Checks every component from the root to `path`, which is a path of the host, through symbolic links.
///
/// Each must be owned by one of `owners` and not be writable by group or others. Returns where the path leads, as a path of the host, without any link.
///
/// # Errors
/// The first component at fault, or that one is missing.
pub fn check(root: &Root, owners: Owners, path: &Path) -> Result<PathBuf, Error> {
    let mut pending: Vec<OsString> = reversed(path);
    let mut walked = PathBuf::from("/");
    let mut links = 0;
    check_one((root, owners), &walked, path)?;
    while let Some(name) = pending.pop() {
        if name == ".." {
            walked.pop();
            continue;
        }
        walked.push(&name);
        if !check_one((root, owners), &walked, path)? {
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Error::Loop { path: path.to_owned() });
        }
        let on_disk = root.join(&walked);
        let target = fs::read_link(&on_disk).at("read the link", &on_disk)?;
        walked.pop();
        if target.is_absolute() {
            walked = PathBuf::from("/");
        }
        pending.extend(reversed(&target));
    }
    Ok(walked)
}

/// Checks one component; returns whether it is a symbolic link.
fn check_one((root, owners): (&Root, Owners), component: &Path, path: &Path) -> Result<bool, Error> {
    let on_disk = root.join(component);
    let metadata = fs::symlink_metadata(&on_disk).at("look at", &on_disk)?;
    let uid = metadata.uid();
    if !owners.admit(uid) {
        return Err(Error::Owner {
            path: path.to_owned(),
            component: component.to_owned(),
            uid,
            owners,
        });
    }
    if metadata.is_symlink() {
        // A link's own mode is always 0777 and means nothing.
        return Ok(true);
    }
    // With an ACL, the group bits show its mask, so a writable ACL entry is seen here too: acl(5).
    if metadata.mode() & 0o022 != 0 {
        return Err(Error::Writable {
            path: path.to_owned(),
            component: component.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    Ok(false)
}

fn reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn tree() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/file"), "").unwrap();
        let root = Root::at(directory.path());
        (directory, root)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn accepts_a_clean_path_and_resolves_links() {
        let (directory, root) = tree();
        symlink("/a", directory.path().join("link")).unwrap();
        assert_eq!(
            check(&root, Owners::of_this_process(), Path::new("/link/b/file")).unwrap(),
            Path::new("/a/b/file")
        );
    }

    #[test]
    fn refuses_each_writable_component() {
        for component in ["", "a", "a/b", "a/b/file"] {
            for mode in [0o775, 0o757, 0o1777] {
                let (directory, root) = tree();
                chmod(&directory.path().join(component), mode);
                let error = check(&root, Owners::of_this_process(), Path::new("/a/b/file")).unwrap_err();
                assert!(
                    matches!(&error, Error::Writable { component: at, .. } if *at == Path::new("/").join(component)),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn names_the_path_once_where_it_is_itself_at_fault() {
        let (directory, root) = tree();
        chmod(&directory.path().join("a/b"), 0o775);
        let said = |path: &str| {
            check(&root, Owners::of_this_process(), Path::new(path))
                .unwrap_err()
                .to_string()
        };
        assert!(said("/a/b").starts_with("\"/a/b\" can be written"));
        assert!(said("/a/b/file").starts_with("\"/a/b\", on the way to \"/a/b/file\", can be written"));
    }

    #[test]
    fn refuses_another_owner_also_behind_a_link() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (directory, root) = tree();
        symlink("a", directory.path().join("link")).unwrap();
        chown(directory.path().join("a/b"), Some(12345), None).unwrap();
        let error = check(&root, Owners::of_this_process(), Path::new("/link/b/file")).unwrap_err();
        assert!(matches!(error, Error::Owner { uid: 12345, .. }), "{error}");
    }

    #[test]
    fn a_users_own_path_is_safe_for_that_user_alone() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (directory, root) = tree();
        chown(directory.path().join("a/b"), Some(12345), None).unwrap();
        let as_seen_by = |owners| check(&root, owners, Path::new("/a/b/file"));
        assert!(as_seen_by(Owners::root_and(12345)).is_ok());
        for (owners, said) in [
            (Owners::ROOT, "only root may"),
            (Owners::root_and(1), "only root or user 1 may"),
        ] {
            let error = as_seen_by(owners).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn refuses_loops_and_missing_parts() {
        let (directory, root) = tree();
        symlink("loop", directory.path().join("loop")).unwrap();
        assert!(matches!(
            check(&root, Owners::of_this_process(), Path::new("/loop")),
            Err(Error::Loop { .. })
        ));
        assert!(matches!(
            check(&root, Owners::of_this_process(), Path::new("/missing")),
            Err(Error::Io(_))
        ));
    }
}
