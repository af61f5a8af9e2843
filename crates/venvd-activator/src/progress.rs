//! How the units of a transaction do while it goes on. Too much for the journal, and worth nothing after a crash: only
//! who looks on wants to know.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use venvd_app::UnitName;

/// How units do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The transaction; there is one at a time.
    pub(crate) job: u32,
    /// Each unit, and how it is in a few words.
    pub(crate) units: BTreeMap<UnitName, String>,
    /// When the settle window closes if all stays well, by `CLOCK_MONOTONIC`; nothing while none is open.
    pub(crate) settle_until: Option<Duration>,
}

/// Where that is said.
#[derive(Debug, Clone)]
pub(crate) struct Teller(watch::Sender<Progress>);

impl Teller {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Progress::default()))
    }

    /// Returns what sees each change, or at least the last one.
    pub(crate) fn follow(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    /// Begins anew: something is done to these units.
    pub(crate) fn begin(&self, job: u32, units: impl IntoIterator<Item = UnitName>, state: &str) {
        self.change(|progress| {
            *progress = Progress {
                job,
                units: units.into_iter().map(|unit| (unit, state.to_owned())).collect(),
                settle_until: None,
            };
        });
    }

    /// Says how a unit is. One that nothing is done to is none of ours.
    pub(crate) fn unit(&self, unit: &str, state: &str) {
        self.change(|progress| {
            if let Ok(unit) = unit.parse::<UnitName>()
                && let Some(known) = progress.units.get_mut(&unit)
            {
                state.clone_into(known);
            }
        });
    }

    /// Says how long the window is still open; nothing when it is not, or begins anew.
    pub(crate) fn settling(&self, left: Option<Duration>) {
        self.change(|progress| {
            let Some(left) = left else {
                progress.settle_until = None;
                return;
            };
            let until = monotonic() + left;
            // The same window, looked at again: its end is known only as exactly as the clocks were read.
            let is_same = |known: Duration| known.abs_diff(until) < Duration::from_millis(100);
            if !progress.settle_until.is_some_and(is_same) {
                progress.settle_until = Some(until);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        self.0.send_if_modified(|progress| {
            let before = progress.clone();
            change(progress);
            *progress != before
        });
    }
}

/// Returns the time since some moment before the boot, as every process of this host reads it.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither part is ever negative, clock_gettime(2).
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_seen_and_nothing_else() {
        let teller = Teller::new();
        let mut seen = teller.follow();
        let state =
            |seen: &mut watch::Receiver<Progress>| seen.borrow_and_update().units.values().cloned().collect::<Vec<_>>();
        teller.begin(
            7,
            ["a.service".parse().unwrap(), "b.service".parse().unwrap()],
            "waiting",
        );
        assert!(seen.has_changed().unwrap());
        assert_eq!(state(&mut seen), ["waiting", "waiting"]);
        teller.unit("b.service", "waiting");
        teller.unit("foreign.service", "done");
        teller.settling(None);
        assert!(!seen.has_changed().unwrap());
        teller.unit("b.service", "done");
        assert_eq!(state(&mut seen), ["waiting", "done"]);

        teller.settling(Some(Duration::from_secs(10)));
        let until = seen.borrow_and_update().settle_until.unwrap();
        assert!(until > monotonic() + Duration::from_secs(9));
        teller.settling(Some(Duration::from_secs(10)));
        assert!(!seen.has_changed().unwrap(), "the same window");
        teller.settling(Some(Duration::from_secs(12)));
        assert!(seen.borrow_and_update().settle_until.unwrap() > until, "it began anew");
        teller.begin(8, [], "");
        assert_eq!(
            *seen.borrow_and_update(),
            Progress {
                job: 8,
                ..Progress::default()
            }
        );
    }
}
