use std::collections::BTreeSet;

use super::*;
use crate::transaction::tests::example;
use venvd_bus::Stage;

const CATALOG: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../units/venvd.catalog"));

fn with(kind: Kind, result: Outcome) -> JobReport {
    JobReport {
        kind,
        result: Some(result),
        state: Stage::Ended,
        ..example(1).report()
    }
}

#[test]
fn what_came_of_it() {
    for (kind, result, expected) in [
        (Kind::Activate, Outcome::Done, "nova:2 is in force (before: nova:1)"),
        (
            Kind::Activate,
            Outcome::Refused,
            "activating nova:2 is refused, nothing was changed",
        ),
        (
            Kind::Activate,
            Outcome::RolledBack,
            "activating nova:2 failed, and all is as before (nova:1)",
        ),
        (
            Kind::Disable,
            Outcome::Done,
            "nova is disabled, its units are the distribution's",
        ),
        (
            Kind::Enable,
            Outcome::Failed,
            "enabling nova failed and needs you (before: nova:1)",
        ),
    ] {
        let report = with(kind, result);
        assert_eq!(outcome(&report, &report.apps[0]), expected);
    }
}

#[test]
fn each_event_is_explained_in_the_catalog_and_no_other() {
    let explained: Vec<&str> = CATALOG.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    let events: BTreeSet<&str> = event::ALL.iter().copied().collect();
    assert_eq!(events.len(), event::ALL.len());
    assert_eq!(explained.len(), events.len(), "twice the same");
    assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), events);
    let entries = CATALOG.split("\n-- ").skip(1);
    for entry in entries {
        for header in [
            "\nSubject: ",
            "\nDefined-By: venvd\n",
            "\nSupport: ",
            "\nDocumentation: man:",
        ] {
            assert_eq!(entry.matches(header).count(), 1, "{header:?} of {entry}");
        }
        let (_, text) = entry.split_once("\n\n").expect("a text");
        assert!(text.len() > 80, "{entry}");
    }
}
