//! Where requests come in, get their number, and are asked about, while one after the other is worked on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use venvd_bus::JobReport;

use crate::request::Request;
use crate::transaction::{Journal, JournalError};

/// How many reports are kept in memory; older ones are read from their files.
const RECENT: usize = 64;

/// The desk.
#[derive(Debug)]
pub(crate) struct Desk {
    journal: Journal,
    jobs: Mutex<Table>,
    requests: UnboundedSender<(u32, Request)>,
}

#[derive(Debug)]
struct Table {
    next: u32,
    reports: BTreeMap<u32, JobReport>,
    /// Who tells the bus; nobody before it listens.
    follower: Option<UnboundedSender<News>>,
}

/// What happened, for whoever tells others about it.
#[derive(Debug)]
pub(crate) enum News {
    /// A job is new, or somewhere else than before.
    Job(JobReport),
    /// All that belongs to its end is done.
    Ended(JobReport),
    /// Nothing: all that was said before has been heard when this is answered.
    Sync(oneshot::Sender<()>),
}

impl Desk {
    /// Opens the desk; the other end gets the requests with their numbers, in order.
    ///
    /// # Errors
    /// When the journal can't be listed, so that no number is known to be free.
    pub(crate) fn open(journal: &Journal) -> Result<(Self, UnboundedReceiver<(u32, Request)>), JournalError> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let table = Table {
            next: journal.next_id()?,
            reports: BTreeMap::new(),
            follower: None,
        };
        let desk = Self {
            journal: journal.clone(),
            jobs: Mutex::new(table),
            requests,
        };
        Ok((desk, receiver))
    }

    /// Takes a request and returns its number; nothing when nobody works any more.
    pub(crate) fn submit(&self, request: Request) -> Option<u32> {
        let id = self.number(&request);
        self.requests.send((id, request)).ok().map(|()| id)
    }

    /// Gives a request its number.
    pub(crate) fn number(&self, request: &Request) -> u32 {
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        let report = request.queued(id);
        table.say(News::Job(report.clone()));
        table.reports.insert(id, report);
        id
    }

    /// Returns what will be said from now on. One listens.
    pub(crate) fn follow(&self) -> UnboundedReceiver<News> {
        let (follower, news) = mpsc::unbounded_channel();
        self.table().follower = Some(follower);
        news
    }

    /// Says that all of a job is done.
    pub(crate) fn ended(&self, report: &JobReport) {
        self.table().say(News::Ended(report.clone()));
    }

    /// Waits until what was said so far has been heard.
    pub(crate) async fn heard(&self) {
        let (answer, answered) = oneshot::channel();
        self.table().say(News::Sync(answer));
        // An error means that nobody listens.
        drop(answered.await);
    }

    /// Notes how a job is.
    pub(crate) fn tell(&self, report: JobReport) {
        let mut table = self.table();
        table.say(News::Job(report.clone()));
        table.reports.insert(report.id, report);
        // Open ones are the newest, and few.
        while table.reports.len() > RECENT {
            let ended = table.reports.iter().find(|(_, report)| report.result.is_some());
            let Some(id) = ended.map(|(id, _)| *id) else { break };
            table.reports.remove(&id);
        }
    }

    /// Returns how a job is, or was.
    ///
    /// # Errors
    /// When its file can't be read.
    pub(crate) fn report(&self, id: u32) -> Result<Option<JobReport>, JournalError> {
        if let Some(report) = self.recent(id) {
            return Ok(Some(report));
        }
        Ok(self.journal.load(id)?.map(|transaction| transaction.report()))
    }

    /// Returns how a job is, or was, as far as that is in memory.
    pub(crate) fn recent(&self, id: u32) -> Option<JobReport> {
        self.table().reports.get(&id).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No change to the table can break off half-way.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn say(&self, news: News) {
        if let Some(follower) = &self.follower {
            // An error means that nobody listens any more: then venvd is about to end.
            drop(follower.send(news));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Ask, Options};
    use crate::transaction::tests::example;
    use venvd_app::Layout;
    use venvd_bus::{Cause, Outcome, Stage};
    use venvd_fs::Root;

    #[test]
    fn numbers_reports_and_what_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(&Layout::new(Root::at(directory.path())));
        journal.save(&example(41)).unwrap();
        let (desk, mut requests) = Desk::open(&journal).unwrap();
        let request = Request::one("nova".parse().unwrap(), Ask::Rollback, Options::of(Cause::Rollback));
        assert_eq!(desk.submit(request.clone()), Some(42));
        assert_eq!(requests.try_recv().unwrap(), (42, request.clone()));
        assert_eq!(desk.report(42).unwrap().unwrap().state, Stage::Queued);
        assert_eq!(desk.report(41).unwrap().unwrap().id, 41, "from its file");
        assert!(desk.report(40).unwrap().is_none());
        for id in 100..100 + 2 * RECENT as u32 {
            let result = Some(Outcome::Done);
            desk.tell(JobReport {
                result,
                ..request.queued(id)
            });
        }
        assert_eq!(desk.table().reports.len(), RECENT);
        assert!(desk.report(42).unwrap().is_some(), "open ones stay");
        drop(requests);
        assert_eq!(desk.submit(request), None);
    }
}
