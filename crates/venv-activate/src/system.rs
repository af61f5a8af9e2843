//! The three system calls that no crate offers in a safe form as needed here. The only module with `unsafe`.

use std::io;

use nix::libc;
use nix::unistd::ForkResult;
use seccompiler::sock_filter;

/// Loads a seccomp filter without setting `no_new_privs`, so that sudo still works under it: seccomp(2). Needs
/// CAP_SYS_ADMIN.
///
/// # Errors
/// `EACCES` without that capability; others where the kernel has no such filters.
#[expect(unsafe_code, reason = "seccompiler's own loader always sets no_new_privs")]
pub(crate) fn load_filter(program: &[sock_filter]) -> io::Result<()> {
    let mut instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.jt,
            jf: instruction.jf,
            k: instruction.k,
        })
        .collect();
    let program = libc::sock_fprog {
        len: instructions.len().try_into().map_err(io::Error::other)?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `program` points at `len` instructions that live until the end of this function; the kernel copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Marks every descriptor from `first` on as closed by the exec to come: close_range(2), Linux 5.11.
#[expect(unsafe_code, reason = "neither std nor nix has close_range")]
pub(crate) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: it takes no pointer, and closes nothing now, so no owner of a descriptor is deceived.
    let result = unsafe { libc::close_range(first, libc::c_uint::MAX, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes a second process: fork(2).
#[expect(unsafe_code, reason = "in a process with several threads it would be wrong")]
pub(crate) fn fork() -> io::Result<ForkResult> {
    // SAFETY: this program never starts a thread, so the child finds no lock held by one that is not there.
    Ok(unsafe { nix::unistd::fork() }?)
}
