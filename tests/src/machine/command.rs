//! Running commands in a machine.

use std::{
    fmt,
    io::Write,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result};

use super::Machine;

/// The only variables that a command in a machine starts with: nothing of the host's may leak in.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
    ("SYSTEMD_PAGER", ""),
];

/// Joins init's cgroup before the command: nsenter leaves it in one that the machine's systemd can't see, and so
/// can't tell whose process it is. Too early in a boot there is none.
const ENTER: &str = "{ echo 0 >/sys/fs/cgroup/init.scope/cgroup.procs; } 2>/dev/null; exec \"$@\"";

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status, or 128 and the signal that ended it.
    pub status: i32,
    /// Its standard output; what is no UTF-8 is replaced.
    pub stdout: String,
    /// Its standard error; what is no UTF-8 is replaced.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit status {}", self.status)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(formatter, "\n--- {name}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

impl Machine {
    /// A host command that runs `command` in the machine, in all of its namespaces.
    pub(super) fn enter<S: AsRef<str>>(&self, command: &[S]) -> Result<Command> {
        let init = self
            .launch
            .as_ref()
            .and_then(super::Launch::init)
            .context("the machine is switched off")?;
        let mut enter = Command::new("nsenter");
        // `--wd` alone is init's directory, the machine's `/`; `--wd=/` would be opened before the change of root, and
        // so be the host's, and a relative path in the machine would name a file of the host.
        enter
            .arg(format!("--target={init}"))
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
            ])
            .args(["sh", "-c", ENTER, "sh"])
            .args(command.iter().map(AsRef::as_ref))
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/");
        Ok(enter)
    }

    /// Runs a command as root in `/` with `input` on its standard input; the result is raw bytes.
    pub(super) fn pipe<S: AsRef<str>>(&self, command: &[S], input: &[u8]) -> Result<std::process::Output> {
        let mut child = self
            .enter(command)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("can't run nsenter")?;
        let mut stdin = child.stdin.take().context("nsenter has no standard input")?;
        thread::scope(|scope| {
            // From a thread of its own, so that a command that writes before it reads does not block us both.
            // One that does not read its input to the end is no error.
            scope.spawn(move || _ = stdin.write_all(input));
            child.wait_with_output().context("can't wait for nsenter")
        })
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Self {
            status: output.status.code().or(signal).unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
