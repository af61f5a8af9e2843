//! What is typed on root's terminal must come from root.
//!
//! A process may push characters into the input of its controlling terminal (`TIOCSTI`, and `TIOCLINUX` on a virtual
//! console, see ioctl_tty(2)); after it ends, root's shell reads them. So before root becomes a service user on a
//! terminal, these two requests are forbidden by a seccomp filter, which no later exec or sudo takes off. Where it can't
//! be loaded (in a container without CAP_SYS_ADMIN) the command gets a terminal of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::error::Error;
use crate::identity::Account;
use crate::system;

mod own;

/// The requests that push input; `TIOCLINUX` has others too, none of them for a service.
const PUSH_BACK: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// Where ioctl(2) takes its request.
const REQUEST_ARGUMENT: u8 = 1;

/// The x32 way into an x86-64 kernel has the same architecture in seccomp's eyes, and numbers of its own for some
/// calls: the bit, and ioctl's number with it, from the kernel's syscall_64.tbl. Older kernels take the common one too.
#[cfg(target_arch = "x86_64")]
const X32_IOCTL: [i64; 2] = [0x4000_0000 + 514, 0x4000_0000 + libc::SYS_ioctl];
#[cfg(not(target_arch = "x86_64"))]
const X32_IOCTL: [i64; 0] = [];

/// Returns whether the command could get at a terminal: one it is given, or the session's, which anyone can open.
fn is_within_reach() -> bool {
    let given = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    // ENXIO is the one answer that means that there is none: tty(4). In doubt there is one.
    let session_has_none = || File::open("/dev/tty").is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO));
    given || !session_has_none()
}

/// Keeps this process, which is about to become somebody else, and all that come from it from pushing input into root's
/// terminal.
///
/// Returns a status to exit with where that took a process of its own, which has ended by then.
pub(crate) fn protect(account: &Account) -> Result<Option<ExitCode>, Error> {
    if !is_within_reach() {
        return Ok(None);
    }
    // With no_new_privs a filter could be had without CAP_SYS_ADMIN, but then sudo and so rootwrap would not work.
    match program()
        .map_err(io::Error::other)
        .and_then(|program| system::load_filter(&program))
    {
        Ok(()) => Ok(None),
        Err(_) => own::start(account).map_err(Error::Terminal),
    }
}

/// Everything is allowed but these requests; a program of a foreign architecture is killed.
fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut requests = Vec::new();
    for request in PUSH_BACK {
        // The kernel looks at the low 32 bits of a request only, so must we.
        let equal = SeccompCondition::new(REQUEST_ARGUMENT, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?;
        requests.push(SeccompRule::new(vec![equal])?);
    }
    // Without rules, a call is forbidden whatever its arguments.
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = X32_IOCTL.map(|number| (number, Vec::new())).into();
    calls.insert(libc::SYS_ioctl, requests);
    SeccompFilter::new(
        calls,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_for_this_architecture() {
        assert!(program().unwrap().len() > 5);
    }
}
