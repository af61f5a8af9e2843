//! Keeps the objects on the bus as things are, and tells of each change.
//!
//! All of it is done by one task, in the order in which things happened: who hears that a job has ended reads its outcome
//! from its object, and that of its app.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch::Receiver;
use venvd_app::{AppName, search};
use venvd_bus::{APP_INTERFACE, JOB_INTERFACE, JobReport, MANAGER_PATH, Outcome, Stage, app_path, job_path};
use venvd_fs::report;
use zbus::fdo::{ObjectManager, Properties};
use zbus::names::InterfaceName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, ObjectServer, OwnedVariant, Variant};

use super::app::App;
use super::facts::{AppFacts, Facts, JobFacts, OnDisk, path};
use super::front::Front;
use super::job::Job;
use super::manager::Manager;
use super::watch::watch;
use crate::actor::Announce;
use crate::desk::{Desk, News};
use crate::driver::Driver;
use crate::progress::Progress;
use crate::systemd::Systemd;
use crate::transaction::Journal;

/// How many jobs that have ended keep their objects.
const ENDED: usize = 16;

/// What is there, for the lists.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) apps: BTreeSet<AppName>,
    pub(super) jobs: BTreeMap<u32, (Stage, Option<Outcome>)>,
}

/// An object that is on the bus.
#[derive(Debug)]
struct Published<T> {
    facts: Facts<T>,
    /// What was told of its properties.
    told: HashMap<String, OwnedVariant>,
}

/// The objects.
#[derive(Debug)]
pub(crate) struct Objects {
    connection: Connection,
    front: Arc<Front>,
    known: Facts<Known>,
    apps: BTreeMap<AppName, Published<AppFacts>>,
    jobs: BTreeMap<u32, Published<JobFacts>>,
    /// What is known of jobs: of those that ended, as many as have objects, and the last one of each app.
    reports: BTreeMap<u32, JobReport>,
    progress: Receiver<Progress>,
    changed: Arc<Notify>,
}

impl Objects {
    /// Puts the objects there that are to be there when venvd gets its name.
    ///
    /// # Errors
    /// When the bus goes away.
    pub(crate) async fn publish(
        connection: &Connection,
        front: &Arc<Front>,
        driver: &Driver<Systemd>,
    ) -> zbus::Result<Self> {
        let mut objects = Self {
            connection: connection.clone(),
            front: Arc::clone(front),
            known: Facts::new(Known::default()),
            apps: BTreeMap::new(),
            jobs: BTreeMap::new(),
            reports: BTreeMap::new(),
            progress: driver.units.progress(),
            changed: watch(front.host.layout()),
        };
        let manager = Manager {
            front: Arc::clone(front),
            known: objects.known.clone(),
            driver: driver.clone(),
        };
        let server = connection.object_server();
        server.at(MANAGER_PATH, manager).await?;
        server.at(MANAGER_PATH, ObjectManager).await?;
        for report in earlier(&driver.journal) {
            objects.reports.insert(report.id, report);
        }
        objects.forget().await?;
        for report in objects.reports.clone().into_values() {
            objects.job(report).await?;
        }
        objects.look().await?;
        Ok(objects)
    }

    /// Follows what happens, until nobody says anything any more.
    pub(crate) async fn follow(mut self, mut news: UnboundedReceiver<News>) {
        loop {
            let done = tokio::select! {
                // How units did comes before where that led to.
                biased;
                Ok(()) = self.progress.changed() => self.progress().await,
                news = news.recv() => match news {
                    Some(news) => self.hear(news).await,
                    None => return,
                },
                () = self.changed.notified() => self.look().await,
            };
            if let Err(error) = done {
                // Without the bus venvd ends anyhow.
                tracing::warn!("a change is not told on the bus: {error}");
            }
        }
    }

    async fn hear(&mut self, news: News) -> zbus::Result<()> {
        match news {
            News::Job(report) => {
                let apps = report.apps.clone();
                self.job(report).await?;
                for change in apps {
                    self.app(&change.app).await?;
                }
                Ok(())
            }
            News::Ended(report) => {
                self.ended(&report).await?;
                self.forget().await
            }
            News::Sync(answer) => {
                // An error means that who asked has gone away.
                _ = answer.send(());
                Ok(())
            }
        }
    }

    /// Takes over how a job is.
    async fn job(&mut self, report: JobReport) -> zbus::Result<()> {
        let id = report.id;
        self.known.get().jobs.insert(id, (report.state, report.result));
        self.reports.insert(id, report.clone());
        if let Some(published) = self.jobs.get_mut(&id) {
            published.facts.get().report = report;
            return tell::<Job>(&self.connection, (job_path(id), JOB_INTERFACE), &mut published.told).await;
        }
        let is_new = report.result.is_none();
        let names = report.names();
        let facts = Facts::new(JobFacts { report, progress: None });
        let server = self.connection.object_server();
        server.at(job_path(id), Job { facts: facts.clone() }).await?;
        let told = properties::<Job>(server, &job_path(id)).await?;
        self.jobs.insert(id, Published { facts, told });
        if is_new {
            let emitter = SignalEmitter::new(&self.connection, MANAGER_PATH)?;
            Manager::job_new(&emitter, id, path(job_path(id)), &names).await?;
        }
        Ok(())
    }

    /// Takes over how the units of the open job do.
    async fn progress(&mut self) -> zbus::Result<()> {
        let progress = self.progress.borrow_and_update().clone();
        let id = progress.job;
        let Some(published) = self.jobs.get_mut(&id) else {
            return Ok(());
        };
        published.facts.get().progress = Some(progress);
        tell::<Job>(&self.connection, (job_path(id), JOB_INTERFACE), &mut published.told).await
    }

    /// Looks at the files of an app, if it has an object.
    async fn app(&mut self, name: &AppName) -> zbus::Result<()> {
        let Some(published) = self.apps.get_mut(name) else {
            return Ok(());
        };
        let disk = OnDisk::read(&self.front.host, name);
        published.facts.set(AppFacts::of(name, disk, &self.reports));
        tell::<App>(&self.connection, (app_path(name), APP_INTERFACE), &mut published.told).await
    }

    /// Looks at all apps: some may have come or gone.
    async fn look(&mut self) -> zbus::Result<()> {
        let declared = search::load(self.front.host.layout());
        // A broken definition is one.
        let names: BTreeSet<AppName> = declared.apps.into_keys().chain(declared.broken.into_keys()).collect();
        self.known.get().apps.clone_from(&names);
        let gone: Vec<AppName> = self
            .apps
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.apps.remove(&name);
            self.connection
                .object_server()
                .remove::<App, _>(app_path(&name))
                .await?;
        }
        for name in names {
            if self.apps.contains_key(&name) {
                self.app(&name).await?;
                continue;
            }
            let disk = OnDisk::read(&self.front.host, &name);
            let facts = Facts::new(AppFacts::of(&name, disk, &self.reports));
            let app = App {
                name: name.clone(),
                front: Arc::clone(&self.front),
                facts: facts.clone(),
            };
            let server = self.connection.object_server();
            server.at(app_path(&name), app).await?;
            let told = properties::<App>(server, &app_path(&name)).await?;
            self.apps.insert(name, Published { facts, told });
        }
        Ok(())
    }

    /// Says that a job has ended.
    async fn ended(&mut self, report: &JobReport) -> zbus::Result<()> {
        for change in &report.apps {
            self.app(&change.app).await?;
        }
        let Some(result) = report.result else { return Ok(()) };
        let emitter = SignalEmitter::new(&self.connection, MANAGER_PATH)?;
        let (job, names) = (path(job_path(report.id)), report.names());
        Manager::job_removed(&emitter, report.id, job, &names, result.as_str()).await
    }

    /// Forgets jobs that ended long ago.
    async fn forget(&mut self) -> zbus::Result<()> {
        let kept = kept(&self.reports);
        let last: BTreeSet<u32> = last_of_each(&self.reports);
        for id in self.reports.keys().copied().collect::<Vec<_>>() {
            if kept.contains(&id) {
                continue;
            }
            if !last.contains(&id) {
                self.reports.remove(&id);
            }
            self.known.get().jobs.remove(&id);
            if self.jobs.remove(&id).is_some() {
                self.connection.object_server().remove::<Job, _>(job_path(id)).await?;
            }
        }
        Ok(())
    }
}

/// Returns the jobs that have objects: the open ones, and the newest of the others.
fn kept(reports: &BTreeMap<u32, JobReport>) -> BTreeSet<u32> {
    let (open, ended): (Vec<_>, Vec<_>) = reports.values().partition(|report| report.result.is_none());
    let ended = ended.iter().rev().take(ENDED);
    open.iter().chain(ended).map(|report| report.id).collect()
}

/// Returns the job of each app that ended last.
fn last_of_each(reports: &BTreeMap<u32, JobReport>) -> BTreeSet<u32> {
    let ended = reports.values().filter(|report| report.result.is_some());
    let last: BTreeMap<_, _> = ended
        .flat_map(|report| report.apps.iter().map(|change| (&change.app, report.id)))
        .collect();
    last.into_values().collect()
}

/// Returns the jobs of the journal.
fn earlier(journal: &Journal) -> Vec<JobReport> {
    let ids = journal.ids().unwrap_or_else(|error| {
        tracing::warn!("earlier jobs are not known: {}", report(&error));
        Vec::new()
    });
    // What can't be read is said when it is resumed, or asked for.
    let known = ids.into_iter().filter_map(|id| journal.load(id).ok().flatten());
    known.map(|transaction| transaction.report()).collect()
}

/// Returns the properties of an object as anybody may see them.
async fn properties<I: Interface>(server: &ObjectServer, path: &str) -> zbus::Result<HashMap<String, OwnedVariant>> {
    let object = server.interface::<_, I>(path).await?;
    let emitter = object.signal_emitter();
    let all = object.get().await;
    let all = Interface::get_all(&*all, server, emitter.connection(), None, emitter).await?;
    Ok(all)
}

/// Tells which properties of an object have changed, if any.
async fn tell<I: Interface>(
    connection: &Connection,
    (path, interface): (String, &'static str),
    told: &mut HashMap<String, OwnedVariant>,
) -> zbus::Result<()> {
    let now = properties::<I>(connection.object_server(), &path).await?;
    let mut changed = HashMap::new();
    for (property, value) in &now {
        if told.get(property) != Some(value) {
            changed.insert(property.as_str(), Variant::try_from(value)?);
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let emitter = SignalEmitter::new(connection, path)?;
    let interface = InterfaceName::from_static_str(interface)?;
    Properties::properties_changed(&emitter, interface, changed, [].as_slice().into()).await?;
    *told = now;
    Ok(())
}

/// Announces the ends of jobs, by way of the task that tells everything.
#[derive(Debug)]
pub(crate) struct Announcer(pub(crate) Arc<Desk>);

impl Announce for Announcer {
    async fn announce(&self, report: &JobReport) {
        self.0.ended(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::tests::example;

    #[test]
    fn open_jobs_and_some_that_ended_have_objects() {
        let report = |id: u32, result| JobReport {
            result,
            ..example(id).report()
        };
        let mut reports = BTreeMap::from([(1, report(1, None))]);
        let mut glance = report(2, Some(Outcome::Failed));
        glance.apps[0].app = "glance".parse().unwrap();
        reports.insert(2, glance);
        for id in 3..50 {
            reports.insert(id, report(id, Some(Outcome::Done)));
        }
        let kept = kept(&reports);
        assert_eq!(kept.len(), 1 + ENDED);
        assert!(kept.contains(&1) && kept.contains(&49) && !kept.contains(&2));
        assert_eq!(
            last_of_each(&reports),
            BTreeSet::from([2, 49]),
            "how each app's last one ended is known"
        );
    }
}
