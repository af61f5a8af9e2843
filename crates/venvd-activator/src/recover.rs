//! At boot, before the apps' units: puts back what an activation left open when the machine went down.
//!
//! The generator has followed the committed link, which may name a venv that never was found healthy; the marker of
//! the open activation makes the app's units wait for us.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::Command;

use anyhow::{Context, bail};
use venvd_app::links::{self, Link};
use venvd_app::{App, AppName, Layout, Record, Scope, UnitName};
use venvd_bus::{Check, Code, UnitReport};
use venvd_fs::lock::Lock;
use venvd_fs::{atomic, report};

use crate::commands::Run;
use crate::driver::Driver;
use crate::host::Host;
use crate::log;
use crate::machine::{Event, Failure, Side};
use crate::transaction::{CapturedUnit, Journal, Part, Transaction, boot_id};
use crate::units::{LeftDown, Units};

/// Puts back all that an earlier boot left open.
///
/// # Errors
/// When an app's committed link could not be put back: its units must not start then.
pub(crate) async fn recover(layout: &Layout, units: impl Units) -> anyhow::Result<()> {
    let driver = Driver {
        host: Host::new(layout),
        journal: Journal::new(layout),
        units,
    };
    let (open, broken) = driver.journal.open().context("open activations are not known")?;
    for error in broken {
        tracing::error!("{}", report(&error));
    }
    let mut stuck = Vec::new();
    for mut transaction in open {
        // Of this boot: its units may run, so it is venvd that has to go on with it, and not as if nothing ran.
        if transaction.boot == boot_id(layout) {
            continue;
        }
        // Held means that a living process works on it.
        let Some(_locks) = lock(layout, &transaction)? else {
            continue;
        };
        driver.drive(&mut transaction, (Event::Booted, None), |_| {}).await;
        log::result(&transaction.report());
        let undecided = transaction
            .parts
            .iter()
            .filter(|part| !is_decided(layout, &transaction, part));
        stuck.extend(undecided.map(|part| part.app.to_string()));
    }
    if clear_stale_markers(layout, &driver.journal, &mut stuck)? {
        driver
            .units
            .reload()
            .await
            .map_err(|failure| anyhow::anyhow!(failure.message))?;
    }
    if stuck.is_empty() {
        return Ok(());
    }
    bail!(
        "what is in force could not be put back for {}: look at {}, then start the units",
        stuck.join(", "),
        layout.links("committed").display()
    )
}

/// Takes the locks of a transaction's apps, in their order; nothing where somebody holds one.
fn lock(layout: &Layout, transaction: &Transaction) -> Result<Option<Vec<Lock>>, venvd_fs::Error> {
    let locks = transaction
        .parts
        .iter()
        .map(|part| Lock::try_exclusive(&layout.app_lock(&part.app)));
    locks.collect()
}

/// Returns whether the committed link names one of the two sides, as the end of the transaction says.
fn is_decided(layout: &Layout, transaction: &Transaction, part: &Part) -> bool {
    let committed = links::read(layout, Link::Committed, &part.app).ok().flatten();
    let state = &transaction.state;
    let may_be_new = state.failures().0.is_none() || state.is_one_way() || state.stays(&transaction.case);
    committed == part.from || may_be_new && committed == part.to
}

/// Returns whether the transaction that an app's marker names can be read, or is not there any more.
fn is_readable(layout: &Layout, journal: &Journal, app: &AppName) -> anyhow::Result<bool> {
    let text = atomic::read(&layout.pending(app))?.unwrap_or_default();
    let id = String::from_utf8_lossy(&text).trim().parse::<u32>();
    Ok(id.is_err() || id.is_ok_and(|id| journal.load(id).is_ok()))
}

/// Takes away markers to which there is no open transaction; returns whether there were any. What can't be read may well
/// be open: its app is stuck, as the venv in force may be one that was never found healthy.
fn clear_stale_markers(layout: &Layout, journal: &Journal, stuck: &mut Vec<String>) -> anyhow::Result<bool> {
    let (open, _) = journal.open()?;
    let directory = layout.pending_markers();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot list {directory:?}")),
    };
    let mut cleared = false;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot list {directory:?}"))?.file_name();
        let Some(app) = name.to_str().and_then(|name| name.parse::<AppName>().ok()) else {
            continue;
        };
        let is_open = open.iter().flat_map(|open| &open.parts).any(|part| part.app == app);
        if is_open {
            continue;
        }
        if !is_readable(layout, journal, &app)? {
            stuck.push(app.to_string());
        } else if Lock::try_exclusive(&layout.app_lock(&app))?.is_some() {
            tracing::warn!("{app}: a marker of an activation that is over is taken away");
            atomic::remove(&layout.pending(&app))?;
            cleared = true;
        }
    }
    Ok(cleared)
}

/// The units at boot: none of the apps' runs yet, and systemd starts them itself when we are done.
#[derive(Debug)]
pub(crate) struct AtBoot(pub(crate) Scope);

impl Units for AtBoot {
    async fn reload(&self) -> Result<(), Failure> {
        // As a child process, since it speaks with its manager over that one's private socket: the bus may not be there
        // yet, and must not be needed for services to start.
        let manager = match self.0 {
            Scope::System => "--system",
            Scope::User => "--user",
        };
        let output = Command::new("systemctl")
            .args([manager, "daemon-reload"])
            .output()
            .map_err(|error| Failure::new(Code::INTERNAL, format!("cannot run systemctl: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(
            Code::INTERNAL,
            format!("`systemctl daemon-reload` failed ({}): {}", output.status, said.trim()),
        ))
    }

    async fn capture(&self, _: &App, _: &LeftDown) -> Result<Vec<CapturedUnit>, Failure> {
        Ok(Vec::new())
    }

    async fn outside(&self, _: &Transaction) -> Result<Vec<UnitName>, Failure> {
        Ok(Vec::new())
    }

    async fn foresee(&self, _: &Transaction, _: Vec<Record>) -> Result<BTreeSet<UnitName>, Failure> {
        Ok(BTreeSet::new())
    }

    async fn stop(&self, _: &Transaction) -> Result<(), Failure> {
        Ok(())
    }

    async fn restart(&self, _: &Transaction) -> Result<(), Failure> {
        Ok(())
    }

    async fn let_go(&self, _: u32) {}

    async fn start(&self, _: &Transaction, _: Side) -> Result<(), Failure> {
        Ok(())
    }

    async fn settle(&self, _: &Transaction, _: Side) -> Result<Vec<UnitReport>, Failure> {
        Ok(Vec::new())
    }

    async fn not_up(&self, _: &Transaction) -> Vec<UnitReport> {
        Vec::new()
    }

    fn generation(&self) -> u64 {
        0
    }

    async fn is_another_since(&self, _: u64) -> bool {
        false
    }

    async fn is_enabled(&self, _: &Part, _: &UnitName) -> Result<bool, Failure> {
        Ok(true)
    }

    async fn run_command(&self, _: &Transaction, run: Run<'_>) -> Result<Check, Failure> {
        // Neither the network nor a database is there yet.
        Err(Failure::new(
            Code::INTERRUPTED,
            format!(
                "the machine went down before `{}` ({}) had run, and at boot it can't: run it by hand, as it is needed",
                run.command, run.stage
            ),
        ))
    }

    async fn end_commands(&self, _: u32) {}
}

#[cfg(test)]
mod tests;
