//! Progress on stderr: a line that is rewritten on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use venvd_bus::{JobReport, Stage};

use super::say;

/// A line that says what is being done.
#[derive(Debug)]
pub(crate) struct Line {
    /// None: stderr is no terminal.
    bar: Option<ProgressBar>,
}

impl Line {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if bar.is_hidden() {
            return Self { bar: None };
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar: Some(bar) }
    }

    /// Says something new.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => say(text),
        }
    }

    /// Says what stays to be read.
    pub(crate) fn warn(&self, text: &str) {
        let warn = || say(&format!("venvctl: {text}"));
        match &self.bar {
            Some(bar) => bar.suspend(warn),
            None => warn(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar of bytes on a terminal, nothing elsewhere: what is read and not written is soon over.
#[derive(Debug)]
pub(crate) struct Bytes(ProgressBar);

impl Bytes {
    pub(crate) fn new(name: String) -> Self {
        let bar = ProgressBar::no_length();
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} ({bytes_per_sec})";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(name);
        Self(bar)
    }
}

impl venvd_core::verify::Progress for Bytes {
    fn begin(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Shows the stages of a job, each once.
#[derive(Debug)]
pub(crate) struct Stages {
    line: Line,
    last: Option<Stage>,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self {
            line: Line::new(),
            last: None,
        }
    }

    pub(crate) fn show(&mut self, report: &JobReport) {
        if self.last == Some(report.state) || report.state == Stage::Ended {
            return;
        }
        self.last = Some(report.state);
        self.line.say(&format!("{}: {}", report.names(), words(report.state)));
    }
}

fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "waiting for the job before it",
        Stage::Preflight => "looking at the venv",
        Stage::Pending => "noting what runs",
        Stage::Policy => "writing sudoers and rootwrap",
        Stage::Stopping => "stopping the units",
        Stage::Committing => "moving the links",
        Stage::Reloading => "reloading systemd",
        Stage::Restarting => "restarting the units",
        Stage::Settling => "watching whether they stay up",
        Stage::Hooks => "running a hook",
        Stage::Health => "asking the health commands",
        Stage::Finishing => "taking the old rules away",
        Stage::RollingBack => "going back",
        Stage::Ended => "ended",
    }
}
