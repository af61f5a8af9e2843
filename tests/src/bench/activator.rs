//! An activation beside the same restart by hand; how soon a flip is noticed; and what venvd costs when nothing happens. In
//! a machine, with units whose programs start in some 20 ms.

use anyhow::{Context, Result};

use super::contest::{Rounds, Side, contest};
use super::{Options, Row, Say};
use crate::Os;
use crate::lab::{GOOD, Lab};

/// What can be measured by itself: numbers of units, and the rest.
pub(super) const PARTS: [&str; 5] = ["1", "10", "100", "flip", "idle"];

/// The newer systemd.
const OS: Os = Os::Debian13;

/// What an activation may take longer than the same by hand, in milliseconds: in all, and for each unit.
const LONGER: (f64, f64) = (100.0, 1.0);

/// How soon a flip is to be noticed, in milliseconds.
const NOTICED: f64 = 5.0;

/// How many flips there are for each sample.
const FLIPS: usize = 8;

/// How long venvd is watched while nothing happens, in seconds.
const IDLE: &str = "30";

/// What may be resident, in MiB.
const RESIDENT: f64 = 8.0;

/// The settle window is not in the figures. What sudo may run changes with each activation.
const DEFINITION: &str = "health.settle = \"1ms\"\n[sudo]\ncommands = [\"lab-hook nothing\"]\n";

const MEASURE: [&str; 2] = ["python3", "/srv/lab/measure.py"];

pub(super) fn rows(options: &Options, say: Say<'_>) -> Result<Vec<Row>> {
    say("a machine with an app of one unit");
    let mut lab = Lab::new(OS, 1, &GOOD)?;
    lab.define(DEFINITION);
    let mut rows = Vec::new();
    let mut add = |say: Say<'_>, measured: Vec<Row>| {
        measured.iter().for_each(|row| say(&row.line()));
        rows.extend(measured);
    };
    // Before there are many units: what is left of them in memory is not idle's.
    if options.wants("activator", "idle") {
        add(say, idle(&lab)?);
    }
    if options.wants("activator", "flip") {
        add(say, vec![flip(&lab, options.samples)?]);
    }
    for (part, units) in [("1", 1), ("10", 10), ("100", 100)] {
        if options.wants("activator", part) {
            lab.set_units(units, |_| Vec::new());
            lab.start();
            add(say, vec![restart(&lab, options.samples)?]);
        }
    }
    Ok(rows)
}

/// Runs the measuring script; returns the words that it printed.
fn measure(lab: &Lab, words: &[&str]) -> Result<Vec<f64>> {
    let output = lab.machine.run(&[&MEASURE[..], words].concat());
    anyhow::ensure!(output.success(), "measure.py failed: {output}");
    let figures = output.stdout.split_whitespace().map(str::parse);
    figures
        .collect::<Result<_, _>>()
        .context("measure.py printed no figures")
}

fn first(figures: Vec<f64>) -> Result<f64> {
    figures.into_iter().next().context("measure.py printed nothing")
}

/// From the request to the moment in which the last unit is up.
fn restart(lab: &Lab, samples: usize) -> Result<Row> {
    let units: Vec<&str> = lab.units().iter().map(String::as_str).collect();
    let mut tags = ["b", "a"].into_iter().cycle();
    let activate = || {
        // It is the other one than the one in force.
        let tag = tags.next().context("no tag")?;
        first(measure(lab, &[&["activate", tag], &units[..]].concat())?)
    };
    let by_hand = || first(measure(lab, &[&["by-hand"], &units[..]].concat())?);
    // An even number, and one to warm up: the first tag of the next contest is the one that is not in force.
    let rounds = contest(
        vec![Side::new("venvd", activate), Side::new("by hand", by_hand)],
        samples * 2 + 1,
    )?;
    let outcome = rounds.outcome(1);
    let (all, each) = LONGER;
    let limit = outcome.theirs + all + each * units.len() as f64;
    let name = format!(
        "until {} ran{}",
        units.len(),
        if units.len() == 1 { "" } else { " all" }
    );
    let mut row = Row::limited(&name, "ms", (outcome.ours, limit)).how(
        "from `venvctl activate` to the last unit's ActiveEnterTimestampMonotonic; by hand: from `systemctl daemon-reload && \
         systemctl restart` of the same units; the limit is that, 100 ms, and 1 ms per unit",
    );
    row.peers = [("by hand".to_owned(), outcome.theirs)].into();
    Ok(row)
}

/// From a flip to the first file that venvd makes for it.
fn flip(lab: &Lab, samples: usize) -> Result<Row> {
    let count = (samples * FLIPS).to_string();
    let figures = measure(lab, &["flips", "b", "a", &count])?;
    let median = Rounds::nameless(figures.into_iter().map(|figure| vec![figure]).collect()).median(0);
    Ok(Row::limited("a flip is noticed", "ms", (median, NOTICED))
        .how("from rename(2) of the link to the first file that is made below /var/lib/venvd/transactions, by inotify"))
}

/// What venvd does and holds while nothing happens.
fn idle(lab: &Lab) -> Result<Vec<Row>> {
    let figures = measure(lab, &["idle", IDLE])?;
    let [ran, fed, kilobytes] = figures[..] else {
        anyhow::bail!("measure.py printed {figures:?}");
    };
    Ok(vec![
        Row::limited(&format!("wakeups in {IDLE} s"), "wakeups", (ran, fed))
            .how("context switches of all threads; at most as many as the watchdog is fed, twice in its time"),
        Row::limited("resident", "MiB", (kilobytes / 1024.0, RESIDENT)).how("VmRSS, after an activation"),
    ])
}
