//! The settle window: a job's `done` says that a unit was started, not that it lives.
//!
//! It looks when systemd says that something has changed (PropertiesChanged), but at levels, so that nothing can be
//! missed: a unit that died and came back between two looks has another `InvocationID`, or a higher `NRestarts`.

use std::collections::BTreeMap;
use std::time::Duration;

use venvd_app::{UnitName, VenvName};
use venvd_bus::{Code, UnitReport};
use venvd_core::usage::Trace;

use crate::machine::{Failure, Side};

/// What is known of a unit at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// `LoadState`
    pub(crate) load: String,
    /// `ActiveState`
    pub(crate) active: String,
    /// `SubState`
    pub(crate) sub: String,
    /// `InvocationID`, in hex
    pub(crate) invocation: String,
    /// `NRestarts`
    pub(crate) restarts: u32,
    /// `Type=oneshot`
    pub(crate) oneshot: bool,
    /// `Result`
    pub(crate) result: String,
    /// `ExecMainStatus`
    pub(crate) status: i32,
    /// `VENVD_TAG` in the unit's `Environment`
    pub(crate) configured: Option<String>,
    /// `MainPID`
    pub(crate) main_pid: u32,
    /// The venvs that the main process runs, as far as its program, script and mappings show that, and which of them does.
    pub(crate) shown: BTreeMap<VenvName, Trace>,
    /// `VENVD_TAG` in the environment that the main process was started with. Some programs write their title over
    /// it (setproctitle), so none is no proof of anything.
    pub(crate) running: Option<String>,
}

impl Observation {
    /// Returns in a few words how the unit is, for the report.
    pub(crate) fn describe(&self) -> String {
        if self.load != "loaded" {
            return self.load.clone();
        }
        // Between two tries systemd says `activating`, which is not how anybody would call it.
        let state = match self.sub.as_str() {
            sub if sub.starts_with("auto-restart") => "fails again and again",
            _ => &self.active,
        };
        match self.result.as_str() {
            "" | "success" => format!("{state} ({})", self.sub),
            "exit-code" | "signal" | "core-dump" => format!("{state} ({}, status {})", self.result, self.status),
            result => format!("{state} ({result})"),
        }
    }
}

/// What a unit is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Its name.
    pub(crate) unit: UnitName,
    /// Its `InvocationID` before the transaction.
    pub(crate) before: String,
    /// The venv that it is to run; nothing when that is the distribution's business.
    pub(crate) venv: Option<VenvName>,
}

/// What the window says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again, when something has changed and after this time at the latest.
    Wait(Duration),
    /// All were up, unchanged, for the whole window.
    Healthy(Vec<UnitReport>),
    /// Some are not, and why.
    Unhealthy(Failure),
}

/// A window over some units.
#[derive(Debug)]
pub(crate) struct Window {
    expected: Vec<Expected>,
    side: Side,
    length: Duration,
    first: BTreeMap<UnitName, String>,
    steady_since: Option<Duration>,
}

enum Health {
    Steady,
    Starting,
    Bad(&'static str, String),
}

impl Window {
    /// Opens a window of this length over units that were started, on that side of the transaction.
    pub(crate) fn new(expected: Vec<Expected>, side: Side, length: Duration) -> Self {
        Self {
            expected,
            side,
            length,
            first: BTreeMap::new(),
            steady_since: None,
        }
    }

    /// Takes one look at all units, at `now`.
    pub(crate) fn look(&mut self, now: Duration, seen: &BTreeMap<UnitName, Observation>) -> Verdict {
        let (mut bad, mut starting, mut reports) = (Vec::new(), false, Vec::new());
        let missing = Observation::default();
        for expected in &self.expected {
            let observation = seen.get(&expected.unit).unwrap_or(&missing);
            let mut report = |result: String| {
                reports.push(UnitReport {
                    unit: expected.unit.clone(),
                    result,
                });
            };
            match health(expected, self.side, observation, self.first.get(&expected.unit)) {
                Health::Steady => {
                    let invocation = observation.invocation.clone();
                    self.first.entry(expected.unit.clone()).or_insert(invocation);
                    report("done".to_owned());
                }
                Health::Starting => {
                    starting = true;
                    report(observation.describe());
                }
                Health::Bad(code, why) => {
                    bad.push((code, format!("{}: {why}", expected.unit)));
                    report(why);
                }
            }
        }
        if let Some((code, _)) = bad.first() {
            let units: Vec<_> = reports.into_iter().filter(|report| report.result != "done").collect();
            let message: Vec<_> = bad.iter().map(|(_, message)| message.as_str()).collect();
            return Verdict::Unhealthy(Failure {
                message: format!("{}; {}", message.join("; "), hint(&units)),
                units,
                ..Failure::new(code, "")
            });
        }
        if starting {
            self.steady_since = None;
            return Verdict::Wait(Duration::MAX);
        }
        let since = *self.steady_since.get_or_insert(now);
        match self.length.saturating_sub(now.saturating_sub(since)) {
            Duration::ZERO => Verdict::Healthy(reports),
            rest => Verdict::Wait(rest),
        }
    }
}

/// Returns what to do next about units.
pub(crate) fn hint(units: &[UnitReport]) -> String {
    let units: Vec<_> = units.iter().map(|report| format!("-u {}", report.unit)).collect();
    format!("`journalctl -e {}` tells more", units.join(" "))
}

fn health(expected: &Expected, side: Side, seen: &Observation, first: Option<&String>) -> Health {
    if seen.load != "loaded" {
        // What venvd wrote whole is gone when the app is off; so it should be.
        return match expected.venv {
            None => Health::Steady,
            Some(_) => Health::Bad(
                Code::NOT_SETTLED,
                format!("systemd can't load it ({})", seen.describe()),
            ),
        };
    }
    match seen.active.as_str() {
        "active" | "reloading" | "refreshing" => {}
        "activating" if !seen.sub.starts_with("auto-restart") => return Health::Starting,
        "deactivating" => return Health::Starting,
        "inactive" if seen.oneshot && seen.result == "success" => return Health::Steady,
        _ => return Health::Bad(Code::NOT_SETTLED, format!("it did not stay up: {}", seen.describe())),
    }
    // On the way back, a unit that was never stopped is what it should be; its restarts were before all this.
    let untouched = side == Side::Old && seen.invocation == expected.before;
    if (seen.restarts > 0 && !untouched) || first.is_some_and(|first| *first != seen.invocation) {
        let why = format!(
            "it went down and was restarted within the settle window ({} times)",
            seen.restarts.max(1)
        );
        return Health::Bad(Code::NOT_SETTLED, why);
    }
    if side == Side::New && seen.invocation == expected.before {
        return Health::Bad(
            Code::WRONG_VENV,
            "it was not restarted: it still runs what it ran before".to_owned(),
        );
    }
    let Some(venv) = &expected.venv else {
        return Health::Steady;
    };
    let wrong = |found: &str| {
        let why = format!(
            "it runs {found}, not {venv}; `systemctl cat {}` shows why",
            expected.unit
        );
        Health::Bad(Code::WRONG_VENV, why)
    };
    match seen.running.as_deref().or(seen.configured.as_deref()) {
        Some(tag) if tag == venv.tag().as_str() => {}
        Some(tag) => return wrong(&format!("{}:{tag}", venv.app())),
        None => return wrong("no venv"),
    }
    // A wrapper of somebody's may have the variables of one, and the path of another.
    let mut others = seen
        .shown
        .iter()
        .filter(|(shown, _)| shown.app() == venv.app() && *shown != venv);
    others
        .next()
        .map_or(Health::Steady, |(other, trace)| wrong(&format!("{other} by {trace}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn unit() -> UnitName {
        "a.service".parse().unwrap()
    }

    fn window(tag: Option<&str>) -> Window {
        let expected = Expected {
            unit: unit(),
            before: "old".to_owned(),
            venv: tag.map(|tag| format!("nova:{tag}").parse().unwrap()),
        };
        Window::new(vec![expected], Side::New, LENGTH)
    }

    fn shown(venvs: &[&str]) -> BTreeMap<VenvName, Trace> {
        let each = venvs.iter().map(|venv| (venv.parse().unwrap(), Trace::Mapping));
        each.collect()
    }

    fn good() -> Observation {
        Observation {
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            sub: "running".to_owned(),
            invocation: "new".to_owned(),
            result: "success".to_owned(),
            configured: Some("2".to_owned()),
            running: Some("2".to_owned()),
            ..Observation::default()
        }
    }

    fn look(window: &mut Window, seconds: u64, seen: Observation) -> Verdict {
        window.look(Duration::from_secs(seconds), &BTreeMap::from([(unit(), seen)]))
    }

    #[test]
    fn the_window_begins_when_all_are_up_and_has_its_full_length() {
        let mut window = window(Some("2"));
        let starting = Observation {
            active: "activating".to_owned(),
            sub: "start".to_owned(),
            ..good()
        };
        let wait = |seconds| Verdict::Wait(Duration::from_secs(seconds));
        let for_a_change = Verdict::Wait(Duration::MAX);
        assert_eq!(look(&mut window, 0, starting.clone()), for_a_change);
        assert_eq!(look(&mut window, 5, good()), wait(10));
        assert_eq!(look(&mut window, 14, good()), wait(1));
        assert_eq!(look(&mut window, 14, starting), for_a_change, "begins anew");
        assert_eq!(look(&mut window, 20, good()), wait(10));
        assert!(matches!(look(&mut window, 30, good()), Verdict::Healthy(_)));
    }

    #[test]
    fn what_is_not_healthy() {
        let with = |change: fn(&mut Observation)| {
            let mut seen = good();
            change(&mut seen);
            seen
        };
        let table: Vec<(&str, &str, Observation)> = vec![
            (
                "failed",
                Code::NOT_SETTLED,
                with(|o| {
                    o.active = "failed".into();
                    o.result = "exit-code".into();
                    o.status = 1;
                }),
            ),
            ("exited", Code::NOT_SETTLED, with(|o| o.active = "inactive".into())),
            (
                "crash loop",
                Code::NOT_SETTLED,
                with(|o| {
                    o.active = "activating".into();
                    o.sub = "auto-restart".into();
                }),
            ),
            (
                "auto-restart-queued",
                Code::NOT_SETTLED,
                with(|o| {
                    o.active = "activating".into();
                    o.sub = "auto-restart-queued".into();
                }),
            ),
            ("restarted", Code::NOT_SETTLED, with(|o| o.restarts = 1)),
            (
                "another invocation",
                Code::NOT_SETTLED,
                with(|o| o.invocation = "third".into()),
            ),
            (
                "an unknown state",
                Code::NOT_SETTLED,
                with(|o| o.active = "maintenance".into()),
            ),
            ("gone", Code::NOT_SETTLED, with(|o| o.load = "not-found".into())),
            ("not restarted", Code::WRONG_VENV, with(|o| o.invocation = "old".into())),
            ("another venv", Code::WRONG_VENV, with(|o| o.running = Some("1".into()))),
            (
                "what another venv has",
                Code::WRONG_VENV,
                with(|o| o.shown = shown(&["nova:2", "nova:1"])),
            ),
            (
                "no venv",
                Code::WRONG_VENV,
                with(|o| {
                    o.running = None;
                    o.configured = None;
                }),
            ),
        ];
        for (what, code, seen) in table {
            let mut window = window(Some("2"));
            if what != "not restarted" {
                assert_eq!(look(&mut window, 0, good()), Verdict::Wait(LENGTH));
            }
            match look(&mut window, 1, seen) {
                Verdict::Unhealthy(failure) => {
                    assert_eq!(failure.code.as_str(), code, "{what}: {}", failure.message);
                    assert_eq!(failure.units.len(), 1);
                    assert!(
                        failure.message.contains("journalctl -e -u a.service"),
                        "{}",
                        failure.message
                    );
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_healthy_all_the_same() {
        let titled = Observation {
            running: None,
            ..good()
        };
        let finished = Observation {
            active: "inactive".to_owned(),
            oneshot: true,
            ..good()
        };
        let of_others = Observation {
            shown: shown(&["nova:2", "glance:1"]),
            ..good()
        };
        for seen in [titled, finished, of_others] {
            let mut window = window(Some("2"));
            assert_eq!(look(&mut window, 0, seen.clone()), Verdict::Wait(LENGTH));
            assert!(matches!(look(&mut window, 10, seen), Verdict::Healthy(_)));
        }
        let gone = Observation {
            load: "not-found".to_owned(),
            ..Observation::default()
        };
        let foreign = Observation {
            running: None,
            configured: None,
            ..good()
        };
        for seen in [gone, foreign] {
            let mut window = window(None);
            assert_eq!(look(&mut window, 0, seen.clone()), Verdict::Wait(LENGTH));
            assert!(
                matches!(look(&mut window, 10, seen), Verdict::Healthy(_)),
                "the app is off"
            );
        }
        let mut window = Window {
            side: Side::Old,
            ..window(Some("2"))
        };
        let never_stopped = Observation {
            invocation: "old".to_owned(),
            restarts: 3,
            ..good()
        };
        assert_eq!(look(&mut window, 0, never_stopped.clone()), Verdict::Wait(LENGTH));
        assert!(matches!(look(&mut window, 10, never_stopped), Verdict::Healthy(_)));
    }
}
