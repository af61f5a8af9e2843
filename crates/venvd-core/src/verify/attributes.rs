//! Owner, mode and extended attributes: what lets others change a venv, or lets it do more than its files say.

use std::os::fd::BorrowedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::finding::{Code, Finding};

/// setuid, setgid, sticky: `inode(7)`.
const SPECIAL: u32 = 0o7000;

const PERMISSIONS: u32 = 0o7777;

const OTHERS_WRITE: u32 = 0o022;

/// Who may own a venv's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Root, or for a tree of one's own its user.
    pub(crate) fn of_this_process() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    fn may_be(self, uid: u32, gid: u32) -> bool {
        (uid == 0 || uid == self.uid) && (gid == 0 || gid == self.gid)
    }
}

/// Adds what is wrong with the owner of something.
pub(super) fn check_owner(path: &str, status: &Stat, owner: Owner, findings: &mut Vec<Finding>) {
    if !owner.may_be(status.st_uid, status.st_gid) {
        let message = format!(
            "belongs to user {} and group {}, not to root; who owns it can change what services run",
            status.st_uid, status.st_gid
        );
        findings.push(Finding::of(Code::Owner, path, message));
    }
}

/// Adds what is wrong with the mode of something.
pub(super) fn check_mode(path: &str, status: &Stat, wanted: u32, findings: &mut Vec<Finding>) {
    let mode = status.st_mode & PERMISSIONS;
    let added = mode & !wanted;
    let (code, what) = if mode == wanted {
        return;
    } else if added & SPECIAL != 0 {
        (Code::Setuid, special(added))
    } else if added & OTHERS_WRITE != 0 {
        (Code::Writable, "can be written by others than root")
    } else {
        (Code::Mode, "has other permissions")
    };
    let message = format!("{what} (mode {mode:04o}, sealed as {wanted:04o})");
    findings.push(Finding::of(code, path, message));
}

fn special(added: u32) -> &'static str {
    if added & 0o4000 != 0 {
        "is setuid"
    } else if added & 0o2000 != 0 {
        "is setgid"
    } else {
        "is sticky"
    }
}

/// Returns whether extended attributes of a file let it, or others, do more than its mode says.
pub(crate) fn adds_rights(file: BorrowedFd<'_>) -> bool {
    let mut findings = Vec::new();
    check_attributes("", file, &mut findings);
    !findings.is_empty()
}

/// Returns whether it is root, or for a tree of one's own its user, whom a file belongs to.
pub(crate) fn is_ours(uid: u32, gid: u32) -> bool {
    Owner::of_this_process().may_be(uid, gid)
}

/// Adds what extended attributes do that the mode does not show.
///
/// Labels of security modules, checksums of integrity measurement and marks of file systems belong to the host, and
/// `user.` attributes have no effect: they are left alone.
pub(super) fn check_attributes(path: &str, file: BorrowedFd<'_>, findings: &mut Vec<Finding>) {
    // One that does not fit is none of a sealed tree's; the usual answer is nothing at all.
    let mut buffer = [0_u8; 1024];
    let length = match rustix::fs::flistxattr(file, &mut buffer) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return,
        Err(Errno::RANGE) => {
            findings.push(Finding::of(Code::Attribute, path, "has very many extended attributes"));
            return;
        }
        Err(error) => {
            let message = format!("its extended attributes can't be read: {error}");
            findings.push(Finding::of(Code::Unreadable, path, message));
            return;
        }
    };
    for name in buffer.get(..length).unwrap_or_default().split(|byte| *byte == 0) {
        let what = match name {
            b"security.capability" => {
                "has file capabilities: who runs it gets rights of root (setcap -r takes them away)"
            }
            b"system.posix_acl_access" => "has an access control list (setfacl -b takes it away)",
            b"system.posix_acl_default" => "hands an access control list to new files in it (setfacl -b takes it away)",
            _ => continue,
        };
        findings.push(Finding::of(Code::Attribute, path, what));
    }
}
