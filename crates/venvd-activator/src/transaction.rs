//! The journal of a transaction: one file each, written before each effect, so that whoever comes after a crash knows
//! what was begun. Ended ones stay for a while, to be asked about.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use venvd_app::{AppName, Layout, Scope, UnitName};
use venvd_bus::{Cause, Check, JobReport, Kind, Leftover, Outcome, UnitReport};
use venvd_fs::{IoContext, atomic};

use crate::machine::{Case, Failure, Rollback, State};
use crate::systemd::Ended;

mod part;

pub use part::{CapturedUnit, Part};

/// How many ended transactions are kept. Each is about a kilobyte, and what its commands wrote at the end.
const KEEP: usize = 200;

/// A transaction, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its number, which is also that of the job.
    pub id: u32,
    /// The boot it was begun in, `boot_id` of random(4).
    pub boot: String,
    /// What asked.
    pub cause: Cause,
    /// Who asked, where that is known.
    pub caller_uid: Option<u32>,
    /// Whether a venv may be tried that did not run well before.
    #[serde(default)]
    pub force: bool,
    /// What its course depends on.
    pub case: Case,
    /// Where it is.
    pub state: State,
    /// What it is about: one app or several, by their names.
    pub parts: Vec<Part>,
    /// How long the units must stay up, unchanged.
    pub settle: Duration,
    /// Units of no app of it that a stop takes along, and that ran.
    #[serde(default)]
    pub outside: Vec<UnitName>,
    /// How the units fared on the way forward.
    pub units: Vec<UnitReport>,
    /// How the commands fared.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What the units left behind of the venvs before.
    #[serde(default)]
    pub leftovers: Vec<Leftover>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// When it ended.
    pub ended: Option<u64>,
}

impl Transaction {
    /// Returns the names of the apps, as a sentence has them.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|part| part.app.as_str()).collect();
        names.join(", ")
    }

    /// Returns the units that ran, or were meant to, of all apps.
    pub fn captured(&self) -> impl Iterator<Item = &CapturedUnit> {
        self.parts.iter().flat_map(|part| &part.captured)
    }

    /// Returns all units that are restarted or started: the captured ones, and those outside that go down with them.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &UnitName> {
        self.captured().map(|captured| &captured.unit).chain(&self.outside)
    }

    /// Returns those of the apps whose units change.
    pub(crate) fn changing(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.changes_units(self.case.kind))
    }

    /// The same, to be changed.
    pub(crate) fn changing_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        let kind = self.case.kind;
        self.parts.iter_mut().filter(move |part| part.changes_units(kind))
    }

    /// Returns whether a failure says something about this app: it names units of it, or none of any.
    pub(crate) fn concerns(&self, part: &Part, failure: &Failure) -> bool {
        // What was not started because of another unit has not failed itself.
        let is_victim = |failed: &&UnitReport| failed.result.starts_with(Ended::DEPENDENCY);
        let are_all = failure.units.iter().all(|failed| is_victim(&failed));
        let mut failed = failure.units.iter().filter(|failed| are_all || !is_victim(failed));
        let has = failed.any(|failed| part.captured.iter().any(|unit| unit.unit == failed.unit));
        part.changes_units(self.case.kind) && (has || failure.units.is_empty())
    }

    /// Returns what a client gets to know.
    #[must_use]
    pub fn report(&self) -> JobReport {
        let (failure, stuck) = self.state.failures();
        let mut message = failure.map(|failure| match stuck {
            Some(stuck) => format!("{}; and on the way back: {}", failure.message, stuck.message),
            None if self.case.kind == Kind::Disable && self.state.outcome() == Some(Outcome::RolledBack) => format!(
                "{}; to turn it off all the same, stop its units first (`systemctl stop venvd-{}.target`)",
                failure.message,
                self.names()
            ),
            None => failure.message.clone(),
        });
        if let Some(message) = &mut message
            && self.state.outcome() == Some(Outcome::Failed)
            && self.state.is_one_way()
        {
            message.push_str("; a one-way hook had run, so there was no automatic way back");
        }
        if let Some(message) = &mut message
            && self.state.outcome() == Some(Outcome::Failed)
        {
            let before = self.parts.iter().filter_map(|part| part.from.as_ref());
            let before: Vec<String> = before.map(|venv| venv.name().to_string()).collect();
            let before = before.join(" ");
            if self.case.rollback == Rollback::Revoked {
                message.push_str(&match self.parts.as_slice() {
                    [_] => format!("; what was in force ({before}) is revoked, so there was no automatic way back"),
                    _ => format!(
                        "; of what was in force ({before}) a venv is revoked, so there was no automatic way back"
                    ),
                });
            } else if self.state.stays(&self.case) && !before.is_empty() {
                message.push_str(&format!(
                    "; `venvctl activate {before}` goes back to what was in force (`rollback` goes further)"
                ));
            } else if self.state.is_done_but_for_the_rest() {
                message.push_str("; it is in force and its units are healthy, only this was left undone");
            }
        }
        let mut units = self.units.clone();
        for failed in [failure, stuck]
            .into_iter()
            .flatten()
            .flat_map(|failure| &failure.units)
        {
            units.retain(|unit| unit.unit != failed.unit);
            units.push(failed.clone());
        }
        units.sort_by(|a, b| a.unit.cmp(&b.unit));
        JobReport {
            id: self.id,
            apps: self.parts.iter().map(Part::change).collect(),
            kind: self.case.kind,
            cause: self.cause,
            caller_uid: self.caller_uid,
            state: self.state.stage(),
            result: self.state.outcome(),
            code: failure.map(|failure| failure.code.clone()),
            message,
            units,
            checks: self.checks.clone(),
            leftovers: self.leftovers.clone(),
            started: self.started,
            ended: self.ended,
        }
    }
}

/// Returns the time as it goes into a report.
#[must_use]
pub fn now() -> u64 {
    // A clock before 1970 is no reason to fail.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns what tells this boot from others; nothing where there is no /proc.
///
/// A user's units end with that user's manager, which may well be within one boot. It is the parent of all that it
/// starts, and no other process begins at the same tick under the same number. For the system that is process 1: in a
/// container, the number of the boot may be that of the host, for all (with `ProtectProc=`, a service has a /proc of its
/// own, where systemd 252 leaves out what nspawn has put over it).
#[must_use]
pub fn boot_id(layout: &Layout) -> String {
    let read = |path: String| fs::read_to_string(layout.on_disk(path)).unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id".to_owned()).trim().to_owned();
    let manager = match layout.scope() {
        Scope::System => 1,
        Scope::User => std::os::unix::process::parent_id(),
    };
    let stat = read(format!("/proc/{manager}/stat"));
    format!("{boot} {manager} {}", start_of(&stat).unwrap_or_default())
}

/// Returns when a process started, of its `/proc/PID/stat`: field 22, behind a name that may hold anything, proc(5).
fn start_of(stat: &str) -> Option<&str> {
    const AFTER_NAME: usize = 22 - 3;
    stat.rsplit_once(')')?.1.split_whitespace().nth(AFTER_NAME)
}

/// The directory of transactions.
#[derive(Debug, Clone)]
pub struct Journal {
    layout: Layout,
    directory: PathBuf,
}

/// Why a transaction can't be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// The file is not what venvd writes.
    #[error(
        "{path:?} is not a transaction of this version of venvd; if an activation was open, look at what \
         `venvctl status` says is in force, then move the file away"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is about venvs of somebody else.
    #[error("{path:?} is a transaction of venvs that lie elsewhere; move the file away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl Journal {
    /// Returns the journal of a host.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            directory: layout.transactions(),
        }
    }

    /// Writes a transaction, durably. Only root may read it: it names what failed.
    ///
    /// # Errors
    /// When it can't be written; the old text is then still there.
    pub fn save(&self, transaction: &Transaction) -> Result<(), JournalError> {
        let path = self.path(transaction.id);
        let unreadable = |source| JournalError::Unreadable {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec(transaction).map_err(unreadable)?;
        atomic::create_directories(&self.directory, 0o700)?;
        atomic::write(&path, &text, 0o600)?;
        if transaction.ended.is_some() {
            // What a venvd that was killed had begun to write; under the app's lock there is no other writer.
            atomic::sweep(&path)?;
        }
        Ok(())
    }

    /// Reads a transaction.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn load(&self, id: u32) -> Result<Option<Transaction>, JournalError> {
        let path = self.path(id);
        let Some(text) = atomic::read(&path)? else {
            return Ok(None);
        };
        let transaction: Transaction = match serde_json::from_slice(&text) {
            Ok(transaction) => transaction,
            Err(source) => return Err(JournalError::Unreadable { path, source }),
        };
        if transaction
            .parts
            .iter()
            .any(|part| !part.venvs().all(|venv| venv.is_of(&self.layout)))
        {
            return Err(JournalError::Foreign { path });
        }
        Ok(Some(transaction))
    }

    /// Returns the transactions that have not ended, oldest first, and why others can't be read.
    ///
    /// # Errors
    /// When the directory can't be listed.
    pub fn open(&self) -> Result<(Vec<Transaction>, Vec<JournalError>), JournalError> {
        let (mut open, mut broken) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.load(id) {
                Ok(Some(transaction)) if transaction.ended.is_none() => open.push(transaction),
                Ok(_) => {}
                Err(error) => broken.push(error),
            }
        }
        Ok((open, broken))
    }

    /// Returns the newest transaction of an app that has ended, and not by a refusal: those change nothing.
    ///
    /// # Errors
    /// When the directory can't be listed, or what may be that one can't be read.
    pub fn last_ended(&self, app: &AppName) -> Result<Option<Transaction>, JournalError> {
        for id in self.ids()?.into_iter().rev() {
            let found = self.load(id)?;
            let is_of = |found: &Transaction| found.ended.is_some() && found.parts.iter().any(|part| part.app == *app);
            let changed = |found: &Transaction| found.state.outcome() != Some(Outcome::Refused);
            if found.as_ref().is_some_and(|found| is_of(found) && changed(found)) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Returns the newest transaction of an app, if it failed on its way, in this boot.
    ///
    /// # Errors
    /// As for [`Journal::last_ended`].
    pub fn last_failed(&self, app: &AppName) -> Result<Option<Transaction>, JournalError> {
        let boot = boot_id(&self.layout);
        let last = self.last_ended(app)?;
        Ok(last.filter(|last| last.boot == boot && last.state.outcome() == Some(Outcome::Failed)))
    }

    /// Returns a number that no transaction had yet, as far as they are kept.
    ///
    /// # Errors
    /// When the directory can't be listed.
    pub fn next_id(&self) -> Result<u32, JournalError> {
        Ok(self.ids()?.last().map_or(1, |last| last.saturating_add(1)))
    }

    /// Removes the oldest of the ended ones.
    ///
    /// # Errors
    /// When one can't be removed.
    pub fn prune(&self) -> Result<(), JournalError> {
        let ids = self.ids()?;
        for id in ids.iter().take(ids.len().saturating_sub(KEEP)) {
            if self.load(*id)?.is_some_and(|transaction| transaction.ended.is_some()) {
                atomic::remove(&self.path(*id))?;
            }
        }
        Ok(())
    }

    fn path(&self, id: u32) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// Returns the numbers in use, in order.
    ///
    /// # Errors
    /// When the directory can't be listed.
    pub fn ids(&self) -> Result<Vec<u32>, JournalError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).at("list", &self.directory)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.at("list", &self.directory)?.file_name();
            ids.extend(
                Path::new(&name)
                    .file_name()
                    .and_then(|name| name.to_str())
                    .and_then(id_of),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

fn id_of(name: &str) -> Option<u32> {
    name.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::commands::Commands;
    use crate::machine::{Event, Failure, OldRights, Rollback, When, step};
    use venvd_app::links::VenvPath;
    use venvd_bus::Code;
    use venvd_fs::Root;

    pub(crate) fn part() -> Part {
        let before = VenvPath::local(&Layout::new(Root::host()), "nova:1".parse().unwrap());
        Part {
            app: "nova".parse().unwrap(),
            enabled: true,
            admitted: true,
            again: false,
            from: Some(before.clone()),
            outgoing: Some(before),
            to: VenvPath::recorded(Path::new("/usr/lib/venvd/venvs/nova/2")),
            digest: None,
            asked: Some(PathBuf::from("/usr/lib/venvd/venvs/nova/2")),
            switch: Some("enabled = true\n".to_owned()),
            commands: Commands::default(),
            captured: vec![CapturedUnit {
                unit: "nova-api.service".parse().unwrap(),
                invocation: "ab".to_owned(),
                running: true,
                tagged: true,
                own_stop: false,
            }],
        }
    }

    pub(crate) fn example(id: u32) -> Transaction {
        Transaction {
            id,
            boot: "this".to_owned(),
            cause: Cause::Link,
            caller_uid: None,
            force: false,
            case: Case {
                kind: Kind::Activate,
                enabled: true,
                admitted: true,
                from: true,
                to: true,
                same: false,
                again: false,
                rollback: Rollback::Automatic,
                timeout: Duration::from_secs(120),
                old_rights: OldRights::UntilGone,
                restart: When::Now,
                commands: crate::machine::Commands::default(),
            },
            state: State::default(),
            parts: vec![part()],
            settle: Duration::from_millis(300),
            outside: Vec::new(),
            units: Vec::new(),
            checks: Vec::new(),
            leftovers: Vec::new(),
            started: now(),
            ended: None,
        }
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(&Layout::new(Root::at(directory.path())));
        (directory, journal)
    }

    #[test]
    fn what_is_written_is_read_back_in_every_state() {
        let (_directory, journal) = journal();
        let mut transaction = example(7);
        let mut event = Event::Begin;
        loop {
            let (state, effect) = step(&transaction.case, transaction.state.clone(), event, Duration::ZERO);
            transaction.state = state;
            // The moment until which an effect may last means nothing to another process, so it isn't kept.
            if transaction.state.deadline().is_none() {
                journal.save(&transaction).unwrap();
                assert_eq!(journal.load(7).unwrap().unwrap(), transaction);
            }
            if effect.is_none() {
                break;
            }
            event = Event::Done;
        }
        assert_eq!(transaction.state.outcome(), Some(Outcome::Done));
    }

    #[test]
    fn numbers_go_on_and_open_ones_are_found() {
        let (_directory, journal) = journal();
        assert_eq!(journal.next_id().unwrap(), 1);
        assert!(journal.load(1).unwrap().is_none());
        for id in [2, 10, 9] {
            let ended = (id == 9).then_some(5);
            journal.save(&Transaction { ended, ..example(id) }).unwrap();
        }
        fs::write(journal.path(11), "{").unwrap();
        fs::write(journal.directory.join(".12.json.tmp"), "").unwrap();
        let (open, broken) = journal.open().unwrap();
        assert_eq!(open.iter().map(|open| open.id).collect::<Vec<_>>(), [2, 10]);
        assert!(broken[0].to_string().contains("11.json"), "{broken:?}");
        assert_eq!(journal.next_id().unwrap(), 12, "also an unreadable one has its number");
    }

    #[test]
    fn the_last_one_of_an_app() {
        let (_directory, journal) = journal();
        let last = |app: &str| journal.last_ended(&app.parse().unwrap()).unwrap().map(|last| last.id);
        assert_eq!(last("nova"), None);
        for (id, ended) in [(1, Some(5)), (2, Some(6)), (3, None)] {
            journal.save(&Transaction { ended, ..example(id) }).unwrap();
        }
        assert_eq!((last("nova"), last("glance")), (Some(2), None));
    }

    #[test]
    fn what_a_killed_writer_left_goes_at_the_end() {
        let (_directory, journal) = journal();
        journal.save(&example(3)).unwrap();
        let left = journal.directory.join(".3.json.venvd-AbCdEf");
        fs::write(&left, "{").unwrap();
        journal.save(&example(3)).unwrap();
        assert!(left.exists(), "it is under way");
        let ended = Some(5);
        journal.save(&Transaction { ended, ..example(3) }).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn old_ones_go_open_ones_stay() {
        let (_directory, journal) = journal();
        for id in 1..=(KEEP as u32 + 5) {
            let ended = (id != 2).then_some(5);
            journal.save(&Transaction { ended, ..example(id) }).unwrap();
        }
        journal.prune().unwrap();
        let ids = journal.ids().unwrap();
        assert_eq!((ids[0], ids[1]), (2, 6), "{ids:?}");
    }

    #[test]
    fn a_report_tells_both_failures_and_the_units() {
        let mut transaction = example(1);
        let failure = |unit: &str| Failure {
            code: Code::new(Code::JOB_FAILED),
            message: format!("{unit} failed"),
            units: vec![UnitReport {
                unit: unit.parse().unwrap(),
                result: "exit-code".to_owned(),
            }],
        };
        let mut event = Event::Begin;
        loop {
            let (state, effect) = step(&transaction.case, transaction.state.clone(), event, Duration::ZERO);
            transaction.state = state;
            use crate::machine::{Captured, Effect, Side};
            event = match effect {
                Some(Effect::Capture) => Event::Captured(Captured::Running),
                Some(Effect::Settle(Side::New)) => Event::Failed(failure("a.service")),
                Some(Effect::Settle(Side::Old)) => Event::Failed(failure("b.service")),
                Some(_) => Event::Done,
                None => break,
            };
        }
        let report = transaction.report();
        assert_eq!(report.result, Some(Outcome::Failed));
        assert_eq!(
            report.message.unwrap(),
            "a.service failed; and on the way back: b.service failed"
        );
        assert_eq!(report.units.len(), 2);
        assert_eq!(report.apps[0].to_string(), "nova:1 to nova:2");
    }
}
