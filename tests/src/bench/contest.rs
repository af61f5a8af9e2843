//! Measuring two or more sides in turn.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// One side: does its work once and returns what that took. What it prepares and clears away is not in the figure.
pub(super) struct Side<'a> {
    name: &'static str,
    work: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Side<'a> {
    pub(super) fn new(name: &'static str, work: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self {
            name,
            work: Box::new(work),
        }
    }
}

/// How a contest between us and one peer ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) ours: f64,
    pub(super) peer: &'static str,
    pub(super) theirs: f64,
    pub(super) ratio: f64,
}

/// All samples of all sides, a line per round.
#[derive(Debug)]
pub(super) struct Rounds {
    names: Vec<&'static str>,
    rounds: Vec<Vec<f64>>,
}

/// Lets every side work once to warm up, and then `samples` times in turn, each round beginning with another one.
pub(super) fn contest(mut sides: Vec<Side<'_>>, samples: usize) -> Result<Rounds> {
    let mut rounds = Vec::new();
    for round in 0..=samples {
        let mut figures = vec![0.0; sides.len()];
        for turn in 0..sides.len() {
            let index = (turn + round) % sides.len();
            if let (Some(side), Some(figure)) = (sides.get_mut(index), figures.get_mut(index)) {
                *figure = (side.work)().with_context(|| format!("{} failed", side.name))?;
            }
        }
        if round > 0 {
            rounds.push(figures);
        }
    }
    let names = sides.iter().map(|side| side.name).collect();
    Ok(Rounds { names, rounds })
}

impl Rounds {
    /// Returns those of a contest that was run elsewhere.
    pub(super) fn nameless(rounds: Vec<Vec<f64>>) -> Self {
        let names = Vec::new();
        Self { names, rounds }
    }

    /// Returns all samples, a line per round.
    pub(super) fn figures(&self) -> &[Vec<f64>] {
        &self.rounds
    }

    /// Returns the median of a side.
    pub(super) fn median(&self, side: usize) -> f64 {
        median(self.of(side).collect())
    }

    /// Returns the first side against another one: the ratio of their medians.
    pub(super) fn outcome(&self, peer: usize) -> Outcome {
        let (ours, theirs) = (self.median(0), self.median(peer));
        Outcome {
            ours,
            peer: self.names.get(peer).copied().unwrap_or_default(),
            theirs,
            ratio: ours / theirs,
        }
    }

    /// Returns the first side against another one: the median of the rounds' ratios, in which what slowed a whole round
    /// down is not. For limits that are tighter than a shared machine is steady.
    pub(super) fn paired(&self, peer: usize) -> Outcome {
        let ratios = self.of(0).zip(self.of(peer)).map(|(ours, theirs)| ours / theirs);
        Outcome {
            ratio: median(ratios.collect()),
            ..self.outcome(peer)
        }
    }

    fn of(&self, side: usize) -> impl Iterator<Item = f64> {
        self.rounds.iter().filter_map(move |round| round.get(side)).copied()
    }
}

/// Returns the median; not a number when there is nothing.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.get(middle.wrapping_sub(1)), figures.get(middle)) {
        (Some(below), Some(above)) if figures.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

/// Runs a program to its end, and returns how many seconds that took.
pub(super) fn wall(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    succeed(command)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Runs a program to its end, and returns how many seconds of processor time it and its children took.
pub(super) fn processor(command: &mut Command) -> Result<f64> {
    let before = children()?;
    succeed(command)?;
    Ok(children()? - before)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim_end());
    }
    Ok(())
}

/// The processor time of all children that have ended: sides run one after the other, so a difference is one side's.
fn children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("can't ask for the time of children")?;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn sides_take_turns_and_the_warm_up_does_not_count() {
        let order = RefCell::new(String::new());
        let side = |name: &'static str, figures: [f64; 3]| {
            let (mut figures, order) = (figures.into_iter(), &order);
            Side::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(figures.next().unwrap())
            })
        };
        let rounds = contest(vec![side("a", [99.0, 1.0, 8.0]), side("b", [99.0, 2.0, 4.0])], 2).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        let outcome = rounds.outcome(1);
        assert_eq!((outcome.ours, outcome.theirs, outcome.ratio), (4.5, 3.0, 1.5));
        assert_eq!(rounds.paired(1).ratio, 1.25);
    }

    #[test]
    fn a_side_that_fails_is_no_figure() {
        let sides = vec![Side::new("false", || wall(&mut Command::new("false")))];
        assert!(format!("{:#}", contest(sides, 5).unwrap_err()).contains("false failed"));
    }

    #[test]
    fn processor_time_is_the_childs() {
        let spin = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
        assert!(processor(Command::new("sh").args(["-c", spin])).unwrap() > 0.0);
        assert!(wall(&mut Command::new("true")).unwrap() > 0.0);
    }
}
