//! What is known of a job while it goes on, as its object on the bus says.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use venvd_bus::Stage;
use zbus::OwnedVariant;

/// A job on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The apps, by their names.
    pub(crate) apps: Vec<String>,
    /// Nothing when it is none that this venvctl knows.
    pub(crate) stage: Option<Stage>,
    /// Each unit, and how it is.
    pub(crate) units: BTreeMap<String, String>,
    /// The unit that changed last.
    pub(crate) latest: Option<String>,
    /// When the settle window closes, by `CLOCK_MONOTONIC`.
    pub(crate) settle_until: Option<Duration>,
    /// Who asked for it.
    pub(crate) caller_uid: Option<u32>,
    /// When it began, in microseconds since 1970.
    pub(crate) started: u64,
    /// Whether it has ended.
    pub(crate) ended: bool,
}

impl View {
    /// Takes over properties: all of them, or those that changed. What is not understood is not shown.
    pub(crate) fn take(&mut self, properties: HashMap<String, OwnedVariant>) {
        for (property, value) in properties {
            match property.as_str() {
                "Apps" => {
                    let apps: Vec<(String, String, String)> = value.try_into().unwrap_or_default();
                    self.apps = apps.into_iter().map(|(app, _, _)| app).collect();
                }
                "State" => self.stage = String::try_from(value).ok().and_then(|state| stage(&state)),
                "Units" => self.units(HashMap::try_from(value).unwrap_or_default()),
                "SettleUntil" => {
                    let until = u64::try_from(value).ok().filter(|until| *until > 0);
                    self.settle_until = until.map(Duration::from_micros);
                }
                "CallerUid" => self.caller_uid = u32::try_from(value).ok(),
                "Started" => self.started = u64::try_from(value).unwrap_or_default(),
                "Result" => self.ended = String::try_from(value).is_ok_and(|result| !result.is_empty()),
                _ => {}
            }
        }
    }

    fn units(&mut self, units: HashMap<String, String>) {
        let units: BTreeMap<_, _> = units.into_iter().collect();
        let changed = units
            .iter()
            .filter(|(unit, state)| self.units.get(*unit) != Some(*state));
        // Of several at once any will do.
        self.latest = changed.map(|(unit, _)| unit.clone()).next_back().or(self.latest.take());
        self.units = units;
    }

    /// Returns how long the settle window is still open.
    pub(crate) fn settle_left(&self, now: Duration) -> Option<Duration> {
        self.settle_until.map(|until| until.saturating_sub(now))
    }
}

fn stage(word: &str) -> Option<Stage> {
    serde_json::from_value(word.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    fn properties<const N: usize>(pairs: [(&str, Variant<'_>); N]) -> HashMap<String, OwnedVariant> {
        pairs
            .map(|(name, value)| (name.to_owned(), value.try_to_owned().unwrap()))
            .into()
    }

    fn units<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
        pairs.map(|(unit, state)| (unit.to_owned(), state.to_owned())).into()
    }

    #[test]
    fn changes_are_taken_over_and_what_is_foreign_is_left() {
        let mut view = View::default();
        view.take(properties([
            ("Apps", vec![("nova", "1", "2")].into()),
            ("State", "restarting".into()),
            (
                "Units",
                units([("a.service", "waiting"), ("b.service", "waiting")]).into(),
            ),
            ("CallerUid", 0u32.into()),
            ("Result", "".into()),
            ("Colour", "blue".into()),
        ]));
        assert_eq!(
            (view.apps.join(" "), view.stage),
            ("nova".to_owned(), Some(Stage::Restarting))
        );
        assert_eq!((view.caller_uid, view.ended), (Some(0), false));
        view.take(properties([(
            "Units",
            units([("a.service", "done"), ("b.service", "waiting")]).into(),
        )]));
        assert_eq!(view.latest.as_deref(), Some("a.service"));
        view.take(properties([
            ("State", "dancing".into()),
            ("SettleUntil", 12_000_000u64.into()),
            ("Result", "done".into()),
        ]));
        assert_eq!((view.stage, view.ended), (None, true));
        let left = |now| view.settle_left(Duration::from_secs(now));
        assert_eq!(left(5), Some(Duration::from_secs(7)));
        assert_eq!(left(20), Some(Duration::ZERO));
        view.take(properties([("SettleUntil", 0u64.into())]));
        assert_eq!(view.settle_left(Duration::ZERO), None);
    }
}
