//! Daemons by which the services of a venv did as root what they may not do themselves: those of oslo.rootwrap and
//! oslo.privsep. They are root's, started through sudo, and go on serving with the filters and the code of their venv,
//! whatever sudo has come to say since; so they end when the venv's rights do.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::IoContext;

use crate::error::Error;
use crate::usage::Usage;

/// How many words of a command line are looked at: `sudo -n /…/bin/python /…/bin/nova-rootwrap-daemon`.
const WORDS: usize = 8;

/// Ends the daemons of venvs whose rights have ended.
///
/// # Errors
/// When processes can't be looked at, or one can't be ended; all others are.
pub fn end_daemons(layout: &Layout, venvs: &[VenvPath]) -> Result<(), Error> {
    if venvs.is_empty() {
        return Ok(());
    }
    let usage = Usage::scan(layout, venvs)?;
    let members = venvs.iter().flat_map(|venv| usage.members_of(venv));
    let daemons = members.filter(|one| is_daemon(one.pid));
    daemons.map(|one| end(one.pid)).fold(Ok(()), Result::and)
}

/// Returns whether a process is root's and one of those daemons, or the sudo that waits for one.
#[must_use]
pub fn is_daemon(process: u32) -> bool {
    let directory = directory_of(process);
    // Whose a process is says the owner of its directory: proc(5). One that is gone is none.
    let is_roots = fs::metadata(&directory).is_ok_and(|metadata| metadata.uid() == 0);
    let line = fs::read(directory.join("cmdline")).unwrap_or_default();
    is_roots && names_daemon(&line)
}

fn directory_of(process: u32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

fn names_daemon(line: &[u8]) -> bool {
    line.split(|byte| *byte == 0).take(WORDS).any(|word| {
        let name = Path::new(std::ffi::OsStr::from_bytes(word))
            .file_name()
            .unwrap_or_default();
        let name = name.as_bytes();
        name == b"privsep-helper" || name.ends_with(b"-rootwrap-daemon")
    })
}

/// Ends such a daemon.
///
/// # Errors
/// When it is there, and can't be ended.
fn end(process: u32) -> Result<(), Error> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    // One that is gone needs no end.
    let Some(pidfd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return Ok(());
    };
    // Looked at again: the number may be somebody else's by now, the descriptor can't be.
    if is_daemon(process)
        && let Err(error) = pidfd_send_signal(&pidfd, Signal::TERM)
        && error != rustix::io::Errno::SRCH
    {
        return Ok(Err(std::io::Error::from(error)).at("end", &directory_of(process))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_known_by_the_programs_they_run() {
        for (line, expected) in [
            (
                "/v/bin/python\0/v/bin/nova-rootwrap-daemon\0/etc/nova/rootwrap.conf\0",
                true,
            ),
            ("sudo\0-n\0nova-rootwrap-daemon\0/etc/nova/rootwrap.conf\0", true),
            (
                "sudo\0nova-rootwrap\0/etc/nova/rootwrap.conf\0privsep-helper\0--config-file\0x\0",
                true,
            ),
            ("/v/bin/python\0/v/bin/privsep-helper\0--privsep_context\0x\0", true),
            (
                "/v/bin/python\0/v/bin/nova-compute\0--config-file\0/etc/privsep-helper.conf\0",
                false,
            ),
            (
                "/v/bin/python\0/v/bin/nova-rootwrap\0/etc/nova/rootwrap.conf\0ip\0",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(names_daemon(line.as_bytes()), expected, "{line:?}");
        }
        assert!(!is_daemon(std::process::id()));
    }
}
