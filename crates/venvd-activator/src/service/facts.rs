//! What the objects on the bus say.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use venvd_app::AppName;
use venvd_app::links::{self, Link};
use venvd_bus::{JobReport, job_path};
use venvd_core::brake;
use venvd_fs::report;
use zbus::OwnedObjectPath;

use crate::host::Host;
use crate::progress::Progress;

/// What an object says. Its methods may take minutes (somebody types a password), and meanwhile it must go on changing:
/// so it is not in the object.
#[derive(Debug, Default)]
pub(super) struct Facts<T>(Arc<Mutex<T>>);

impl<T> Clone for Facts<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Facts<T> {
    pub(super) fn new(facts: T) -> Self {
        Self(Arc::new(Mutex::new(facts)))
    }

    pub(super) fn get(&self) -> MutexGuard<'_, T> {
        // Each change is one assignment, so it can't be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, facts: T) {
        *self.get() = facts;
    }
}

/// What an app's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OnDisk {
    pub(super) active: String,
    pub(super) committed: String,
    pub(super) previous: String,
    pub(super) enabled: bool,
    /// Why an administrator keeps it at what is in force; it may be without a reason.
    pub(super) frozen: Option<String>,
}

impl OnDisk {
    /// Reads it. What can't be read is not said; why not is said where it matters, by an activation.
    pub(super) fn read(host: &Host, app: &AppName) -> Self {
        let link = |link| match links::read(host.layout(), link, app) {
            Ok(Some(venv)) => venv.name().tag().to_string(),
            Ok(None) => String::new(),
            Err(error) => {
                tracing::debug!("{app}: {}", report(&error));
                String::new()
            }
        };
        let frozen = brake::frozen(host.layout(), app).unwrap_or_else(|error| {
            tracing::debug!("{app}: {}", report(&error));
            None
        });
        Self {
            active: link(Link::Active),
            committed: link(Link::Committed),
            previous: link(Link::Previous),
            enabled: host.app_in_force(app).is_ok_and(|(_, on)| on.enabled),
            frozen: frozen.map(|note| note.reason.unwrap_or_default()),
        }
    }
}

/// What the object of an app says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AppFacts {
    pub(super) disk: OnDisk,
    /// Its open job that is worked on, or is the next.
    pub(super) job: Option<u32>,
    /// Where that is.
    pub(super) state: String,
    pub(super) last_result: String,
    pub(super) last_code: String,
}

/// The state of an app that nothing is done to.
const IDLE: &str = "idle";

impl AppFacts {
    /// Returns what is known of an app from all jobs that are known, the older first.
    pub(super) fn of(app: &AppName, disk: OnDisk, jobs: &BTreeMap<u32, JobReport>) -> Self {
        let mut facts = Self {
            disk,
            state: IDLE.to_owned(),
            ..Self::default()
        };
        for report in jobs
            .values()
            .filter(|report| report.apps.iter().any(|change| change.app == *app))
        {
            if let Some(result) = report.result {
                facts.last_result = result.to_string();
                facts.last_code = code(report);
            } else if facts.job.is_none() {
                facts.job = Some(report.id);
                facts.state = report.state.to_string();
            }
        }
        facts
    }

    pub(super) fn job(&self) -> OwnedObjectPath {
        path(self.job.map_or_else(|| "/".to_owned(), job_path))
    }
}

/// What the object of a job says.
#[derive(Debug, Clone)]
pub(super) struct JobFacts {
    pub(super) report: JobReport,
    /// Nothing while it is not its turn.
    pub(super) progress: Option<Progress>,
}

impl JobFacts {
    /// Returns each unit, and how it is.
    pub(super) fn units(&self) -> HashMap<String, String> {
        let known = self.report.units.iter();
        let mut units: HashMap<_, _> = known.map(|unit| (unit.unit.to_string(), unit.result.clone())).collect();
        // What the report has of the way forward is old news while it goes on.
        if let Some(progress) = self.progress.as_ref().filter(|_| self.report.result.is_none()) {
            units.extend(
                progress
                    .units
                    .iter()
                    .map(|(unit, state)| (unit.to_string(), state.clone())),
            );
        }
        units
    }

    /// Returns when the settle window closes, in microseconds of `CLOCK_MONOTONIC`; 0 when none is open.
    pub(super) fn settle_until(&self) -> u64 {
        let open = self.progress.as_ref().filter(|_| self.report.result.is_none());
        let until = open.and_then(|progress| progress.settle_until);
        until.map_or(0, |until| u64::try_from(until.as_micros()).unwrap_or(u64::MAX))
    }
}

pub(super) fn code(report: &JobReport) -> String {
    report
        .code
        .as_ref()
        .map_or_else(String::new, |code| code.as_str().to_owned())
}

/// Returns an object path that is known to be one.
pub(super) fn path(path: String) -> OwnedObjectPath {
    // Numbers, and names of apps that are escaped: nothing else is in it.
    OwnedObjectPath::try_from(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Place;
    use crate::transaction::tests::example;
    use venvd_bus::{Code, Outcome, Stage, UnitReport};
    use venvd_core::note::Note;

    fn open(id: u32, state: Stage) -> JobReport {
        JobReport {
            state,
            result: None,
            ..example(id).report()
        }
    }

    fn ended(id: u32, result: Outcome, code: Option<&str>) -> JobReport {
        JobReport {
            state: Stage::Ended,
            result: Some(result),
            code: code.map(Code::new),
            ..example(id).report()
        }
    }

    #[test]
    fn an_app_is_where_its_next_job_is() {
        let app: AppName = "nova".parse().unwrap();
        let of = |jobs: Vec<JobReport>| {
            let jobs = jobs.into_iter().map(|report| (report.id, report)).collect();
            AppFacts::of(&app, OnDisk::default(), &jobs)
        };
        let facts = of(Vec::new());
        assert_eq!((facts.state.as_str(), facts.job().as_str()), ("idle", "/"));
        let facts = of(vec![
            ended(1, Outcome::Done, None),
            ended(2, Outcome::Refused, Some(Code::FROZEN)),
            open(3, Stage::Settling),
            open(4, Stage::Queued),
        ]);
        assert_eq!((facts.state.as_str(), facts.job), ("settling", Some(3)));
        assert_eq!(
            (facts.last_result.as_str(), facts.last_code.as_str()),
            ("refused", "frozen")
        );
        let mut other = open(5, Stage::Settling);
        other.apps[0].app = "glance".parse().unwrap();
        assert_eq!(of(vec![other]).state, "idle");
    }

    #[test]
    fn what_is_on_disk() {
        let place = Place::new();
        let host = Host::new(&place.layout);
        let disk = OnDisk::read(&host, &place.app);
        assert_eq!((disk.active.as_str(), disk.committed.as_str()), ("1", "1"));
        assert_eq!((disk.previous.as_str(), disk.enabled, &disk.frozen), ("", true, &None));
        brake::freeze(&place.layout, &place.app, &Note::default()).unwrap();
        place.set(Link::Active, "2");
        let disk = OnDisk::read(&host, &place.app);
        assert_eq!((disk.active.as_str(), disk.committed.as_str()), ("2", "1"));
        assert_eq!(disk.frozen.as_deref(), Some(""), "frozen, without a reason");
    }

    #[test]
    fn units_are_what_is_going_on_and_at_the_end_what_is_reported() {
        let unit = |result: &str| UnitReport {
            unit: "a.service".parse().unwrap(),
            result: result.to_owned(),
        };
        let progress = Progress {
            job: 1,
            units: [("a.service", "waiting")]
                .map(|(unit, state)| (unit.parse().unwrap(), state.to_owned()))
                .into(),
            settle_until: Some(std::time::Duration::from_secs(2)),
        };
        let mut facts = JobFacts {
            report: open(1, Stage::RollingBack),
            progress: Some(progress),
        };
        facts.report.units = vec![unit("failed")];
        assert_eq!(
            (facts.units()["a.service"].as_str(), facts.settle_until()),
            ("waiting", 2_000_000)
        );
        facts.report.result = Some(Outcome::RolledBack);
        assert_eq!(
            (facts.units()["a.service"].as_str(), facts.settle_until()),
            ("failed", 0)
        );
    }
}
