//! Runs the writer one syscall at a time, by ptrace(2).

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

mod fail;

/// What the writer says once it waits for its order; before that, nothing is traced.
pub(crate) const READY: &str = "ready";

/// Who stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The writer itself.
    Writer,
    /// A program that it runs: `sudo --version`, `visudo`.
    Child,
}

/// What becomes of one that stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    /// SIGKILL for the writer, or for the child that stopped: before its syscall acts, or right after it has.
    Kill(Who),
    /// The syscall that it is about to enter fails so, and does nothing.
    Fail(Errno),
}

/// A stop at the entry or the exit of a syscall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) who: Who,
    pub(crate) pid: Pid,
}

impl Stop {
    /// Returns what `fsync(2)` is called for, if that is what it stopped in.
    pub(crate) fn synced(self) -> Option<PathBuf> {
        let (number, first) = self.call()?;
        let descriptor = Some(first).filter(|_| number == libc::SYS_fsync)?;
        fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid)).ok()
    }

    /// Returns the name of the call that it is about to enter, if it changes something.
    pub(crate) fn changing(self) -> Option<&'static str> {
        let info = ptrace::syscall_info(self.pid).ok()?;
        let (number, _) = self.call().filter(|_| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)?;
        let call = fail::CHANGING.iter().find(|(known, _)| *known == number);
        call.map(|(_, name)| *name)
    }

    /// Returns the number of its call, and the first argument.
    fn call(self) -> Option<(i64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/syscall", self.pid)).ok()?;
        let mut words = text.split(' ');
        let number = words.next()?.parse().ok()?;
        Some((number, u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?))
    }
}

/// How the writer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Killed,
    Done,
    /// With what it said.
    Failed(String),
}

/// Runs `writer` with this order, and asks at each syscall stop of `whom` what to do.
///
/// Programs that outlive the writer run to their end, so nothing goes on when this returns.
pub(crate) fn run(writer: &mut Command, order: &str, whom: &[Who], mut at_stop: impl FnMut(Stop) -> Next) -> Ended {
    let mut process = writer
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with(READY)), "{:?}", process.wait());
    let leader = Pid::from_raw(process.id().try_into().unwrap());
    let threads = seize(leader);
    writeln!(process.stdin.take().unwrap(), "{order}").unwrap();
    let mut status = None;
    let mut failing = None;
    loop {
        // Of this thread's own children and tracees alone: other tests run in other threads.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let who = |pid| match threads.contains(&pid) {
            true => Who::Writer,
            false => Who::Child,
        };
        let (pid, signal) = match waitpid(None, Some(flags)) {
            Err(Errno::ECHILD) => break,
            Ok(WaitStatus::PtraceSyscall(pid)) => {
                if let Some(error) = failing.take() {
                    fail::with(pid, error);
                }
                match at_stop(Stop { who: who(pid), pid }) {
                    Next::Kill(Who::Writer) => kill(leader, Signal::SIGKILL).unwrap(),
                    Next::Kill(Who::Child) => kill(pid, Signal::SIGKILL).unwrap(),
                    Next::Fail(error) => {
                        fail::skip_call(pid);
                        failing = Some(error);
                    }
                    Next::GoOn => {}
                }
                (pid, None)
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => (pid, None),
            Ok(WaitStatus::Stopped(pid, signal)) => (pid, Some(signal)),
            Ok(ended @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) => {
                if pid == leader {
                    status = Some(ended);
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        let resumed = match whom.contains(&who(pid)) {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
        match resumed {
            // It was killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let mut errors = String::new();
    process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    // It was waited for above; this only tells the standard library.
    drop(process.wait());
    match status {
        Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => Ended::Killed,
        Some(WaitStatus::Exited(_, 0)) => Ended::Done,
        other => Ended::Failed(format!("{other:?}: {errors}")),
    }
}

/// Attaches to all threads of a process, which all wait for something.
fn seize(leader: Pid) -> BTreeSet<Pid> {
    let options = Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC;
    let threads: BTreeSet<Pid> = fs::read_dir(format!("/proc/{leader}/task"))
        .unwrap()
        .map(|entry| Pid::from_raw(entry.unwrap().file_name().to_str().unwrap().parse().unwrap()))
        .collect();
    for thread in &threads {
        ptrace::seize(*thread, options).unwrap();
        ptrace::interrupt(*thread).unwrap();
    }
    threads
}
