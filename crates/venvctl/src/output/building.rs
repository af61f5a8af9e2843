//! How a build goes on, on stderr: one line with a bar on a terminal; elsewhere a line for each stage, and for each
//! distribution that is fetched or built.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use venvd_core::build::{Amount, Progress, Stage, Unit};

use super::say;

/// Shows one build.
#[derive(Debug)]
pub(crate) struct Building {
    app: String,
    started: Instant,
    stage: Option<Stage>,
    distribution: String,
    counts: Counts,
    /// None: stderr is no terminal.
    bar: Option<ProgressBar>,
}

/// How far a stage is.
#[derive(Debug, Default)]
struct Counts {
    /// How many of how many, of what the stage is measured by.
    main: Option<(u64, u64)>,
    unit: Option<Unit>,
    bytes: u64,
}

impl Building {
    pub(crate) fn new(app: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        let bar = Some(bar).filter(|bar| !bar.is_hidden());
        if let Some(bar) = &bar {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self {
            app: app.to_owned(),
            started: Instant::now(),
            stage: None,
            distribution: String::new(),
            counts: Counts::default(),
            bar,
        }
    }

    /// Returns how long it took until now, for people.
    pub(crate) fn elapsed(&self) -> String {
        let elapsed = self.started.elapsed();
        if elapsed < Duration::from_secs(1) {
            format!("{} ms", elapsed.as_millis())
        } else {
            HumanDuration(elapsed).to_string()
        }
    }

    fn enter(&mut self, stage: Stage) -> bool {
        if self.stage == Some(stage) {
            return false;
        }
        self.stage = Some(stage);
        self.distribution.clear();
        self.counts = Counts::default();
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("{}: {}", self.app, words(stage)));
            bar.set_message("");
            set_style(bar, SPINNER);
        }
        true
    }

    /// Writes a line, where there is no bar.
    fn line(&self, text: &str) {
        if let (None, Some(stage)) = (&self.bar, self.stage) {
            let (seconds, app, words) = (self.started.elapsed().as_secs_f64(), &self.app, words(stage));
            say(&format!("[{seconds:6.1}s] {app}: {words}{text}"));
        }
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        if let Some((done, total)) = self.counts.main {
            bar.set_length(total);
            bar.set_position(done);
        }
        bar.set_message(message(&self.counts, &self.distribution));
    }
}

impl Progress for Building {
    fn report(&mut self, stage: Stage, detail: &str) {
        if self.enter(stage) {
            match detail {
                "" => self.line(""),
                detail => self.line(&format!(": {detail}")),
            }
        }
        if let (false, Some(bar)) = (detail.is_empty(), &self.bar) {
            bar.set_message(detail.to_owned());
        }
    }

    fn distribution(&mut self, stage: Stage, name: &str) {
        let entered = self.enter(stage);
        name.clone_into(&mut self.distribution);
        match stage {
            // These take their time.
            Stage::Download | Stage::Build => self.line(&format!(": {name}")),
            _ if entered => self.line(""),
            _ => {}
        }
        self.draw();
    }

    fn amount(&mut self, stage: Stage, amount: Amount) {
        self.enter(stage);
        let counts = &mut self.counts;
        let Amount { done, total, unit } = amount;
        if unit == Unit::Bytes {
            counts.bytes = done;
        } else if done == 0 {
            // A stage begins anew, with others.
            self.distribution.clear();
        }
        if let Some(total) = total.or(counts
            .main
            .filter(|_| counts.unit == Some(unit))
            .map(|(_, total)| total))
        {
            if let (None, Some(bar)) = (counts.main, &self.bar) {
                set_style(bar, BAR);
            }
            counts.main = Some((done.min(total), total));
            counts.unit = Some(unit);
        }
        self.draw();
    }

    fn warn(&mut self, text: &str) {
        let warn = || say(&format!("venvctl: {text}"));
        match &self.bar {
            Some(bar) => bar.suspend(warn),
            None => warn(),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const SPINNER: &str = "{spinner} {prefix} ({elapsed}) {wide_msg}";
const BAR: &str = "{spinner} {prefix} {bar:24} ({elapsed}) {wide_msg}";

fn set_style(bar: &ProgressBar, template: &str) {
    // Both are constants, and a test reads them.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// Returns what stands beside the bar: `34/141, 12.30 MiB, oslo.config 12.0`.
fn message(counts: &Counts, distribution: &str) -> String {
    let mut parts = Vec::new();
    match (counts.main, counts.unit) {
        (Some((done, total)), Some(Unit::Bytes)) => parts.push(format!("{}/{}", HumanBytes(done), HumanBytes(total))),
        (Some((done, total)), _) => parts.push(format!("{done}/{total}")),
        _ => {}
    }
    if counts.bytes > 0 && counts.unit != Some(Unit::Bytes) {
        parts.push(HumanBytes(counts.bytes).to_string());
    }
    if !distribution.is_empty() {
        parts.push(distribution.to_owned());
    }
    parts.join(", ")
}

/// Says what a stage of a build does.
pub(crate) fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Lock => "making the lock",
        Stage::Download => "getting distributions",
        Stage::Build => "building from source",
        Stage::Install => "installing",
        Stage::Copy => "copying",
        Stage::Relocate => "relocating",
        Stage::Compile => "compiling",
        Stage::Seal => "sealing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [SPINNER, BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_message_says_how_many_how_much_and_which() {
        let mut building = Building::new("nova");
        let amount = |done, total, unit| Amount { done, total, unit };
        building.amount(Stage::Download, amount(0, Some(141), Unit::Distributions));
        assert_eq!(message(&building.counts, &building.distribution), "0/141");
        building.distribution(Stage::Download, "nova 33.0.2");
        building.amount(Stage::Download, amount(1, None, Unit::Distributions));
        building.amount(Stage::Download, amount(6_000_000, None, Unit::Bytes));
        assert_eq!(
            message(&building.counts, &building.distribution),
            "1/141, 5.72 MiB, nova 33.0.2"
        );
        building.report(Stage::Copy, "");
        assert_eq!(message(&building.counts, &building.distribution), "");
        building.amount(Stage::Copy, amount(1 << 20, Some(4 << 20), Unit::Bytes));
        assert_eq!(message(&building.counts, &building.distribution), "1.00 MiB/4.00 MiB");
    }
}
