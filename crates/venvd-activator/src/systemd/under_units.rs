//! Results under the names of units, where `journalctl -u` shows them.

use venvd_app::{Scope, UnitName};
use venvd_bus::{AppChange, JobReport};
use zbus::Connection;

use super::members::{self, Properties, SERVICE, UNIT};
use super::proxies::ManagerProxy;
use crate::actor::Announce;
use crate::log::{self, Object};

/// Writes how a job ended into the journal of each of its units, then tells it on.
#[derive(Debug)]
pub(crate) struct UnderUnits<A> {
    pub(crate) connection: Connection,
    pub(crate) scope: Scope,
    pub(crate) then: A,
}

impl<A: Announce> Announce for UnderUnits<A> {
    async fn announce(&self, report: &JobReport) {
        // One that systemd can't say anything of is found by its name.
        let looks = report
            .units
            .iter()
            .map(|unit| async { Ok(self.look(&unit.unit).await.unwrap_or_default()) });
        let found = members::all(looks.collect()).await.unwrap_or_default();
        for (unit, found) in report.units.iter().zip(found) {
            let object = match (found.process, self.scope) {
                // Only of root does journald believe which process a record is about.
                (_, Scope::User) => Object::UserUnit(unit.unit.as_str()),
                (0, Scope::System) => Object::Unit(unit.unit.as_str()),
                (process, Scope::System) => Object::Process(process),
            };
            let is_its = |change: &&AppChange| found.targets.contains(&format!("venvd-{}.target", change.app));
            if let Some(change) = report.apps.iter().find(is_its).or(report.apps.first()) {
                log::unit((report, change), (unit, object));
            }
        }
        self.then.announce(report).await;
    }
}

/// What is asked of a unit: its main process, 0 if it has none, and the targets that it follows.
#[derive(Debug, Default)]
struct Found {
    process: u32,
    targets: Vec<String>,
}

impl<A> UnderUnits<A> {
    async fn look(&self, unit: &UnitName) -> zbus::Result<Found> {
        let manager = ManagerProxy::new(&self.connection).await?;
        let path = manager.load_unit(unit.as_str()).await?;
        let mut service = Properties::of(&self.connection, &path, SERVICE).await?;
        let mut properties = Properties::of(&self.connection, &path, UNIT).await?;
        Ok(Found {
            process: service.take("MainPID"),
            targets: properties.take("PartOf"),
        })
    }
}
