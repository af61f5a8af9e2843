//! A contest that is run somewhere else: its sides on standard input, what came of it on standard output.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::bench::contest::{Rounds, Side, contest, wall};

/// The word that asks the measuring program for it.
pub const WORD: &str = "race";

/// The contest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Race {
    pub(super) samples: usize,
    pub(super) runners: Vec<Runner>,
}

/// A side: a command, and variables beside those that are there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Runner {
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
}

impl Runner {
    fn start(&self) -> Result<f64> {
        let Some((program, arguments)) = self.command.split_first() else {
            bail!("a runner without a command");
        };
        wall(Command::new(program).args(arguments).envs(&self.environment))
    }
}

/// Runs the race on standard input.
///
/// # Errors
/// When there is none, or a side fails.
pub fn run() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let race: Race = serde_json::from_str(&text).context("no race on standard input")?;
    let sides = race
        .runners
        .iter()
        .map(|runner| Side::new("a runner", || runner.start()));
    let rounds = contest(sides.collect(), race.samples)?;
    let text = serde_json::to_string(rounds.figures())?;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Reads what [`run`] wrote.
pub(super) fn read(text: &str) -> Result<Rounds> {
    let figures = serde_json::from_str(text).context("the race came to no figures")?;
    Ok(Rounds::nameless(figures))
}
