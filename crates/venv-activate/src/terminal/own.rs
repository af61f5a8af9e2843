//! A terminal of the command's own, for where the filter can't be loaded.
//!
//! What is pushed into its input stays in it. The price is that venv-activate remains, as root, so that the user can't
//! trace it: it carries bytes, sizes and signals across, and ends as the command did.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, getpgrp, setsid, tcgetpgrp};
use rustix::process::{PidfdFlags, ioctl_tiocsctty, pidfd_open};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::identity::Account;
use crate::system;

/// What would end or stop this process is for the command.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// As much as a terminal holds.
const CHUNK: usize = 4096;

/// Starts a process that goes on with a terminal of its own.
///
/// Returns `None` in that process. In this one, the exit status to end with, after it has ended; if a signal killed it,
/// the same signal kills this one.
pub(super) fn start(account: &Account) -> io::Result<Option<ExitCode>> {
    let outer = outer()?;
    let attributes = tcgetattr(&outer)?;
    let pty = openpty(&tcgetwinsize(&outer).map(size_of)?, &attributes)?;
    fchown(&pty.slave, Some(account.uid), None)?;
    match system::fork()? {
        ForkResult::Child => {
            drop(pty.master);
            enter(&pty.slave)?;
            Ok(None)
        }
        ForkResult::Parent { child } => {
            drop(pty.slave);
            let status = Relay::new(outer, pty.master, child)?.run(attributes)?;
            Ok(Some(end_as(status)))
        }
    }
}

/// The terminal that this process has: the session's, or one that it was given.
fn outer() -> io::Result<File> {
    if let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") {
        return Ok(terminal);
    }
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let given = [
        (input.is_terminal(), input.as_fd()),
        (output.is_terminal(), output.as_fd()),
        (errors.is_terminal(), errors.as_fd()),
    ];
    match given.iter().find(|(is_terminal, _)| *is_terminal) {
        Some((_, terminal)) => terminal.try_clone_to_owned().map(File::from),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn size_of(size: rustix::termios::Winsize) -> nix::pty::Winsize {
    nix::pty::Winsize {
        ws_row: size.ws_row,
        ws_col: size.ws_col,
        ws_xpixel: size.ws_xpixel,
        ws_ypixel: size.ws_ypixel,
    }
}

/// Makes it the terminal of a new session, and of those of the first three descriptors that are on the old one.
fn enter(terminal: &OwnedFd) -> io::Result<()> {
    setsid()?;
    ioctl_tiocsctty(terminal)?;
    if io::stdin().is_terminal() {
        dup2_stdin(terminal)?;
    }
    if io::stdout().is_terminal() {
        dup2_stdout(terminal)?;
    }
    if io::stderr().is_terminal() {
        dup2_stderr(terminal)?;
    }
    Ok(())
}

/// What stands between the two terminals.
struct Relay {
    outer: File,
    inner: File,
    child: Pid,
    ended: OwnedFd,
    signals: SignalFd,
    /// What was typed and does not fit yet.
    typed: Vec<u8>,
}

impl Relay {
    fn new(outer: File, inner: OwnedFd, child: Pid) -> io::Result<Self> {
        let id = rustix::process::Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::NotFound)?;
        let mask: SigSet = PASSED_ON.into_iter().collect();
        mask.thread_block()?;
        // What is typed to a command that does not read must not keep its output back.
        fcntl(&inner, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        Ok(Self {
            outer,
            inner: inner.into(),
            child,
            ended: pidfd_open(id, PidfdFlags::empty())?,
            signals: SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
            typed: Vec::new(),
        })
    }

    /// Carries everything across until the command ends.
    fn run(mut self, attributes: Termios) -> io::Result<WaitStatus> {
        // In the background, the terminal is somebody else's to read and to change.
        let foreground = tcgetpgrp(&self.outer) == Ok(getpgrp());
        if foreground {
            let mut raw = attributes.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&self.outer, SetArg::TCSADRAIN, &raw)?;
        }
        let result = self.carry(foreground);
        if foreground {
            tcsetattr(&self.outer, SetArg::TCSADRAIN, &attributes)?;
        }
        result?;
        Ok(waitpid(self.child, None)?)
    }

    fn carry(&mut self, mut reading: bool) -> io::Result<()> {
        // A change between the making of the inner one and the blocking of the signal.
        self.copy_size()?;
        let mut writes = true;
        loop {
            let ready = self.wait(reading && self.typed.is_empty(), writes)?;
            if ready.inner {
                writes = self.show()?;
            }
            if ready.outer {
                let mut chunk = [0; CHUNK];
                let read = self.outer.read(&mut chunk).unwrap_or(0);
                reading = read > 0;
                self.typed.extend_from_slice(chunk.get(..read).unwrap_or_default());
            }
            self.pass_typed();
            if ready.signals {
                self.pass_signals()?;
            }
            if ready.ended {
                while writes && self.show()? {}
                return Ok(());
            }
        }
    }

    fn wait(&self, reading: bool, writes: bool) -> io::Result<Ready> {
        let when = |condition, events| if condition { events } else { PollFlags::empty() };
        let inner = when(writes, PollFlags::POLLIN) | when(!self.typed.is_empty(), PollFlags::POLLOUT);
        let mut polled = [
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inner.as_fd(), inner),
            PollFd::new(self.outer.as_fd(), when(reading, PollFlags::POLLIN)),
        ];
        // A hang-up is told unasked for, again and again.
        let count = if reading { 4 } else { 3 };
        let polled = polled.get_mut(..count).unwrap_or_default();
        poll(polled, PollTimeout::NONE)?;
        let ready = |index: usize| polled.get(index).and_then(PollFd::any).unwrap_or_default();
        Ok(Ready {
            ended: ready(0),
            signals: ready(1),
            inner: ready(2) && writes,
            outer: ready(3),
        })
    }

    /// Shows what the command wrote; returns whether there may be more.
    fn show(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        match self.inner.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.outer.write_all(chunk.get(..read).unwrap_or_default())?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            // EIO says that nobody has the other end any more, EAGAIN that there is nothing now.
            Err(error) => Ok(error.kind() == io::ErrorKind::WouldBlock),
        }
    }

    /// Passes on what was typed, as far as it fits.
    fn pass_typed(&mut self) {
        if !self.typed.is_empty()
            && let Ok(written) = self.inner.write(&self.typed)
        {
            self.typed.drain(..written);
        }
    }

    fn pass_signals(&self) -> io::Result<()> {
        while let Some(information) = self.signals.read_signal()? {
            match Signal::try_from(information.ssi_signo.cast_signed())? {
                Signal::SIGWINCH => self.copy_size()?,
                signal => kill(self.child, signal)?,
            }
        }
        Ok(())
    }

    fn copy_size(&self) -> io::Result<()> {
        Ok(tcsetwinsize(&self.inner, tcgetwinsize(&self.outer)?)?)
    }
}

/// What poll(2) found.
struct Ready {
    ended: bool,
    signals: bool,
    inner: bool,
    outer: bool,
}

fn end_as(status: WaitStatus) -> ExitCode {
    match status {
        WaitStatus::Exited(_, code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => {
            // It was blocked; where raising does not kill, a shell's way to say the same is left.
            _ = SigSet::from(signal).thread_unblock();
            _ = raise(signal);
            ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
        }
        _ => ExitCode::from(crate::error::OWN),
    }
}
