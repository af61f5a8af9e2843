//! Ending a build before its end: cleanly, with nothing left behind.

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::Error;

/// How often somebody who waits looks whether he is interrupted, in milliseconds: people don't notice it.
const LOOK: u16 = 100;

/// Says whether, and by which signal, a build was asked to end. Clones say the same.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Returns one that SIGINT, SIGTERM and SIGHUP set, each of which from now on ends this process only the second time
    /// that it comes.
    ///
    /// # Errors
    /// When the signals can't be had.
    pub fn by_signals() -> io::Result<Self> {
        let interrupt = Self::default();
        let asked = Arc::new(AtomicBool::new(false));
        for (signal, number) in [(SIGINT, 2), (SIGTERM, 15), (SIGHUP, 1)] {
            // In this order: the second signal finds the flag set by the first.
            flag::register_conditional_default(signal, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            flag::register_usize(signal, Arc::clone(&interrupt.0), number)?;
        }
        Ok(interrupt)
    }

    /// Asks for the end, as if this signal had come.
    pub fn raise(&self, signal: u8) {
        self.0.store(usize::from(signal), Ordering::SeqCst);
    }

    /// Returns the signal that has come.
    #[must_use]
    pub fn signal(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::SeqCst))
            .ok()
            .filter(|signal| *signal != 0)
    }

    /// Fails if the build was asked to end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.signal() {
            Some(signal) => Err(Error::Interrupted { signal }),
            None => Ok(()),
        }
    }

    /// Waits for a child, and has it stopped when the build was asked to end: `stop` is called until it has ended.
    pub(crate) fn wait(
        &self,
        child: &mut Child,
        mut stop: impl FnMut(&mut Child) -> io::Result<()>,
    ) -> io::Result<ExitStatus> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a child has no process id"))?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let mut wanted = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wanted, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return child.wait(),
                Err(errno) => return Err(errno.into()),
            }
            if self.signal().is_some() {
                stop(child)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_child_is_waited_for_or_stopped() {
        let interrupt = Interrupt::default();
        let mut child = Command::new("true").spawn().unwrap();
        assert!(interrupt.wait(&mut child, Child::kill).unwrap().success());
        interrupt.check().unwrap();

        let started = Instant::now();
        let mut child = Command::new("sleep").arg("300").spawn().unwrap();
        let other = interrupt.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || other.raise(15));
            assert!(!interrupt.wait(&mut child, Child::kill).unwrap().success());
        });
        assert!(started.elapsed() < Duration::from_secs(60));
        let error = interrupt.check().unwrap_err();
        assert_eq!((error.code(), interrupt.signal()), ("interrupted", Some(15)));
    }
}
