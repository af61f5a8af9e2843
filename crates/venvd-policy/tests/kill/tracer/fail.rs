//! Calls that fail because the tracer wants so. Registers have names of their own on each kind of machine; where they are
//! not known here, no call fails.

#[cfg(not(target_arch = "x86_64"))]
pub(super) use elsewhere::{CHANGING, skip_call, with};
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::{CHANGING, skip_call, with};

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use nix::errno::Errno;
    use nix::libc;
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    /// The calls by which a writer changes something, see syscalls(2).
    pub(crate) const CHANGING: [(i64, &str); 7] = [
        (libc::SYS_openat, "openat"),
        (libc::SYS_write, "write"),
        (libc::SYS_fchmod, "fchmod"),
        (libc::SYS_fchown, "fchown"),
        (libc::SYS_fsync, "fsync"),
        (libc::SYS_rename, "rename"),
        (libc::SYS_unlink, "unlink"),
    ];

    /// Lets a thread that is about to enter a syscall enter none.
    pub(crate) fn skip_call(pid: Pid) {
        let mut registers = ptrace::getregs(pid).unwrap();
        registers.orig_rax = u64::MAX;
        ptrace::setregs(pid, registers).unwrap();
    }

    /// Gives a thread that leaves a syscall this result of it.
    pub(crate) fn with(pid: Pid, error: Errno) {
        let mut registers = ptrace::getregs(pid).unwrap();
        registers.rax = i64::from(-(error as i32)).cast_unsigned();
        ptrace::setregs(pid, registers).unwrap();
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use nix::errno::Errno;
    use nix::unistd::Pid;

    pub(crate) const CHANGING: [(i64, &str); 0] = [];

    pub(crate) fn skip_call(_: Pid) {}

    pub(crate) fn with(_: Pid, _: Errno) {}
}
