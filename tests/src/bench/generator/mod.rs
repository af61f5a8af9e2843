//! The generator: what it takes for none to ten thousand units, beside a program that only writes the same files, an
//! empty one, and quadlet. All of it on a tmpfs, as `/run` is one.

mod field;
mod host;
mod quadlet;

use anyhow::Result;

use super::contest::{Outcome, Side, contest};
use super::{Options, Row, Say};
use field::Field;
use host::Host;

/// What can be measured by itself: numbers of units, and how ten thousand compare with one thousand.
pub(super) const PARTS: [&str; 6] = ["0", "1", "100", "1000", "10000", "growth"];

/// Numbers of units, and how many times the usual number of samples each gets: short ones more.
const SIZES: [(usize, usize); 5] = [(0, 40), (1, 40), (100, 20), (1_000, 8), (10_000, 1)];

/// What nothing configured may cost, by an empty program.
const NOTHING: f64 = 1.5;

/// What a thousand units may cost, by writing their files.
const LIMIT: f64 = 2.0;

/// What one of ten thousand units may cost, by one of a thousand: linear, but for caches that get too small.
const GROWTH: f64 = 1.25;

const HOW: &str = "whole processes, page cache warm, in and output on a tmpfs; twenty units an app, each a unit file with \
                   one ExecStart=; the limit has the same files compiled in, and reads nothing; quadlet is Debian 13's, \
                   for as many .container files; medians of the rounds' ratios";

const HOW_COUNTED: &str = "callgrind, which counts in user space only: there the limit does nothing but call the kernel, \
                           and the empty program nothing but be linked; quadlet does not run under it";

pub(super) fn rows(options: &Options, say: Say<'_>) -> Result<Vec<Row>> {
    let field = Field::ensure(&options.generator, say)?;
    let mut rows = Vec::new();
    for (units, factor) in SIZES {
        if options.wants("generator", &units.to_string()) {
            say(&format!("{units} units"));
            rows.extend(size(&field.host(units)?, options.samples * factor, say)?);
        }
    }
    if options.wants("generator", "growth") {
        say("1000 and 10000 units");
        rows.extend(growth(&field, options.samples, say)?);
    }
    Ok(rows)
}

/// The figures for one number of units.
fn size(host: &Host<'_>, samples: usize, say: Say<'_>) -> Result<Vec<Row>> {
    let (least, goal) = match host.units {
        0 => ("empty program", Some(NOTHING)),
        1_000 => ("limit", Some(LIMIT)),
        _ => ("limit", None),
    };
    let rounds = contest(
        vec![
            Side::new("venvd", || host.milliseconds(&mut host.ours())),
            Side::new(least, || host.milliseconds(&mut host.least())),
            Side::new("quadlet", || host.milliseconds(&mut host.quadlet())),
        ],
        samples,
    )?;
    let (ours, theirs) = (host.instructions(&host.ours())?, host.instructions(&host.least())?);
    let counted = outcome(ours / 1e6, (least, theirs / 1e6));
    let name = |what: &str| format!("{} units, {what}", host.units);
    let rows = vec![
        Row::against(&name(&format!("to the {least}")), "ms", &rounds.paired(1), goal).how(HOW),
        Row::against(&name("to quadlet"), "ms", &rounds.paired(2), 1.0).how(HOW),
        Row::against(&name("instructions"), "M", &counted, goal).how(HOW_COUNTED),
    ];
    rows.iter().for_each(|row| say(&row.line()));
    Ok(rows)
}

/// Whether ten times the units cost ten times as much.
fn growth(field: &Field, samples: usize, say: Say<'_>) -> Result<Vec<Row>> {
    let (many, some) = (field.host(10_000)?, field.host(1_000)?);
    let rounds = contest(
        vec![
            Side::new("10000", || Ok(many.milliseconds(&mut many.ours())? / 10.0)),
            Side::new("1000 units", || some.milliseconds(&mut some.ours())),
        ],
        samples,
    )?;
    let (ours, theirs) = (many.instructions(&many.ours())?, some.instructions(&some.ours())?);
    let counted = outcome(ours / 1e7, ("1000 units", theirs / 1e6));
    let rows = vec![
        Row::against("a thousand of 10000 units", "ms", &rounds.paired(1), GROWTH).how(HOW),
        Row::against("a thousand of 10000 units, instructions", "M", &counted, GROWTH).how(HOW_COUNTED),
    ];
    rows.iter().for_each(|row| say(&row.line()));
    Ok(rows)
}

fn outcome(ours: f64, (peer, theirs): (&'static str, f64)) -> Outcome {
    Outcome {
        ours,
        peer,
        theirs,
        ratio: ours / theirs,
    }
}
