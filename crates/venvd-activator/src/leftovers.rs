//! Processes that an activation leaves behind: a unit with `KillMode=process` does not end them with its main process
//! (systemd.kill(5)), and what runs outside of units is nobody's to end.

use venvd_app::links::VenvPath;
use venvd_bus::Leftover;
use venvd_core::leftovers;
use venvd_core::usage::{Usage, Use};
use venvd_fs::report;

use crate::host::Host;
use crate::machine::When;
use crate::transaction::Transaction;

impl Host {
    /// Returns the processes that still run what was in force, where something else is by now.
    pub(crate) fn leftovers(&self, transaction: &Transaction) -> Vec<Leftover> {
        // What is not restarted yet is not left behind.
        if transaction.case.restart == When::Later {
            return Vec::new();
        }
        let gone: Vec<VenvPath> = transaction
            .changing()
            .filter_map(|part| {
                let (app, on) = self.app_in_force(&part.app).ok()?;
                let now = self.in_force(&app).ok()?.filter(|_| on.enabled && on.admitted);
                part.outgoing.clone().filter(|outgoing| Some(outgoing) != now.as_ref())
            })
            .collect();
        if gone.is_empty() {
            return Vec::new();
        }
        match Usage::scan(self.layout(), &gone) {
            Ok(usage) => gone.iter().flat_map(|venv| of_venv(&usage, venv)).collect(),
            Err(error) => {
                tracing::warn!("it is not known what is left of the venv before: {}", report(&error));
                Vec::new()
            }
        }
    }
}

fn of_venv(usage: &Usage, venv: &VenvPath) -> Vec<Leftover> {
    // Daemons of root's have been told to end.
    let runners = usage.runners_of(venv).filter(|one| !leftovers::is_daemon(one.pid));
    let leftover = |one: &Use| Leftover {
        pid: one.pid,
        unit: one.unit.clone(),
        program: one.name.clone(),
        venv: venv.name().clone(),
    };
    runners.map(leftover).collect()
}
