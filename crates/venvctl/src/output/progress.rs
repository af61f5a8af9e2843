//! Progress on stderr: a line that is rewritten on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use venvd_bus::Stage;

use super::say;
use crate::client::{Shown, View};

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

/// Shows how a job goes on: each stage once, and on a terminal what its units do meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// None before there is something to show: until then somebody may type a password here.
    line: Option<Line>,
    said: String,
}

impl Shown for Stages {
    fn show(&mut self, view: &View) {
        let Some(stage) = view.stage.filter(|stage| *stage != Stage::Ended) else {
            return;
        };
        let mut text = format!("{}: {}", view.apps.join(", "), words(stage));
        let line = self.line.get_or_insert_with(Line::new);
        if line.bar.is_some() {
            text.push_str(&of_units(view, stage, now()));
        }
        if text != self.said {
            line.say(&text);
            self.said = text;
        }
    }
}

/// Returns how far the units are, for stages that are about them.
fn of_units(view: &View, stage: Stage, now: Duration) -> String {
    let about_units = matches!(
        stage,
        Stage::Stopping | Stage::Restarting | Stage::Settling | Stage::RollingBack
    );
    if !about_units || view.units.is_empty() {
        return String::new();
    }
    let all = view.units.len();
    if let Some(left) = view.settle_left(now) {
        // Rounded up: at 0 it is over.
        return format!(", {all} of {all} are up, {} s left", left.as_millis().div_ceil(1000));
    }
    let reached = view.units.values().filter(|state| *state != "waiting").count();
    let mut text = format!(", {reached} of {all}");
    if let Some((unit, state)) = view.latest.as_ref().and_then(|unit| view.units.get_key_value(unit)) {
        text.push_str(&format!(": {unit} {state}"));
    }
    text
}

/// Returns the time by which venvd says when a settle window closes.
fn now() -> Duration {
    // Every kernel has this clock, clock_gettime(2).
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_one_by_one_then_a_countdown() {
        let mut view = View {
            units: [("a.service", "done"), ("b.service", "waiting")]
                .map(|(unit, state)| (unit.to_owned(), state.to_owned()))
                .into(),
            latest: Some("a.service".to_owned()),
            ..View::default()
        };
        let at = |view: &View, stage| of_units(view, stage, Duration::from_secs(100));
        assert_eq!(at(&view, Stage::Restarting), ", 1 of 2: a.service done");
        assert_eq!(at(&view, Stage::Policy), "", "not about units");
        view.settle_until = Some(Duration::from_millis(106_001));
        assert_eq!(at(&view, Stage::Settling), ", 2 of 2 are up, 7 s left");
        view.units.clear();
        assert_eq!(at(&view, Stage::Settling), "", "an app that is off has none");
    }
}
