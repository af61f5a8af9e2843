use std::path::Path;

use venvd_app::links::Link;
use venvd_bus::{Cause, Outcome};
use venvd_core::Interpreter;
use venvd_core::brake;
use venvd_core::note::Note;

use super::tests::{activate, ended, request, run};
use super::*;
use crate::request::{Ask, Options};
use crate::testing::{Place, venv};

fn revoke(place: &Place, tag: &str) {
    let note = Note {
        reason: Some("CVE-2026-1".to_owned()),
        by: Some("alice".to_owned()),
        since: None,
    };
    brake::revoke(&place.layout, venv(tag).name(), &note).unwrap();
}

#[tokio::test]
async fn a_revoked_venv_is_refused_whoever_asks() {
    let place = Place::new();
    place.set(Link::Previous, "2");
    revoke(&place, "2");
    let driver = place.driver(place.systemd());
    let force = Options {
        force: true,
        ..Options::of(Cause::Dbus)
    };
    for (ask, options) in [
        (activate("2"), Options::of(Cause::Dbus)),
        (activate("2"), force),
        (Ask::Follow(venv("2").path()), Options::of(Cause::Link)),
        (Ask::Rollback, Options::of(Cause::Rollback)),
    ] {
        if matches!(ask, Ask::Follow(_)) {
            place.set(Link::Active, "2");
        }
        let id = driver.journal.next_id().unwrap();
        let mut request = request(ask);
        request.options = options;
        let (mut transaction, objection) = request.prepare(&driver.host, id);
        driver.drive(&mut transaction, (Event::Begin, objection), |_| {}).await;
        let report = transaction.report();
        ended(&place, &report);
        assert_eq!(report.result, Some(Outcome::Refused), "{report:?}");
        assert_eq!(report.code.unwrap().as_str(), Code::REVOKED);
        let message = report.message.unwrap();
        assert!(
            message.starts_with("nova:2 is revoked by alice: CVE-2026-1; "),
            "{message}"
        );
        assert_eq!(place.tag(Link::Active).unwrap(), "1", "the link is put back");
    }
    assert!(driver.units.calls().is_empty());
    brake::unrevoke(&place.layout, venv("2").name()).unwrap();
    assert_eq!(run(&place, &driver, activate("2")).await.result, Some(Outcome::Done));
}

#[tokio::test]
async fn what_is_in_force_and_revoked_is_not_gone_back_to() {
    let place = Place::new();
    let mut systemd = place.systemd();
    systemd.sick.insert("2");
    revoke(&place, "1");
    let driver = place.driver(systemd);
    let same = run(&place, &driver, activate("1")).await;
    assert_eq!(same.result, Some(Outcome::Refused), "also what is in force already");
    let report = run(&place, &driver, activate("2")).await;
    assert_eq!(report.result, Some(Outcome::Failed), "{report:?}");
    let message = report.message.unwrap();
    assert!(message.contains("what was in force (nova:1) is revoked"), "{message}");
    assert_eq!(
        (driver.units.running(), place.tag(Link::Committed).unwrap()),
        ("2".into(), "2".into())
    );
}

#[tokio::test]
async fn a_revoked_venv_becomes_previous_only_where_there_is_no_better_one() {
    for (previous, expected) in [(Some("3"), "3"), (Some("2"), "1"), (None, "1")] {
        let place = Place::new();
        place.venv("3");
        // It can run, as far as a look at /usr tells.
        let python = place
            .layout
            .on_disk(Interpreter::probe(Path::new("/usr/bin/python3")).unwrap().path);
        std::fs::create_dir_all(python.parent().unwrap()).unwrap();
        std::fs::copy("/bin/true", &python).unwrap();
        if let Some(previous) = previous {
            let driver = place.driver(place.systemd());
            run(&place, &driver, activate(previous)).await;
            run(&place, &driver, activate("1")).await;
        }
        revoke(&place, "1");
        let driver = place.driver(place.systemd());
        let report = run(&place, &driver, activate("2")).await;
        assert_eq!(report.result, Some(Outcome::Done), "{report:?}");
        assert_eq!(place.tag(Link::Previous).as_deref(), Some(expected), "{previous:?}");
    }
}
