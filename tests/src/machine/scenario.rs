//! What a scenario does with a machine. These methods panic where a test would: with the command and its output.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{JOURNAL_LINES, Machine, Output};

/// How often [`Machine::wait_until`] asks.
const POLL: Duration = Duration::from_millis(100);

impl Machine {
    /// Runs a command as root in `/`, with a small environment of its own and no input.
    ///
    /// # Panics
    /// When it can't be run at all, because the machine is off or nsenter fails.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> Output {
        self.run_with_input(command, b"")
    }

    /// Runs a command as root with `input` on its standard input.
    ///
    /// # Panics
    /// When it can't be run at all.
    #[track_caller]
    pub fn run_with_input(&self, command: &[&str], input: &[u8]) -> Output {
        match self.pipe(command, input) {
            Ok(output) => output.into(),
            Err(error) => panic!("can't run {command:?} in the machine: {error:#}"),
        }
    }

    /// Runs a command as another user (by runuser: without login, in `/`, with the same environment but its own `HOME`).
    ///
    /// # Panics
    /// When it can't be run at all.
    #[track_caller]
    pub fn user_run(&self, user: &str, command: &[&str]) -> Output {
        const LINE: &str = "export HOME=\"$(getent passwd \"$(id -u)\" | cut -d: -f6)\"; exec \"$@\"";
        let mut line = vec!["runuser", "-u", user, "--", "sh", "-c", LINE, "sh"];
        line.extend(command);
        self.run(&line)
    }

    /// Runs a shell line as root that must succeed, and gives its standard output without the last line's end.
    ///
    /// # Panics
    /// When its exit status is not 0: with its output.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(&["sh", "-c", line]);
        assert!(output.success(), "`{line}` in the machine: {output}");
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Writes a file with this mode, and the directories above it; a file that is there keeps its owner.
    ///
    /// # Panics
    /// When it can't be written.
    #[track_caller]
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>, mode: u32) {
        const LINE: &str = "mkdir -p -- \"$(dirname -- \"$1\")\" && cat >\"$1\" && chmod \"$2\" -- \"$1\"";
        let output = self.run_with_input(&["sh", "-c", LINE, "sh", path, &format!("{mode:o}")], contents.as_ref());
        assert!(output.success(), "can't write {path} in the machine: {output}");
    }

    /// Reads a file.
    ///
    /// # Panics
    /// When it can't be read.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let output = self.run(&["cat", "--", path]);
        assert!(output.success(), "can't read {path} in the machine: {output}");
        output.stdout
    }

    /// Copies a file or a directory of the host into the machine, as `guest` (not into it), owned by root.
    ///
    /// # Panics
    /// When it can't be copied.
    #[track_caller]
    pub fn copy_in(&self, host: impl AsRef<Path>, guest: &str) {
        let host = host.as_ref();
        let meta = fs::metadata(host).unwrap_or_else(|error| panic!("can't copy {}: {error}", host.display()));
        if !meta.is_dir() {
            use std::os::unix::fs::PermissionsExt;
            let contents = fs::read(host).unwrap_or_else(|error| panic!("can't read {}: {error}", host.display()));
            return self.write(guest, contents, meta.permissions().mode() & 0o7777);
        }
        let archive = Command::new("tar").arg("-C").arg(host).args(["-cf", "-", "."]).output();
        let archive = archive.unwrap_or_else(|error| panic!("can't run tar: {error}"));
        assert!(
            archive.status.success(),
            "can't pack {}: {}",
            host.display(),
            Output::from(archive).stderr
        );
        const LINE: &str = "mkdir -p -- \"$1\" && tar -C \"$1\" --no-same-owner -xpf -";
        let output = self.run_with_input(&["sh", "-c", LINE, "sh", guest], &archive.stdout);
        assert!(
            output.success(),
            "can't copy {} to {guest} in the machine: {output}",
            host.display()
        );
    }

    /// Copies a file or a directory of the machine to the host, as `host` (not into it).
    ///
    /// # Panics
    /// When it can't be copied.
    #[track_caller]
    pub fn copy_out(&self, guest: &str, host: impl AsRef<Path>) {
        const LINE: &str = "if [ -d \"$1\" ]; then exec tar -C \"$1\" -cf - .; else exec cat -- \"$1\"; fi";
        let host = host.as_ref();
        let is_dir = self.run(&["test", "-d", guest]).success();
        let output = match self.pipe(&["sh", "-c", LINE, "sh", guest], b"") {
            Ok(output) if output.status.success() => output,
            Ok(output) => panic!("can't copy {guest} out of the machine: {}", Output::from(output)),
            Err(error) => panic!("can't copy {guest} out of the machine: {error:#}"),
        };
        let written = if is_dir {
            unpack(&output.stdout, host)
        } else {
            fs::write(host, &output.stdout)
        };
        written.unwrap_or_else(|error| panic!("can't write {}: {error}", host.display()));
    }

    /// Waits until systemd has done its start-up jobs, and gives the units that failed: none if all is well.
    ///
    /// # Panics
    /// When it is neither running nor degraded after 90 seconds.
    #[track_caller]
    pub fn wait_running(&self) -> Vec<String> {
        self.wait_until(super::BOOT_TIMEOUT, "systemd is up", |machine| {
            let said = machine.run(&["systemctl", "is-system-running"]).stdout;
            matches!(said.trim(), "running" | "degraded")
        });
        let failed = self.ok("systemctl list-units --state=failed --plain --no-legend --no-pager");
        failed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// Waits until `is_so` says yes.
    ///
    /// # Panics
    /// When it does not within `timeout`: with `what`.
    #[track_caller]
    pub fn wait_until(&self, timeout: Duration, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < timeout, "not so after {timeout:?}: {what}");
            thread::sleep(POLL);
        }
    }

    /// The journal of this boot.
    #[track_caller]
    #[must_use]
    pub fn journal(&self) -> String {
        self.journalctl(&["--boot", "--output=short-monotonic"])
    }

    /// What `journalctl` prints with these options; what is logged is on disk first.
    ///
    /// # Panics
    /// When journalctl fails.
    #[track_caller]
    #[must_use]
    pub fn journalctl(&self, options: &[&str]) -> String {
        // Waits until journald has worked off what it was sent; fails where there is no journald, as does the next.
        self.run(&["journalctl", "--sync"]);
        let mut command = vec!["journalctl", "--no-pager", "--quiet"];
        command.extend(options);
        let output = self.run(&command);
        assert!(output.success(), "{command:?} in the machine: {output}");
        output.stdout
    }

    /// A property of a unit, as `systemctl show` prints it.
    ///
    /// # Panics
    /// When systemctl fails.
    #[track_caller]
    #[must_use]
    pub fn unit_property(&self, unit: &str, property: &str) -> String {
        let output = self.run(&["systemctl", "show", "--value", "--property", property, "--", unit]);
        assert!(output.success(), "can't show {property} of {unit}: {output}");
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// The main process of a unit, as a pid in the machine; 0 if it runs none.
    ///
    /// # Panics
    /// When systemctl fails.
    #[track_caller]
    #[must_use]
    pub fn main_pid(&self, unit: &str) -> u32 {
        let said = self.unit_property(unit, "MainPID");
        said.parse()
            .unwrap_or_else(|error| panic!("MainPID of {unit} is `{said}`: {error}"))
    }

    /// The environment that a process of the machine was started with.
    ///
    /// # Panics
    /// When there is no such process.
    #[track_caller]
    #[must_use]
    pub fn environ_of(&self, pid: u32) -> BTreeMap<String, String> {
        let text = self.read(&format!("/proc/{pid}/environ"));
        let pairs = text.split('\0').filter_map(|entry| entry.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Shows the end of the journal on standard error, and keeps all of it in `$VENVD_TEST_LOGS`.
    pub(super) fn keep_logs(&self) {
        let test = thread::current().name().unwrap_or("main").replace("::", ".");
        let journal = self.journal_files(&["--boot", "--lines", JOURNAL_LINES]);
        eprintln!(
            "--- the journal of {} in {test}, its last {JOURNAL_LINES} lines:\n{journal}---",
            self.os
        );
        let Some(logs) = env::var_os("VENVD_TEST_LOGS") else {
            return;
        };
        let name = self.dir.file_name().unwrap_or_default().display().to_string();
        let path = Path::new(&logs).join(format!("{test}-{}-{name}.log", self.os));
        let console = fs::read_to_string(self.dir.join("console")).unwrap_or_default();
        let all = format!("{}\n--- console\n{console}", self.journal_files(&[]));
        // The test has failed already; that its log can't be kept is only worth a line.
        match fs::create_dir_all(&logs).and_then(|()| fs::write(&path, all)) {
            Ok(()) => eprintln!("all of it is in {}", path.display()),
            Err(error) => eprintln!("can't keep the journal in {}: {error}", path.display()),
        }
    }

    /// Reads the journal's files from the host: that works whatever state the machine is in.
    fn journal_files(&self, options: &[&str]) -> String {
        let mut command = Command::new("journalctl");
        command.arg("--directory").arg(self.dir.join("upper/var/log/journal"));
        command
            .args(["--no-pager", "--quiet", "--output=short-monotonic"])
            .args(options);
        match command.output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => format!("(can't run journalctl: {error})\n"),
        }
    }
}

fn unpack(archive: &[u8], target: &Path) -> std::io::Result<()> {
    use std::io::Write;
    fs::create_dir_all(target)?;
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(target)
        .args(["-xpf", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = tar.stdin.take() {
        stdin.write_all(archive)?;
    }
    let status = tar.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("tar failed ({status})")))
    }
}
