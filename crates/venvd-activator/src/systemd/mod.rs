//! systemd over D-Bus: jobs, states, the runtime target that starts a set of units in one transaction.
//!
//! Restarting units one call at a time does not respect `After=` and `Requires=`, however the calls are sent: only
//! what is in one transaction is ordered. So everything goes through a target.

mod changes;
mod commands;
mod hold;
mod jobs;
mod members;
mod moves;
mod presence;
mod preview;
mod proxies;
mod settle;
mod target;
mod under_units;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use venvd_app::{App, AppName, Layout, Record, UnitName, VenvName};
use venvd_bus::{Check, Code, Kind, UnitReport};
use venvd_core::usage::{Trace, run_by};
use zbus::Connection;

use self::changes::Changes;
pub(crate) use self::jobs::Ended;
use self::jobs::{Jobs, Lost};
use self::presence::Presence;
use self::preview::Report;
pub(crate) use self::proxies::{JobNewStream, JobRemovedStream, ManagerProxy};
use self::settle::{Expected, Observation, Verdict, Window, hint};
use self::target::RuntimeTarget;
pub(crate) use self::under_units::UnderUnits;
use crate::aside::aside;
use crate::commands::Run;
use crate::host::what_runs;
use crate::machine::{Failure, Side};
use crate::plan::Moves;
use crate::progress::{Progress, Teller};
use crate::transaction::{CapturedUnit, Part, Transaction};
use crate::units::{LeftDown, Units};

/// Reloading runs all generators and reads all units; NixOS found 25 s too short for large hosts.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(180);

/// How often the settle window looks at all units although systemd says nothing of them: a process can become another
/// one that its unit's properties don't tell.
const LOOK: Duration = Duration::from_secs(1);

/// systemd, reached over the system bus.
#[derive(Debug, Clone)]
pub(crate) struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
    jobs: Arc<Jobs>,
    presence: Arc<Presence>,
    layout: Layout,
    numbers: Arc<AtomicU32>,
    progress: Teller,
}

impl Systemd {
    /// Begins to listen to systemd on this connection.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn new(connection: &Connection, layout: &Layout) -> zbus::Result<Self> {
        let manager = ManagerProxy::new(connection).await?;
        let presence = Arc::new(Presence::follow(connection, &manager).await?);
        let jobs = Arc::new(Jobs::listen(&manager).await?);
        Ok(Self {
            connection: connection.clone(),
            manager,
            jobs,
            presence,
            layout: layout.clone(),
            numbers: Arc::default(),
            progress: Teller::new(),
        })
    }

    /// Returns what sees how the units of a transaction do.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.follow()
    }

    /// Returns what ends when the bus goes away, after which nothing here works any more.
    pub(crate) fn lost(&self) -> Lost {
        self.jobs.lost()
    }

    /// Returns what no other unit of ours has in its name, also none that systemd remembers of an earlier venvd.
    fn number(&self) -> String {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", std::process::id())
    }

    /// Forgets earlier failures, so that the start limit doesn't count them: our restarts are not a crash loop.
    async fn forget_failures(&self, units: impl Iterator<Item = &UnitName>) {
        let resets = units.map(|unit| async {
            // Units that aren't loaded have no failures; the start says what is wrong, if anything is.
            drop(self.manager.reset_failed_unit(unit.as_str()).await);
            Ok(())
        });
        drop(members::all(resets.collect()).await);
    }

    async fn run(&self, unit: &str, job: &str) -> Result<(), Failure> {
        let bad = self.bad_jobs(unit, job).await?;
        if bad.is_empty() {
            return Ok(());
        }
        Err(self.failed_jobs(job, &bad).await)
    }

    /// Enqueues a job of a unit, waits for all of its transaction, and returns those that did not end well.
    async fn bad_jobs(&self, unit: &str, job: &str) -> Result<Vec<Ended>, Failure> {
        let mut bad = Vec::new();
        let told = |end: &Ended| self.progress.unit(&end.unit, &end.result);
        for end in self.jobs.run(&self.manager, (unit, job), told).await? {
            if !end.is_well() && !self.went_well_unheard(&end, job).await {
                bad.push(end);
            }
        }
        Ok(bad)
    }

    /// Returns whether a job that ended unheard left its unit as it should.
    async fn went_well_unheard(&self, end: &Ended, job: &str) -> bool {
        let Ok(unit) = end.unit.parse::<UnitName>() else {
            return false;
        };
        if end.result != Ended::UNHEARD {
            return false;
        }
        let seen = self.observe(&unit).await;
        seen.is_ok_and(|seen| match job {
            "stop" => seen.active == "inactive",
            _ => seen.active == "active" || seen.oneshot && seen.result == "success",
        })
    }

    async fn observe(&self, unit: &UnitName) -> zbus::Result<Observation> {
        let path = self.manager.load_unit(unit.as_str()).await?;
        members::observe(&self.connection, &path).await
    }

    /// Returns a list that is a property of a unit.
    async fn list_of(&self, unit: &str, property: &'static str) -> zbus::Result<Vec<String>> {
        let path = self.manager.load_unit(unit).await?;
        members::property(&self.connection, &path, (members::UNIT, property)).await
    }

    async fn failed_jobs(&self, job: &str, bad: &[Ended]) -> Failure {
        let mut units = Vec::new();
        for end in bad {
            // The target only fails because of others.
            let Ok(unit) = end.unit.parse::<UnitName>() else {
                continue;
            };
            if unit.kind() == "target" && bad.len() > 1 {
                continue;
            }
            let state = match self.observe(&unit).await {
                Ok(observation) => observation.describe(),
                Err(_) => "its state is unknown".to_owned(),
            };
            units.push(UnitReport {
                result: format!("{} of its {job} job; {state}", end.result),
                unit,
            });
        }
        let each: Vec<_> = units
            .iter()
            .map(|report| format!("{}: {}", report.unit, report.result))
            .collect();
        Failure {
            message: format!("{}; {}", each.join("; "), hint(&units)),
            units,
            ..Failure::new(Code::JOB_FAILED, "")
        }
    }

    /// Returns the venvs that a process shows to run. To read what a large one has mapped may take a while.
    async fn shown(&self, pid: u32) -> BTreeMap<VenvName, Trace> {
        let layout = self.layout.clone();
        let shown = aside(move || run_by(&layout, pid)).await.unwrap_or_else(|failure| {
            tracing::error!("{}", failure.message);
            BTreeMap::new()
        });
        let named = shown.into_iter().map(|(venv, trace)| (venv.name().clone(), trace));
        named.collect()
    }

    /// Returns those of an app's captured units that follow its target now; of the others, why they don't.
    async fn followers(&self, part: &Part) -> Result<Vec<CapturedUnit>, Failure> {
        let target = target_of(&part.app);
        let follow = self
            .list_of(&target, "ConsistsOf")
            .await
            .map_err(|error| unanswered(&format!("look at {target}"), &error))?;
        let report = Report::of_last_reload(&self.layout);
        let mut followers = Vec::new();
        for captured in &part.captured {
            if follow.iter().any(|unit| unit == captured.unit.as_str()) {
                followers.push(captured.clone());
            } else if let Some(reason) = report.skipped(&part.app, &captured.unit) {
                return Err(unit_skipped(&captured.unit, reason));
            } else if report.is_switched_off(&part.app, &captured.unit) {
                tracing::info!("{} does not follow {target}, so it is left alone", captured.unit);
            } else {
                let reason = "the generator left it out, and does not say why; does `systemctl daemon-reload` run it?";
                return Err(unit_skipped(&captured.unit, reason.to_owned()));
            }
        }
        Ok(followers)
    }

    /// Returns the captured units, and all that follow the targets of the apps whose units change. Of an app that is about
    /// to be enabled, none follow that yet.
    async fn all_units(&self, transaction: &Transaction) -> zbus::Result<BTreeSet<String>> {
        let mut all: BTreeSet<String> = transaction
            .captured()
            .map(|captured| captured.unit.to_string())
            .collect();
        for part in transaction.changing() {
            let target = target_of(&part.app);
            all.extend(self.list_of(&target, "ConsistsOf").await?);
            all.insert(target);
        }
        Ok(all)
    }

    /// Returns what is up of them.
    ///
    /// Units that are down must not be stopped along with others: systemd 257 drops such a job as redundant, and
    /// sometimes with it the jobs of units that are up and depend on it.
    async fn up(&self, transaction: &Transaction) -> Result<Vec<String>, Failure> {
        let up = async { members::up(&self.manager, self.all_units(transaction).await?).await };
        up.await
            .map_err(|error| unanswered(&format!("look at the units of {}", transaction.names()), &error))
    }

    /// Returns the units that must be up, and what they must run, on that side.
    async fn expected(&self, transaction: &Transaction, side: Side) -> Result<Vec<Expected>, Failure> {
        let mut expected = Vec::new();
        for part in transaction.changing() {
            let venv = venv_of(&self.layout, (transaction.case.kind, part), side);
            let units = match venv {
                Some(_) => self.followers(part).await?,
                None => part.captured.clone(),
            };
            // What had failed before need not run on the way back.
            let judged = units.into_iter().filter(|unit| side == Side::New || unit.running);
            expected.extend(judged.map(|captured| Expected {
                venv: venv.clone().filter(|_| captured.tagged),
                unit: captured.unit,
                before: captured.invocation,
            }));
        }
        Ok(expected)
    }
}

impl Units for Systemd {
    async fn reload(&self) -> Result<(), Failure> {
        self.manager
            .reload()
            .await
            .map_err(|error| unanswered("reload its units", &error))
    }

    async fn capture(&self, app: &App, left: &LeftDown) -> Result<Vec<CapturedUnit>, Failure> {
        members::capture(&self.connection, &self.manager, (app, left))
            .await
            .map_err(|error| unanswered(&format!("list the units of {}", app.name), &error))
    }

    async fn outside(&self, transaction: &Transaction) -> Result<Vec<UnitName>, Failure> {
        let outside = async {
            let all = self.all_units(transaction).await?;
            members::dependents(&self.connection, &self.manager, all).await
        };
        outside.await.map_err(|error| {
            unanswered(
                &format!("look at what needs the units of {}", transaction.names()),
                &error,
            )
        })
    }

    async fn foresee(&self, transaction: &Transaction, records: Vec<Record>) -> Result<BTreeSet<UnitName>, Failure> {
        let scope = self.layout.scope();
        let report = aside(move || Report::with(scope, &records)).await?;
        let report = report.map_err(|error| Failure::new(Code::INTERNAL, error))?;
        let now = Report::of_last_reload(&self.layout);
        let mut own_stop = BTreeSet::new();
        for part in transaction.changing() {
            for CapturedUnit { unit, .. } in &part.captured {
                if let Some(reason) = report.skipped(&part.app, unit) {
                    return Err(unit_skipped(unit, reason));
                }
                if [&now, &report]
                    .iter()
                    .any(|report| report.has_own_stop(&part.app, unit))
                {
                    own_stop.insert(unit.clone());
                }
            }
        }
        Ok(own_stop)
    }

    async fn moves(&self, transaction: &Transaction) -> Result<Moves, Failure> {
        self.told(transaction).await
    }

    async fn stop(&self, transaction: &Transaction) -> Result<(), Failure> {
        let units = self.up(transaction).await?;
        if units.is_empty() {
            return Ok(());
        }
        self.hold(transaction).await?;
        let stopping = units.iter().filter_map(|unit| unit.parse().ok());
        self.progress.begin(transaction.id, stopping, "waiting");
        let units: Vec<&str> = units.iter().map(String::as_str).collect();
        let target =
            RuntimeTarget::stopping(&self.layout, (transaction.id, self.number()), &units).map_err(unwritten)?;
        self.run(target.name(), "stop").await
    }

    async fn restart(&self, transaction: &Transaction) -> Result<(), Failure> {
        let mut all = Vec::new();
        for part in transaction.changing() {
            all.push((part, self.followers(part).await?));
        }
        all.retain(|(_, followers)| !followers.is_empty());
        let units = all.iter().flat_map(|(_, followers)| followers);
        self.progress
            .begin(transaction.id, units.map(|unit| unit.unit.clone()), "waiting");
        self.forget_failures(transaction.touched()).await;
        for (part, _) in all {
            self.run(&target_of(&part.app), "restart").await?;
        }
        Ok(())
    }

    async fn let_go(&self, transaction: u32) {
        if let Err(failure) = self.release(transaction).await {
            tracing::warn!("units may still wait for activation {transaction}: {}", failure.message);
        }
    }

    async fn start(&self, transaction: &Transaction, side: Side) -> Result<(), Failure> {
        self.forget_failures(transaction.touched()).await;
        let units: Vec<&str> = transaction.touched().map(UnitName::as_str).collect();
        let starting = units.iter().filter_map(|unit| unit.parse().ok());
        self.progress.begin(transaction.id, starting, "waiting");
        let target =
            RuntimeTarget::starting(&self.layout, (transaction.id, self.number()), &units).map_err(unwritten)?;
        // What was triggered meanwhile starts now, in what is in force by now.
        self.release(transaction.id).await?;
        let bad = self.bad_jobs(target.name(), "start").await;
        // It holds nothing: what it wanted runs on.
        if let Err(failure) = self.run(target.name(), "stop").await {
            tracing::debug!("{}: {}", target.name(), failure.message);
        }
        let mut bad = bad?;
        // What had failed before all this need not run on the way back.
        let had_failed = |end: &Ended| {
            let mut captured = transaction.captured();
            captured.any(|unit| !unit.running && unit.unit.as_str() == end.unit)
        };
        bad.retain(|end| side == Side::New || !had_failed(end));
        if bad.is_empty() {
            return Ok(());
        }
        Err(self.failed_jobs("start", &bad).await)
    }

    async fn settle(&self, transaction: &Transaction, side: Side) -> Result<Vec<UnitReport>, Failure> {
        let expected = self.expected(transaction, side).await?;
        if expected.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = |error: zbus::Error| unanswered(&format!("look at the units of {}", transaction.names()), &error);
        let mut units = BTreeMap::new();
        for expected in &expected {
            let path = self.manager.load_unit(expected.unit.as_str()).await.map_err(unknown)?;
            units.insert(expected.unit.clone(), path);
        }
        // Before the first look, so that no change falls between the two.
        let mut changes = Changes::of(&self.connection, &units).await.map_err(unknown)?;
        self.progress.begin(transaction.id, units.keys().cloned(), "starting");
        let mut window = Window::new(expected, side, transaction.settle);
        let begun = Instant::now();
        let (mut seen, mut stale) = (BTreeMap::new(), units.keys().cloned().collect::<BTreeSet<_>>());
        loop {
            for (unit, path) in units.iter().filter(|(unit, _)| stale.contains(unit)) {
                let mut observation = members::observe(&self.connection, path).await.map_err(unknown)?;
                observation.shown = self.shown(observation.main_pid).await;
                self.progress.unit(unit.as_str(), &observation.describe());
                seen.insert(unit.clone(), observation);
            }
            match window.look(begun.elapsed(), &seen) {
                Verdict::Wait(at_most) => {
                    self.progress
                        .settling(Some(at_most).filter(|rest| *rest < Duration::MAX));
                    stale = tokio::select! {
                        changed = changes.next() => changed.into_iter().collect(),
                        () = tokio::time::sleep(at_most.min(LOOK)) => units.keys().cloned().collect(),
                    };
                }
                Verdict::Healthy(reports) => return Ok(reports),
                Verdict::Unhealthy(failure) => return Err(failure),
            }
        }
    }

    async fn not_up(&self, transaction: &Transaction) -> Vec<UnitReport> {
        let mut reports = Vec::new();
        for captured in transaction.captured() {
            let result = match self.observe(&captured.unit).await {
                Ok(seen) if seen.active == "active" => continue,
                Ok(seen) => seen.describe(),
                Err(_) => "its state is unknown".to_owned(),
            };
            let unit = captured.unit.clone();
            reports.push(UnitReport { unit, result });
        }
        reports
    }

    fn generation(&self) -> u64 {
        self.presence.generation()
    }

    async fn is_another_since(&self, generation: u64) -> bool {
        self.presence.is_another_since(generation).await
    }

    async fn is_enabled(&self, part: &Part, unit: &UnitName) -> Result<bool, Failure> {
        self.has_role(part, unit)
            .await
            .map_err(|error| unanswered(&format!("look at {unit}"), &error))
    }

    async fn run_command(&self, transaction: &Transaction, run: Run<'_>) -> Result<Check, Failure> {
        self.run_transient(transaction, run).await
    }

    async fn end_commands(&self, transaction: u32) {
        self.end_transient(transaction).await;
    }
}

fn unit_skipped(unit: &UnitName, reason: String) -> Failure {
    let message = format!("{unit} can't run from the venv: {reason}");
    // Results of units are for everybody to see, reasons may name what is not.
    let report = UnitReport {
        unit: unit.clone(),
        result: "can't run from the venv".to_owned(),
    };
    Failure {
        units: vec![report],
        ..Failure::new(Code::UNIT_SKIPPED, message)
    }
}

fn unwritten(error: venvd_fs::Error) -> Failure {
    Failure::new(Code::INTERNAL, venvd_fs::report(&error))
}

/// Returns the target that stops and restarts the units of an app together; the generator writes it.
fn target_of(app: &AppName) -> String {
    format!("venvd-{app}.target")
}

/// Returns the venv that units run on that side, if the app is on there: the one of that side, or what the generator put
/// in its place because it can't run.
fn venv_of(layout: &Layout, (kind, part): (Kind, &Part), side: Side) -> Option<VenvName> {
    let on = match side {
        Side::New => kind != Kind::Disable,
        Side::Old => part.enabled,
    };
    let venv = part.venv(side).filter(|_| on)?;
    Some(what_runs(layout, venv.clone())?.name().clone())
}

fn unanswered(what: &str, error: &zbus::Error) -> Failure {
    Failure::new(
        Code::INTERNAL,
        format!("systemd was asked to {what}, and says: {error}"),
    )
}
