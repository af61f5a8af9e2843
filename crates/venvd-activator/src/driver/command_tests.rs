//! Hooks and health commands of a transaction, with a systemd that is only simulated.

use std::time::Duration;

use venvd_app::links::Link;
use venvd_bus::{Check, Outcome};

use super::tests::{activate, ended, request, run};
use super::*;
use crate::machine::Event;
use crate::request::Ask;
use crate::testing::Place;

const COMMANDS: &str = "commands = [\"/bin/ask a\", \"/bin/ask b\", \"/bin/ask c\"]
[[hooks.before-stop]]
run = \"nova-api --expand\"
when-unit = \"nova-api.service\"
[[hooks.before-stop]]
run = \"/bin/never\"
when-unit = \"other.service\"
one-way = true
[[hooks.while-stopped]]
run = \"/bin/contract\"
[[hooks.after-start]]
run = \"/bin/migrate --online\"
[units.\"other.service\"]
programs = [\"nova-api\"]
";

const CALLS: [&str; 11] = [
    "capture",
    "nova-api --expand while 1 runs",
    "stop",
    "/bin/contract while nothing runs",
    "reload",
    "start",
    "settle",
    "/bin/migrate --online while 2 runs",
    "/bin/ask a while 2 runs",
    "/bin/ask b while 2 runs",
    "/bin/ask c while 2 runs",
];

fn place() -> Place {
    let place = Place::new();
    place.define(COMMANDS);
    place
}

#[tokio::test]
async fn each_runs_in_its_place_and_is_reported() {
    let place = place();
    let driver = place.driver(place.systemd());
    let report = run(&place, &driver, activate("2")).await;
    assert_eq!(report.result, Some(Outcome::Done), "{report:?}");
    assert_eq!(driver.units.calls(), CALLS);
    let checks: Vec<_> = report
        .checks
        .iter()
        .map(|check| (check.stage.as_str(), check.command.as_str(), check.result.as_str()))
        .collect();
    assert_eq!(
        checks,
        [
            ("before-stop", "nova-api --expand", "done"),
            ("before-stop", "/bin/never", "skipped"),
            ("while-stopped", "/bin/contract", "done"),
            ("after-start", "/bin/migrate --online", "done"),
            ("health", "/bin/ask a", "done"),
            ("health", "/bin/ask b", "done"),
            ("health", "/bin/ask c", "done"),
        ]
    );
    assert_eq!(report.checks[0].output, ["nova-api --expand says so"]);
    assert_eq!(report.checks[1].output, ["other.service is not enabled on this host"]);

    // Whoever goes back to what was in force has migrated before; but is it healthy?
    let driver = place.driver(place.systemd());
    let back = run(&place, &driver, Ask::Rollback).await;
    assert_eq!(back.result, Some(Outcome::Done));
    assert_eq!(
        driver.units.calls(),
        [
            "capture",
            "reload",
            "restart",
            "settle",
            "/bin/ask a while 1 runs",
            "/bin/ask b while 1 runs",
            "/bin/ask c while 1 runs",
        ]
    );
}

#[tokio::test]
async fn all_health_commands_that_fail_are_reported() {
    let place = place();
    let mut systemd = place.systemd();
    systemd.failing.extend(["/bin/ask a", "/bin/ask c"]);
    let driver = place.driver(systemd);
    let report = run(&place, &driver, activate("2")).await;
    assert_eq!(report.result, Some(Outcome::RolledBack));
    assert_eq!(report.code.unwrap().as_str(), Code::UNHEALTHY);
    assert_eq!(
        report.message.unwrap(),
        "the health command `/bin/ask a` failed (exit-code, status 1): /bin/ask a says so; the health command \
         `/bin/ask c` failed (exit-code, status 1): /bin/ask c says so; `journalctl VENVD_JOB=1` has all they said"
    );
    assert_eq!(driver.units.running(), "1");
    assert_eq!(report.checks.iter().filter(|check| check.has_failed()).count(), 2);
}

#[tokio::test]
async fn a_hook_that_fails_or_hangs_before_the_stop_touches_no_unit() {
    let place = place();
    let mut systemd = place.systemd();
    systemd.failing.insert("nova-api --expand");
    let driver = place.driver(systemd);
    let report = run(&place, &driver, activate("2")).await;
    assert_eq!(
        (report.result, report.code.unwrap().as_str()),
        (Some(Outcome::RolledBack), Code::HOOK_FAILED)
    );
    assert_eq!(driver.units.calls(), CALLS[..2]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_systemd_does_not_end_is_ended() {
    for (hangs, back) in [
        (CALLS[1], &[][..]),
        (CALLS[9], &["stop", "reload", "start", "settle back"]),
    ] {
        let place = place();
        let systemd = place.systemd();
        systemd.hangs.set(Some(hangs));
        let driver = place.driver(systemd);
        let report = run(&place, &driver, activate("2")).await;
        assert_eq!(report.result, Some(Outcome::RolledBack), "{hangs}");
        assert_eq!(report.code.unwrap().as_str(), Code::TIMEOUT);
        let calls = driver.units.calls();
        let at = calls.iter().position(|call| call == "end commands").unwrap();
        assert_eq!(calls[at + 1..], *back, "{hangs}");
        assert_eq!(driver.units.running(), "1", "{hangs}");
    }
}

/// venvd is killed while a command runs: it is ended first, whatever follows.
#[tokio::test]
async fn killed_while_a_command_runs() {
    for (one_way, hangs, outcome, runs) in [
        ("false", CALLS[1], Outcome::RolledBack, "1"),
        ("false", CALLS[3], Outcome::RolledBack, "1"),
        // Cut off, it has not done its work.
        ("true", CALLS[1], Outcome::RolledBack, "1"),
        ("true", CALLS[3], Outcome::Done, "2"),
        ("true", CALLS[7], Outcome::Done, "2"),
        ("true", CALLS[8], Outcome::Done, "2"),
    ] {
        let place = Place::new();
        place.define(&COMMANDS.replacen("\nwhen-unit", &format!("\none-way = {one_way}\nwhen-unit"), 1));
        let systemd = place.systemd();
        systemd.hangs.set(Some(hangs));
        let killed = place.driver(systemd);
        let (mut transaction, objection) = request(activate("2")).prepare(&killed.host, 1);
        let reached = async {
            while !killed.units.calls().iter().any(|call| call == hangs) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = killed.drive(&mut transaction, (Event::Begin, objection), |_| {}) => panic!("{hangs} is never called"),
            () = reached => {}
        }

        let systemd = killed.units;
        systemd.hangs.set(None);
        let before = systemd.calls().len();
        let next = place.driver(systemd);
        let mut open = next.journal.open().unwrap().0.remove(0);
        next.drive(&mut open, (Event::Interrupted, None), |_| {}).await;
        ended(&place, &open.report());
        assert_eq!(open.report().result, Some(outcome), "{one_way} {hangs}");
        assert_eq!(next.units.running(), runs, "{one_way} {hangs}");
        assert_eq!(place.tag(Link::Committed).unwrap(), runs);
        assert_eq!(next.units.calls()[before], "end commands");
        if outcome == Outcome::Done {
            assert_eq!(
                next.units.calls()[before + 1],
                hangs,
                "it is run again, and what follows"
            );
        }
    }
}

#[tokio::test]
async fn behind_a_one_way_hook_units_that_fail_stay_in_the_new_venv() {
    for (sick, failing, in_force) in [
        ("2", "", "2"),
        ("", "/bin/migrate --online", "2"),
        ("", "/bin/contract", "1"),
    ] {
        let place = Place::new();
        place.define(&COMMANDS.replacen("\nwhen-unit", "\none-way = true\nwhen-unit", 1));
        let mut systemd = place.systemd();
        systemd.sick.extend((!sick.is_empty()).then_some(sick));
        systemd.failing.insert(failing);
        let driver = place.driver(systemd);
        let report = run(&place, &driver, activate("2")).await;
        assert_eq!(report.result, Some(Outcome::Failed), "{sick} {failing}");
        let message = report.message.unwrap();
        assert!(message.contains("no automatic way back"), "{message}");
        assert_eq!(place.tag(Link::Committed).unwrap(), in_force);
        assert_eq!(driver.units.running(), in_force, "{sick} {failing}");
        assert_eq!(report.checks[0].result, Check::DONE);
    }
}
