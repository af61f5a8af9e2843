//! Keeps sockets, timers and paths from starting units that are stopped for a while.
//!
//! They are left alone, and what they trigger is not lost: a start job waits for the job of whatever the unit is ordered
//! behind (systemd.unit(5), `Before=`). So for that while there is a unit before all of them whose start never ends.

use zbus::Variant;

use super::Systemd;
use super::members;
use super::proxies::Setting;
use super::unanswered;
use crate::machine::Failure;
use crate::transaction::Transaction;

/// Returns the names of these units, for one transaction.
pub(super) fn pattern(transaction: u32) -> String {
    format!("venvd-hold-{transaction}-*.service")
}

impl Systemd {
    /// Lets starts of the captured units wait, if anything may trigger them.
    pub(super) async fn hold(&self, transaction: &Transaction) -> Result<(), Failure> {
        let held = self
            .triggered(transaction)
            .await
            .map_err(|error| unanswered(&format!("look at the units of {}", transaction.names()), &error))?;
        if held.is_empty() {
            return Ok(());
        }
        let name = pattern(transaction.id).replace('*', &self.number());
        // The job stays open; to stop the unit cancels it.
        self.manager
            .start_transient_unit(&name, "fail", &settings(transaction.id, held), &[])
            .await
            .map_err(|error| unanswered(&format!("start {name}"), &error))?;
        Ok(())
    }

    /// Returns the units that something may trigger, also those that wait for that and never ran.
    async fn triggered(&self, transaction: &Transaction) -> zbus::Result<Vec<String>> {
        let units = self.all_units(transaction).await?;
        let triggers = members::all(units.iter().map(|unit| self.list_of(unit, "TriggeredBy")).collect()).await?;
        let triggered = units.into_iter().zip(triggers).filter(|(_, by)| !by.is_empty());
        Ok(triggered.map(|(unit, _)| unit).collect())
    }

    /// Lets them start.
    pub(super) async fn release(&self, transaction: u32) -> Result<(), Failure> {
        let pattern = pattern(transaction);
        let listed = self
            .manager
            .list_units_by_patterns(&[], &[&pattern])
            .await
            .map_err(|error| unanswered("list its units", &error))?;
        for (name, ..) in listed {
            self.run(&name, "stop").await?;
        }
        Ok(())
    }
}

fn settings(transaction: u32, held: Vec<String>) -> Vec<Setting<'static>> {
    let words = ["/bin/sleep", "infinity"].map(str::to_owned).to_vec();
    let exec = vec![("/bin/sleep".to_owned(), words, false)];
    vec![
        (
            "Description",
            Variant::from(format!("Units wait for activation {transaction} of venvd")),
        ),
        ("Type", Variant::from("oneshot")),
        ("ExecStart", Variant::from(exec)),
        ("Before", Variant::from(held)),
        ("DefaultDependencies", Variant::from(false)),
        ("TimeoutStartUSec", Variant::from(u64::MAX)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ]
}
