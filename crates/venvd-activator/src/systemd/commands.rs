//! Hooks and health commands as transient units: systemd gives them their user, and ends all that they leave behind.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;

use nix::errno::Errno;
use tokio::net::unix::pipe::Receiver;
use venvd_app::UnitName;
use venvd_app::links::VenvPath;
use venvd_bus::{Check, Code};
use zbus::{Fd, Variant};

use super::Systemd;
use super::members::{self, Properties, SERVICE, UNIT};
use super::proxies::Setting;
use super::unanswered;
use crate::commands::Run;
use crate::log;
use crate::machine::Failure;
use crate::transaction::{Part, Transaction};

/// How long a command that is to end may take for that, before it is killed.
const STOP_SECONDS: u64 = 10;

/// What stands behind the venv's programs: the PATH that systemd gives to services.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Systemd {
    /// Runs a command of the new venv, and waits for its end; what it writes goes to the journal line by line.
    pub(super) async fn run_transient(&self, transaction: &Transaction, run: Run<'_>) -> Result<Check, Failure> {
        let number = self.number();
        let name = format!("venvd-hook-{}-{number}.service", transaction.id);
        let Some(venv) = &run.part.to else {
            return Err(Failure::new(Code::INTERNAL, "there is no venv to run a command of"));
        };
        let files = self
            .environment_files(run.units)
            .await
            .map_err(|error| unanswered("say which environment files a command gets", &error))?;
        let no_pipe = |error: io::Error| Failure::new(Code::INTERNAL, format!("cannot make a pipe: {error}"));
        let (reader, writer) = io::pipe().map_err(no_pipe)?;
        let pipe = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(no_pipe)?;
        let mut properties = settings(transaction, &run, venv);
        properties.extend([
            ("EnvironmentFiles", Variant::from(files)),
            ("StandardOutputFileDescriptor", Variant::from(Fd::from(writer.as_fd()))),
            ("StandardErrorFileDescriptor", Variant::from(Fd::from(writer.as_fd()))),
        ]);
        tracing::info!(
            venvd_app = %run.part.app,
            venvd_job = transaction.id,
            venvd_hook = run.stage.as_str(),
            "runs `{}` ({}) as {name}",
            run.command,
            run.stage
        );
        let mut output = Output {
            pipe,
            lines: Lines::default(),
            tell: |line: &str| log::said(transaction.id, &run, line),
        };
        let job = {
            let mut job = pin!(self.jobs.start_transient(&self.manager, (&name, &properties)));
            let mut is_open = true;
            loop {
                tokio::select! {
                    ended = &mut job => break ended?,
                    more = output.read(), if is_open => is_open = more,
                }
            }
        };
        // systemd may keep its own copy of the pipe for a while, so its end says nothing: what is in it is all.
        let output = output.drain();
        let result = self.result_of(&name, &job).await;
        self.forget(&name).await;
        let check = Check {
            stage: run.stage,
            command: run.command.to_string(),
            result: result.map_err(|error| unanswered(&format!("tell how {name} ended"), &error))?,
            output,
        };
        log::command_ended(transaction.id, &run, &check);
        Ok(check)
    }

    /// Returns how a transient unit ended whose job ended so.
    async fn result_of(&self, name: &str, job: &str) -> zbus::Result<String> {
        if job == "done" {
            return Ok(Check::DONE.to_owned());
        }
        let path = self.manager.load_unit(name).await?;
        let mut service = Properties::of(&self.connection, &path, SERVICE).await?;
        let status: i32 = service.take("ExecMainStatus");
        Ok(match service.take::<String>("Result").as_str() {
            // Somebody else stopped it, or it could not be started at all.
            "" | "success" => job.to_owned(),
            result @ ("exit-code" | "signal" | "core-dump") => format!("{result}, status {status}"),
            result => result.to_owned(),
        })
    }

    /// Ends the commands of a transaction that still run.
    pub(super) async fn end_transient(&self, transaction: u32) {
        let pattern = format!("venvd-hook-{transaction}-*.service");
        let listed = match self.manager.list_units_by_patterns(&[], &[&pattern]).await {
            Ok(listed) => listed,
            Err(error) => return tracing::warn!("cannot look for hooks that still run: {error}"),
        };
        for (name, ..) in listed {
            tracing::warn!(venvd_job = transaction, "{name} is ended: nobody waits for it any more");
            if let Err(failure) = self.run(&name, "stop").await {
                tracing::warn!("{name} can't be ended: {}", failure.message);
            }
            self.forget(&name).await;
        }
    }

    /// Lets systemd forget a transient unit. One of an earlier venvd is held by nobody, and gone by itself.
    async fn forget(&self, name: &str) {
        if let Err(error) = self.manager.unref_unit(name).await {
            tracing::debug!("{name} is not let go: {error}");
        }
    }

    /// Returns the environment files of units that are there, each once, and whether it may be missing.
    async fn environment_files(&self, units: &[UnitName]) -> zbus::Result<Vec<(String, bool)>> {
        let mut files: Vec<(String, bool)> = Vec::new();
        for declared in units {
            for name in members::instances(&self.manager, declared).await? {
                let path = self.manager.load_unit(&name).await?;
                let mut unit = Properties::of(&self.connection, &path, UNIT).await?;
                if unit.take::<String>("LoadState") != "loaded" {
                    continue;
                }
                let mut service = Properties::of(&self.connection, &path, SERVICE).await?;
                for file in service.take::<Vec<(String, bool)>>("EnvironmentFiles") {
                    if !files.contains(&file) {
                        files.push(file);
                    }
                }
            }
        }
        Ok(files)
    }

    /// Returns whether a host has the role that a unit stands for.
    pub(super) async fn has_role(&self, part: &Part, unit: &UnitName) -> zbus::Result<bool> {
        let path = self.manager.load_unit(unit.as_str()).await?;
        let mut properties = Properties::of(&self.connection, &path, UNIT).await?;
        let load: String = properties.take("LoadState");
        let active: String = properties.take("ActiveState");
        let ran = part.captured.iter().any(|captured| captured.unit == *unit);
        if ran || ["active", "activating", "reloading"].contains(&active.as_str()) {
            return Ok(true);
        }
        // Of one that is masked, our word doesn't count either.
        if load != "masked" && part.commands.installs(unit) {
            return Ok(true);
        }
        let state: String = properties.take("UnitFileState");
        let wanted = ["WantedBy", "RequiredBy"].map(|key| properties.take::<Vec<String>>(key));
        Ok(load == "loaded" && is_enabled(&state, wanted.iter().any(|by| !by.is_empty())))
    }
}

/// Returns whether a unit counts as enabled, by what systemd says of its file, and whether another unit wants it.
fn is_enabled(state: &str, is_wanted: bool) -> bool {
    match state {
        "enabled" | "enabled-runtime" => true,
        // systemctl(1), is-enabled: of these the word doesn't tell.
        "static" | "indirect" | "generated" | "linked" | "linked-runtime" | "transient" => is_wanted,
        _ => false,
    }
}

/// Returns the settings of a command's unit, but for what it reads and writes.
fn settings(transaction: &Transaction, run: &Run<'_>, venv: &VenvPath) -> Vec<Setting<'static>> {
    let words = run.command.words(&venv.path());
    let program = words.first().cloned().unwrap_or_default();
    let environment = vec![
        format!("PATH={}:{PATH}", venv.bin().display()),
        format!("VIRTUAL_ENV={}", venv.path().display()),
        format!("VENVD_APP={}", run.part.app),
        format!("VENVD_TAG={}", venv.name().tag()),
    ];
    // What systemd itself says of it is then found with what it writes.
    let fields: Vec<Vec<u8>> = [
        format!("VENVD_APP={}", run.part.app),
        format!("VENVD_TAG={}", venv.name().tag()),
        format!("VENVD_JOB={}", transaction.id),
        format!("VENVD_HOOK={}", run.stage),
    ]
    .map(String::into_bytes)
    .into();
    // Words are what they are: systemd would put variables into them.
    let exec = vec![(program, words, vec!["no-env-expand".to_owned()])];
    let limit = u64::try_from(transaction.case.timeout.as_micros()).unwrap_or(u64::MAX);
    let description = format!("{} of {} (venvd)", run.command, venv.name());
    let mut settings = vec![
        ("Description", Variant::from(description)),
        // Its start job ends when the command does, with what it started.
        ("Type", Variant::from("oneshot")),
        ("ExecStartEx", Variant::from(exec)),
        ("Environment", Variant::from(environment)),
        ("LogExtraFields", Variant::from(fields)),
        ("TimeoutStartUSec", Variant::from(limit)),
        ("TimeoutStopUSec", Variant::from(STOP_SECONDS * 1_000_000)),
        // It stays until we have asked how it ended, and goes with us.
        ("AddRef", Variant::from(true)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    settings.extend(run.user.map(|user| ("User", Variant::from(user.to_string()))));
    settings
}

/// What a command writes.
struct Output<F> {
    pipe: Receiver,
    lines: Lines,
    tell: F,
}

impl<F: Fn(&str)> Output<F> {
    /// Reads what is there, or waits for it; returns whether there may be more.
    async fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        if self.pipe.readable().await.is_err() {
            return false;
        }
        match self.pipe.try_read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.lines.take(&buffer[..length], &self.tell);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Reads what is left, and returns the last lines.
    fn drain(mut self) -> Vec<String> {
        let mut buffer = [0; 4096];
        loop {
            match nix::unistd::read(self.pipe.as_fd(), &mut buffer) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => break,
                Ok(length) => self.lines.take(&buffer[..length], &self.tell),
            }
        }
        self.lines.end(&self.tell)
    }
}

/// Lines, of which the last ones are kept.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    last: VecDeque<String>,
}

/// How many lines are kept for the result.
const KEEP: usize = 20;
/// The length in bytes at which a line is broken.
const LONGEST: usize = 1024;

impl Lines {
    fn take(&mut self, bytes: &[u8], tell: impl Fn(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                self.begun.push(byte);
            }
            if byte == b'\n' || self.begun.len() == LONGEST {
                self.finish(&tell);
            }
        }
    }

    fn finish(&mut self, tell: impl Fn(&str)) {
        let text = String::from_utf8_lossy(&self.begun);
        // It is shown on terminals, to which some characters are commands.
        let line = text.trim_end().replace(char::is_control, " ");
        self.begun.clear();
        if line.is_empty() {
            return;
        }
        tell(&line);
        if self.last.len() == KEEP {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn end(mut self, tell: impl Fn(&str)) -> Vec<String> {
        self.finish(tell);
        self.last.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_last_lines_are_kept_and_all_are_told() {
        let told = RefCell::new(Vec::new());
        let tell = |line: &str| told.borrow_mut().push(line.to_owned());
        let mut lines = Lines::default();
        for number in 0..30 {
            lines.take(format!("line {number}\n").as_bytes(), tell);
        }
        lines.take(b"\n\n\x1b[31mred\r\n\xff half", tell);
        lines.take(b" a line", tell);
        let last = lines.end(tell);
        assert_eq!(last.len(), KEEP);
        assert_eq!(last[0], "line 12");
        assert_eq!(last[KEEP - 2..], [" [31mred", "\u{fffd} half a line"]);
        assert_eq!(told.borrow().len(), 32);
    }

    #[test]
    fn units_that_count_as_enabled() {
        for (state, unwanted, wanted) in [
            ("enabled", true, true),
            ("enabled-runtime", true, true),
            ("static", false, true),
            ("generated", false, true),
            ("disabled", false, false),
            ("masked", false, false),
            ("bad", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (is_enabled(state, false), is_enabled(state, true)),
                (unwanted, wanted),
                "{state}"
            );
        }
    }

    #[test]
    fn a_line_without_an_end_is_broken() {
        let mut lines = Lines::default();
        lines.take(&[b'x'; 2 * LONGEST + 1], |_| {});
        let lengths: Vec<usize> = lines.end(|_| {}).iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST, LONGEST, 1]);
    }
}
