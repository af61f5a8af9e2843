//! Waiting for jobs of systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use venvd_bus::Code;

use super::proxies::{ManagerProxy, Setting};
use super::unanswered;
use crate::machine::Failure;

/// How long nothing is heard of the jobs that are waited for before it is asked whether they still are there.
const SILENCE: Duration = Duration::from_secs(2);

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(super) id: u32,
    pub(super) unit: String,
    pub(super) result: String,
}

impl Ended {
    /// The result of a job that another one's failure has ended, systemd.unit(5).
    pub(crate) const DEPENDENCY: &str = "dependency";
    /// The result of a job that ended unheard.
    pub(super) const UNHEARD: &str = "unheard";

    /// Returns whether the job did what it should. A word we don't know is no success: systemd adds to them
    /// (`frozen`, `once`), and its own `systemctl` treats unknown ones so (bus-wait-for-jobs.c).
    pub(super) fn is_well(&self) -> bool {
        matches!(self.result.as_str(), "done" | "skipped")
    }
}

type Followers = Arc<Mutex<Vec<UnboundedSender<Ended>>>>;

/// Listens to the ends of all jobs, always: a stream that nobody reads blocks the whole connection.
#[derive(Debug)]
pub(super) struct Jobs {
    followers: Followers,
    listener: JoinHandle<()>,
    lost: watch::Receiver<()>,
}

/// Ends when the bus goes away.
#[derive(Debug)]
pub(crate) struct Lost(watch::Receiver<()>);

impl Lost {
    /// Waits for that.
    pub(crate) async fn wait(&mut self) {
        // Nothing is ever sent: what is waited for is the error that the sender is gone.
        while self.0.changed().await.is_ok() {}
    }
}

impl Jobs {
    /// Begins to listen.
    pub(super) async fn listen(manager: &ManagerProxy<'static>) -> zbus::Result<Self> {
        manager.subscribe().await?;
        let mut stream = manager.receive_job_removed().await?;
        let followers = Followers::default();
        let told = Arc::clone(&followers);
        let (held, lost) = watch::channel(());
        let listener = tokio::spawn(async move {
            let _held = held;
            while let Some(signal) = stream.next().await {
                match signal.args() {
                    Ok(args) => {
                        let ended = Ended {
                            id: args.id,
                            unit: args.unit.clone(),
                            result: args.result.clone(),
                        };
                        lock(&told).retain(|follower| follower.send(ended.clone()).is_ok());
                    }
                    Err(error) => tracing::warn!("cannot read a JobRemoved signal of systemd: {error}"),
                }
            }
            // The bus is gone: who waits must not wait for ever.
            lock(&told).clear();
        });
        Ok(Self {
            followers,
            listener,
            lost,
        })
    }

    /// Returns what ends when the bus goes away.
    pub(super) fn lost(&self) -> Lost {
        Lost(self.lost.clone())
    }

    fn follow(&self) -> UnboundedReceiver<Ended> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.followers).push(sender);
        receiver
    }

    /// Enqueues a job of a unit and waits until all jobs of its transaction have ended; `told` hears of each.
    pub(super) async fn run(
        &self,
        manager: &ManagerProxy<'static>,
        (unit, job): (&str, &str),
        told: impl FnMut(&Ended),
    ) -> Result<Vec<Ended>, Failure> {
        // Before enqueueing: a job may end before the answer with its number is read.
        let mut ends = self.follow();
        let enqueued = manager
            .enqueue_unit_job(unit, job, "replace")
            .await
            .map_err(|error| unanswered(&format!("{job} {unit}"), &error))?;
        let (id, _, unit, _, _, others) = enqueued;
        let others = others.into_iter().map(|other| (other.0, other.2));
        collect(manager, others.chain([(id, unit)]).collect(), (&mut ends, told)).await
    }

    /// Starts a transient unit whose name is new, and waits until that is done; returns the job's result.
    pub(super) async fn start_transient(
        &self,
        manager: &ManagerProxy<'static>,
        (unit, settings): (&str, &[Setting<'_>]),
    ) -> Result<String, Failure> {
        let mut ends = self.follow();
        let job = manager
            .start_transient_unit(unit, "fail", settings, &[])
            .await
            .map_err(|error| unanswered(&format!("start {unit}"), &error))?;
        let id = job.rsplit('/').next().and_then(|id| id.parse().ok());
        let Some(id) = id else {
            return Err(Failure::new(
                Code::INTERNAL,
                format!("systemd calls the job that starts {unit} {job}"),
            ));
        };
        let ended = collect(manager, BTreeMap::from([(id, unit.to_owned())]), (&mut ends, |_| {})).await?;
        Ok(ended.into_iter().next().map(|end| end.result).unwrap_or_default())
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Waits until all of these jobs have ended.
///
/// When PID 1 executes itself anew (`systemctl daemon-reexec`), it keeps its jobs, but says nothing of those that end
/// before it is on the bus again. So after a while of silence it is asked which there still are.
async fn collect(
    manager: &impl ListJobs,
    mut open: BTreeMap<u32, String>,
    (ends, mut told): (&mut UnboundedReceiver<Ended>, impl FnMut(&Ended)),
) -> Result<Vec<Ended>, Failure> {
    let mut ended = Vec::new();
    let mut missed = BTreeSet::new();
    while !open.is_empty() {
        match tokio::time::timeout(SILENCE, ends.recv()).await {
            Ok(Some(end)) => {
                if open.remove(&end.id).is_some() {
                    told(&end);
                    ended.push(end);
                }
            }
            Ok(None) => return Err(gone()),
            Err(_) => {
                // While it does not answer, it can't have ended anything either.
                let Ok(listed) = manager.job_ids().await else { continue };
                let gone: BTreeSet<u32> = open.keys().filter(|id| !listed.contains(id)).copied().collect();
                // Missing twice: the signal of one that has just ended may be on its way.
                for id in gone.intersection(&missed) {
                    let unit = open.remove(id).unwrap_or_default();
                    let result = Ended::UNHEARD.to_owned();
                    ended.push(Ended { id: *id, unit, result });
                }
                missed = gone;
            }
        }
    }
    Ok(ended)
}

/// Knows which jobs there are.
trait ListJobs {
    async fn job_ids(&self) -> zbus::Result<BTreeSet<u32>>;
}

impl ListJobs for ManagerProxy<'static> {
    async fn job_ids(&self) -> zbus::Result<BTreeSet<u32>> {
        Ok(self.list_jobs().await?.into_iter().map(|job| job.0).collect())
    }
}

fn gone() -> Failure {
    Failure::new(Code::INTERNAL, "the bus went away while jobs of systemd were going on")
}

fn lock(followers: &Followers) -> std::sync::MutexGuard<'_, Vec<UnboundedSender<Ended>>> {
    // A list of senders can't be half changed.
    followers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: u32, result: &str) -> Ended {
        Ended {
            id,
            unit: format!("u{id}.service"),
            result: result.to_owned(),
        }
    }

    #[test]
    fn unknown_results_are_failures() {
        for (result, well) in [
            ("done", true),
            ("skipped", true),
            ("failed", false),
            ("canceled", false),
            ("frozen", false),
            ("", false),
        ] {
            assert_eq!(ended(1, result).is_well(), well, "{result}");
        }
    }

    /// A systemd in which only these jobs are left.
    struct Left(BTreeSet<u32>);

    impl ListJobs for Left {
        async fn job_ids(&self) -> zbus::Result<BTreeSet<u32>> {
            Ok(self.0.clone())
        }
    }

    fn three() -> BTreeMap<u32, String> {
        [5, 6, 7].map(|id| (id, format!("u{id}.service"))).into()
    }

    fn ids(all: &[Ended]) -> Vec<u32> {
        all.iter().map(|end| end.id).collect()
    }

    #[tokio::test]
    async fn all_jobs_of_the_transaction_are_awaited_and_no_others() {
        let left = Left([6].into());
        let (sender, mut ends) = mpsc::unbounded_channel();
        for id in [7, 99, 5] {
            sender.send(ended(id, "done")).unwrap();
        }
        {
            let waiting = collect(&left, three(), (&mut ends, |_| {}));
            let early = tokio::time::timeout(Duration::from_millis(20), waiting).await;
            assert!(early.is_err(), "6 has not ended");
        }
        for id in [5, 6, 7] {
            sender.send(ended(id, "failed")).unwrap();
        }
        let all = collect(&left, three(), (&mut ends, |_| {})).await.unwrap();
        assert_eq!(ids(&all), [5, 6, 7]);
        drop(sender);
        assert!(
            collect(&left, three(), (&mut ends, |_| {})).await.is_err(),
            "the bus is gone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_that_ended_unheard_are_missed() {
        let (sender, mut ends) = mpsc::unbounded_channel();
        sender.send(ended(6, "done")).unwrap();
        let all = collect(&Left(BTreeSet::new()), three(), (&mut ends, |_| {}))
            .await
            .unwrap();
        assert_eq!(ids(&all), [6, 5, 7]);
        assert_eq!(all[1].result, Ended::UNHEARD);
        assert!(!all[1].is_well());
        drop(sender);
    }
}
