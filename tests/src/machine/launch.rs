//! The host's side of a machine: its launcher process, the life line to it, and its init.

use std::{
    fmt,
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long the launcher may take to end everything after it was told to.
const CUT_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a process is looked at that is waited for.
const POLL: Duration = Duration::from_millis(10);

/// A machine did not come up.
#[derive(Debug)]
pub struct BootError {
    why: String,
    console: String,
}

impl BootError {
    pub(super) fn new(dir: &Path, why: String) -> Self {
        let console = fs::read_to_string(console_path(dir))
            .unwrap_or_else(|error| format!("(its console can't be read: {error})"));
        Self { why, console }
    }
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the machine did not come up: {}; its console:\n{}",
            self.why,
            self.console.trim_end()
        )
    }
}

impl std::error::Error for BootError {}

fn console_path(dir: &Path) -> PathBuf {
    dir.join("console")
}

/// A running launcher.
#[derive(Debug)]
pub(super) struct Launch {
    dir: PathBuf,
    unshare: Child,
    /// Its end tells the launcher that we are gone; the kernel closes it when we are killed.
    life_line: ChildStdin,
    init: Option<u32>,
}

impl Launch {
    /// Starts nspawn on the overlay of `dir` above `lower`.
    pub(super) fn start(dir: &Path, lower: &Path, arguments: &[String]) -> Result<Self> {
        let console = File::options()
            .create(true)
            .append(true)
            .open(console_path(dir))
            .context("can't open the console")?;
        let mut unshare = Command::new("unshare")
            .args([
                "--mount",
                "--propagation=private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["sh", "-c", include_str!("launcher.sh"), "launcher"])
            .arg(dir)
            .arg(lower)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(console.try_clone().context("can't share the console")?)
            .stderr(console)
            // A Ctrl-C is for the test; the machine ends when the test did.
            .process_group(0)
            .spawn()
            .context("can't run unshare")?;
        let life_line = unshare.stdin.take().context("unshare has no standard input")?;
        Ok(Self {
            dir: dir.to_owned(),
            unshare,
            life_line,
            init: None,
        })
    }

    /// Waits until the machine's PID 1 is there.
    pub(super) fn find_init(&mut self, timeout: Duration) -> Result<()> {
        let begin = Instant::now();
        while self.init.is_none() {
            self.still_runs()?;
            if begin.elapsed() > timeout {
                return Err(BootError::new(&self.dir, format!("it has no init after {timeout:?}")).into());
            }
            self.init = find_init_below(self.unshare.id());
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The machine's PID 1, as a process of the host.
    pub(super) fn init(&self) -> Option<u32> {
        self.init
    }

    /// Fails when the launcher has ended.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        match self.unshare.try_wait().context("can't wait for unshare")? {
            Some(status) => Err(BootError::new(&self.dir, format!("nspawn ended ({status})")).into()),
            None => Ok(()),
        }
    }

    /// Waits until the machine has ended by itself, with the exit status `expected`.
    pub(super) fn wait(mut self, timeout: Duration, expected: i32) -> Result<()> {
        let Some(status) = self.wait_for_end(timeout)? else {
            self.cut()?;
            bail!("the machine was still up after {timeout:?}, and was killed");
        };
        if status.code() != Some(expected) {
            return Err(BootError::new(&self.dir, format!("nspawn ended ({status}), not with {expected}")).into());
        }
        Ok(())
    }

    /// Kills every process of the machine, and waits for that.
    pub(super) fn cut(mut self) -> Result<()> {
        // An error means that the launcher has ended already, which is what we want.
        _ = self.life_line.write_all(b"cut\n");
        if self.wait_for_end(CUT_TIMEOUT)?.is_none() {
            // --kill-child takes the namespaces, and so the machine, with it.
            self.unshare.kill().context("can't kill unshare")?;
            self.unshare.wait().context("can't wait for unshare")?;
        }
        Ok(())
    }

    fn wait_for_end(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let begin = Instant::now();
        loop {
            let status = self.unshare.try_wait().context("can't wait for unshare")?;
            if status.is_some() || begin.elapsed() > timeout {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
    }
}

/// The chain is unshare, the launcher, nspawn, init; nspawn has other children for a moment while it sets up.
fn find_init_below(unshare: u32) -> Option<u32> {
    let launcher = children(unshare).into_iter().next()?;
    let nspawn = children(launcher)
        .into_iter()
        .find(|pid| comm(*pid).as_deref() == Some("systemd-nspawn"))?;
    children(nspawn)
        .into_iter()
        .find(|pid| matches!(comm(*pid).as_deref(), Some("systemd" | "init")))
}

/// The children of a process; none when it has ended meanwhile.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()
        .map(|text| text.trim_end().to_owned())
}
