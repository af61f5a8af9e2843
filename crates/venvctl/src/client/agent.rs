//! Who asks for a password when polkit wants one and no desktop does: `pkttyagent`, as systemctl has it.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An agent that asks on our terminal, until it is dropped.
#[derive(Debug)]
pub(super) struct Agent(Child);

impl Agent {
    /// Starts one and waits until polkit knows it; nothing where nobody can be asked, or need be.
    pub(super) fn start(terminal: bool) -> Option<Self> {
        if nix::unistd::geteuid().is_root() || !terminal {
            return None;
        }
        let mut command = Command::new("pkttyagent");
        command
            // It closes that when it is registered; it asks on the terminal itself, pkttyagent(1).
            .args(["--notify-fd", "1", "--fallback", "--process"])
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // Without polkit there is none, and then nobody would ask for one.
        let mut child = command.spawn().ok()?;
        if let Some(mut notify) = child.stdout.take() {
            // What it says does not matter, only that it is done; if it can't be, polkit says no.
            drop(notify.read_to_end(&mut Vec::new()));
        }
        Some(Self(child))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It puts the terminal back to how it was. An error means that it has ended already.
        if let Ok(pid) = i32::try_from(self.0.id()) {
            _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        drop(self.0.wait());
    }
}
