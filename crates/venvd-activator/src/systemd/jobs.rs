//! Waiting for jobs of systemd.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use venvd_bus::Code;

use super::proxies::{Enqueued, ManagerProxy, Setting};
use super::unanswered;
use crate::machine::Failure;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) id: u32,
    pub(super) unit: String,
    pub(super) result: String,
}

impl Ended {
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

    /// Enqueues a job of a unit and waits until all jobs of its transaction have ended.
    pub(super) async fn run(
        &self,
        manager: &ManagerProxy<'static>,
        (unit, job): (&str, &str),
    ) -> Result<Vec<Ended>, Failure> {
        // Before enqueueing: a job may end before the answer with its number is read.
        let mut ends = self.follow();
        let enqueued = manager
            .enqueue_unit_job(unit, job, "replace")
            .await
            .map_err(|error| unanswered(&format!("{job} {unit}"), &error))?;
        collect(&enqueued, &mut ends).await
    }

    /// Starts a transient unit whose name is new, and waits until that is done; returns the job's result.
    pub(super) async fn start_transient(
        &self,
        manager: &ManagerProxy<'static>,
        (unit, settings): (&str, &[Setting<'_>]),
    ) -> Result<String, Failure> {
        let mut ends = self.follow();
        manager
            .start_transient_unit(unit, "fail", settings, &[])
            .await
            .map_err(|error| unanswered(&format!("start {unit}"), &error))?;
        loop {
            match ends.recv().await {
                Some(end) if end.unit == unit => return Ok(end.result),
                Some(_) => {}
                None => return Err(gone()),
            }
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn collect(enqueued: &Enqueued, ends: &mut UnboundedReceiver<Ended>) -> Result<Vec<Ended>, Failure> {
    let (id, _, unit, _, _, others) = enqueued;
    let mut open: BTreeMap<u32, &str> = others.iter().map(|other| (other.0, other.2.as_str())).collect();
    open.insert(*id, unit);
    let mut ended = Vec::new();
    while !open.is_empty() {
        let Some(end) = ends.recv().await else {
            return Err(gone());
        };
        if open.remove(&end.id).is_some() {
            ended.push(end);
        }
    }
    Ok(ended)
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

    #[tokio::test]
    async fn all_jobs_of_the_transaction_are_awaited_and_no_others() {
        let path = || zbus::OwnedObjectPath::try_from("/a").unwrap();
        let other = |id: u32| (id, path(), format!("u{id}.service"), path(), "restart".to_owned());
        let enqueued = (
            5,
            path(),
            "t.target".to_owned(),
            path(),
            "restart".to_owned(),
            vec![other(6), other(7)],
        );
        let (sender, mut ends) = mpsc::unbounded_channel();
        for id in [7, 99, 5] {
            sender.send(ended(id, "done")).unwrap();
        }
        {
            let waiting = collect(&enqueued, &mut ends);
            let early = tokio::time::timeout(std::time::Duration::from_millis(20), waiting).await;
            assert!(early.is_err(), "6 has not ended");
        }
        for id in [5, 6, 7] {
            sender.send(ended(id, "failed")).unwrap();
        }
        let all = collect(&enqueued, &mut ends).await.unwrap();
        assert_eq!(all.iter().map(|end| end.id).collect::<Vec<_>>(), [5, 6, 7]);
        drop(sender);
        assert!(collect(&enqueued, &mut ends).await.is_err(), "the bus is gone");
    }
}
