//! What a transaction does with units, whoever does it: systemd over D-Bus, or almost nobody at boot.

use std::collections::BTreeSet;

use venvd_app::{App, Record, UnitName};
use venvd_bus::{Check, UnitReport};

use crate::commands::Run;
use crate::machine::{Captured, Failure, Side};
use crate::plan::Moves;
use crate::transaction::{CapturedUnit, Part, Transaction};

/// What an activation that failed on its way back may have left down. It is still wanted, unless somebody has started and
/// stopped it since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftDown {
    pub(crate) units: BTreeSet<UnitName>,
    /// When that was over, in seconds since 1970.
    pub(crate) since: u64,
}

/// Stops, starts and watches the units of an app.
pub(crate) trait Units {
    /// Lets systemd read its units anew.
    async fn reload(&self) -> Result<(), Failure>;

    /// Returns the units of an app that run, or were meant to, those among them that were left down.
    async fn capture(&self, app: &App, left: &LeftDown) -> Result<Vec<CapturedUnit>, Failure>;

    /// Returns the units that run, are of none of the apps, and go down with their units.
    async fn outside(&self, transaction: &Transaction) -> Result<Vec<UnitName>, Failure>;

    /// Refuses captured units that could not run from the new venvs, of which these records tell. Returns those that a
    /// program of the venv stops, now or then.
    async fn foresee(&self, transaction: &Transaction, records: Vec<Record>) -> Result<BTreeSet<UnitName>, Failure>;

    /// Returns what would be done with units, of a transaction that has captured them.
    async fn moves(&self, transaction: &Transaction) -> Result<Moves, Failure> {
        let captured: Vec<UnitName> = transaction.captured().map(|unit| unit.unit.clone()).collect();
        Ok(Moves {
            stop: captured.clone(),
            restart: captured.clone(),
            start: captured,
            alone: Vec::new(),
        })
    }

    /// Stops the captured units, and those of the app that belong to its target.
    async fn stop(&self, transaction: &Transaction) -> Result<(), Failure>;

    /// Restarts those of them that run.
    async fn restart(&self, transaction: &Transaction) -> Result<(), Failure>;

    /// Starts the captured units. On the way back those may fail that had failed before.
    async fn start(&self, transaction: &Transaction, side: Side) -> Result<(), Failure>;

    /// Lets go of whatever keeps units from starting for a transaction that is over.
    async fn let_go(&self, transaction: u32);

    /// Waits until the captured units were up, unchanged, for the settle window.
    async fn settle(&self, transaction: &Transaction, side: Side) -> Result<Vec<UnitReport>, Failure>;

    /// Returns how those of the captured units are that are not up.
    async fn not_up(&self, transaction: &Transaction) -> Vec<UnitReport>;

    /// Returns what tells systemd as it is now from what it becomes when it executes itself anew.
    fn generation(&self) -> u64;

    /// Returns whether it has executed itself anew since then, or begins to; then it is back when this returns. Where it is
    /// the way to it that is gone, this never returns: nothing more can be said of units, also not that they failed.
    async fn is_another_since(&self, generation: u64) -> bool;

    /// Returns whether a unit is enabled on this host, or ran when the transaction began.
    async fn is_enabled(&self, part: &Part, unit: &UnitName) -> Result<bool, Failure>;

    /// Runs a command of the new venv to its end, and returns how it ended. It never takes longer than the time limit.
    async fn run_command(&self, transaction: &Transaction, run: Run<'_>) -> Result<Check, Failure>;

    /// Ends the commands of a transaction that still run, since nobody waits for them any more.
    async fn end_commands(&self, transaction: u32);
}

/// Returns what the captured units mean for the course of a transaction.
pub(crate) fn summary(transaction: &Transaction) -> Captured {
    let apps = transaction
        .parts
        .iter()
        .filter(|part| !part.captured.is_empty())
        .count();
    match apps {
        0 => Captured::Nothing,
        _ if transaction.captured().any(|unit| unit.own_stop) => Captured::StopFirst,
        // A restart goes through the target of one app; those of several apps would not wait for each other.
        1 if transaction.captured().all(|unit| unit.running) => Captured::Running,
        _ => Captured::Mixed,
    }
}
