use super::*;
use crate::transaction::tests::example;
use venvd_bus::Stage;

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
