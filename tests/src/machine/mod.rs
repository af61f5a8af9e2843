//! A booted machine: systemd-nspawn on an overlay of a root, in namespaces of its own.
//!
//! Everything that a machine mounts and starts lives in a mount and a pid namespace whose first process ends when the
//! test does, however that ends (see `launcher.sh`); so the host keeps no mount, no process and no file of it.

mod command;
mod launch;
mod memory;
mod scenario;

use std::{
    fmt,
    fs::{self, File},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{Os, cache, host, roots};

pub use command::Output;
pub use launch::BootError;
use launch::Launch;
pub use memory::MemoryLimit;

/// How long a boot may take: on a machine with two busy cores it is a second or two.
const BOOT_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a clean shutdown may take: a unit that ignores SIGTERM takes systemd's 90 seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(120);

/// How many lines of the journal a failed test shows.
const JOURNAL_LINES: &str = "200";

/// What `systemctl reboot` makes nspawn exit with (launcher.sh says where that is from).
const EXIT_REBOOT: i32 = 133;

/// What a machine is made of, before it boots.
#[derive(Clone, Debug)]
pub struct MachineBuilder {
    os: Os,
    binds: Vec<(PathBuf, PathBuf)>,
    late_var: bool,
}

impl MachineBuilder {
    /// Begins a machine that runs `os`.
    #[must_use]
    pub fn new(os: Os) -> Self {
        Self {
            os,
            binds: Vec::new(),
            late_var: false,
        }
    }

    /// Shows the directory or file `host` of the host at `guest`, read-only.
    #[must_use]
    pub fn bind_ro(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.binds.push((host.into(), guest.into()));
        self
    }

    /// Puts `/var/lib/venvd` on a file system of its own, which systemd mounts only after the generators ran.
    ///
    /// It keeps its contents over reboots. Until it is mounted, the directory below it is empty.
    #[must_use]
    pub fn late_var(mut self) -> Self {
        self.late_var = true;
        self
    }

    /// Boots the machine and waits until it is up.
    ///
    /// # Errors
    /// When this host can't run machines, the root can't be made, or it does not come up: with its console.
    pub fn boot(self) -> Result<Machine> {
        host::check(host::Purpose::Boot)?;
        cache::sweep()?;
        let lower = roots::ensure(self.os)?;
        let (dir, dir_lock) = cache::machine_dir()?;
        let mut machine = Machine {
            os: self.os,
            dir,
            lower,
            arguments: Vec::new(),
            kernel_words: Vec::new(),
            launch: None,
            _dir_lock: dir_lock,
        };
        machine.lay_out(&self)?;
        machine.launch()?;
        Ok(machine)
    }
}

/// A machine that is booted; dropping it switches it off and removes all of it.
///
/// A test that panics shows its journal first (and its console, when it did not come up). With `VENVD_TEST_LOGS`
/// set to a directory, the whole journal goes into a file there.
pub struct Machine {
    os: Os,
    dir: PathBuf,
    lower: PathBuf,
    /// For nspawn.
    arguments: Vec<String>,
    /// For its init: in a container, that is the kernel command line.
    kernel_words: Vec<String>,
    /// None: switched off.
    launch: Option<Launch>,
    /// Tells a sweep that this directory is in use.
    _dir_lock: File,
}

impl fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Machine")
            .field("os", &self.os)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Boots a plain machine and waits until it is up.
    ///
    /// # Errors
    /// See [`MachineBuilder::boot`].
    pub fn boot(os: Os) -> Result<Self> {
        MachineBuilder::new(os).boot()
    }

    /// The release it runs.
    #[must_use]
    pub fn os(&self) -> Os {
        self.os
    }

    /// Sets the words on the kernel command line, from the next boot on.
    pub fn set_kernel_words(&mut self, words: &[&str]) {
        self.kernel_words = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The directory of this machine on the host; its file system's own files are below `upper`.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Reboots cleanly, as `systemctl reboot` does, and waits until it is up again. Files stay; `/run` and `/tmp` do not.
    ///
    /// # Errors
    /// When it does not go down or does not come up.
    pub fn reboot(&mut self) -> Result<()> {
        self.reboot_by(&["systemctl", "reboot"])
    }

    /// Reboots as this command does it, and waits until it is up again.
    ///
    /// # Errors
    /// When it does not go down or does not come up.
    pub fn reboot_by(&mut self, command: &[&str]) -> Result<()> {
        self.shut_down(command, EXIT_REBOOT)?;
        self.launch()
    }

    /// Switches it off cleanly. [`Machine::boot_again`] switches it on.
    ///
    /// # Errors
    /// When it does not go down.
    pub fn power_off(&mut self) -> Result<()> {
        self.shut_down(&["systemctl", "poweroff"], 0)
    }

    /// Cuts the power: every process is killed at once, nothing is told.
    ///
    /// What was written is there at the next boot, synced or not, since the host's page cache lives on.
    ///
    /// # Errors
    /// When the machine's processes don't end.
    pub fn kill(&mut self) -> Result<()> {
        match self.launch.take() {
            Some(launch) => launch.cut(),
            None => Ok(()),
        }
    }

    /// Boots a machine that was switched off or killed, and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot_again(&mut self) -> Result<()> {
        self.kill()?;
        self.launch()
    }

    fn lay_out(&mut self, builder: &MachineBuilder) -> Result<()> {
        for name in ["upper/etc/systemd/system", "work", "root", "late"] {
            cache::make_dir(&self.dir.join(name))?;
        }
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("can't read a random UUID")?;
        self.write_below("etc/machine-id", &uuid.replace('-', ""))?;
        for (host, guest) in &builder.binds {
            let host = host
                .canonicalize()
                .with_context(|| format!("can't bind {}", host.display()))?;
            self.arguments
                .push(format!("--bind-ro={}:{}", host.display(), guest.display()));
        }
        if builder.late_var {
            self.arguments
                .push(format!("--bind={}:/late", self.dir.join("late").display()));
            self.write_below("etc/systemd/system/var-lib-venvd.mount", include_str!("late-var.mount"))?;
            cache::make_dir(&self.dir.join("upper/etc/systemd/system/local-fs.target.requires"))?;
            std::os::unix::fs::symlink(
                "../var-lib-venvd.mount",
                self.dir
                    .join("upper/etc/systemd/system/local-fs.target.requires/var-lib-venvd.mount"),
            )
            .context("can't enable the late mount")?;
        }
        Ok(())
    }

    /// Writes a file of the machine that is not booted yet. (Only directories that no package makes a link of.)
    fn write_below(&self, path: &str, contents: &str) -> Result<()> {
        let path = self.dir.join("upper").join(path);
        fs::write(&path, contents).with_context(|| format!("can't write {}", path.display()))
    }

    fn launch(&mut self) -> Result<()> {
        // Options first: nspawn takes what follows the first word as arguments of the init.
        let arguments = [self.arguments.as_slice(), &self.kernel_words].concat();
        let launch = self.launch.insert(Launch::start(&self.dir, &self.lower, &arguments)?);
        launch.find_init(BOOT_TIMEOUT)?;
        self.wait_up()
    }

    /// Waits for what `systemctl is-system-running` calls running or degraded.
    fn wait_up(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let said = self.run(&["systemctl", "is-system-running"]).stdout;
            if matches!(said.trim(), "running" | "degraded") {
                return Ok(());
            }
            if let Some(launch) = &mut self.launch {
                launch.still_runs()?;
            }
            if begin.elapsed() > BOOT_TIMEOUT {
                let jobs = self.run(&["systemctl", "list-jobs", "--no-pager"]).stdout;
                let why = format!(
                    "it is `{}` after {BOOT_TIMEOUT:?}, with these jobs:\n{jobs}",
                    said.trim()
                );
                return Err(BootError::new(&self.dir, why).into());
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn init(&self) -> Option<u32> {
        self.launch.as_ref().and_then(Launch::init)
    }

    fn shut_down(&mut self, command: &[&str], status: i32) -> Result<()> {
        self.run(command);
        let launch = self.launch.take().context("the machine is switched off")?;
        launch
            .wait(SHUTDOWN_TIMEOUT, status)
            .with_context(|| format!("{command:?} did not do it"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep_logs();
        }
        // A drop can't fail, and in a panic a second one would abort: say what is left behind, no more.
        if let Err(error) = self.kill().and_then(|()| cache::remove_tree(&self.dir)) {
            eprintln!("machine {} is not quite gone: {error:#}", self.dir.display());
        }
    }
}
