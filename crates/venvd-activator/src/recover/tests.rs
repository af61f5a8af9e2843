use std::collections::BTreeSet;
use std::time::Duration;

use venvd_bus::{Cause, Outcome};

use super::*;
use crate::request::{Ask, Options, Request};
use crate::testing::{DISTRIBUTION, Place, Simulated};

/// An activation, or a switch, is cut off in the middle of this call to systemd.
async fn cut_off(place: &Place, ask: Ask, hangs: &'static str) -> Simulated {
    let systemd = place.systemd();
    systemd.hangs.set(Some(hangs));
    let driver = place.driver(systemd);
    let request = Request::one(place.app.clone(), ask, Options::of(Cause::Dbus));
    let (mut transaction, _) = request.prepare(&driver.host, 1);
    let reached = async {
        while driver.units.calls().last().is_none_or(|call| call != hangs) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = driver.drive(&mut transaction, (Event::Begin, None), |_| {}) => panic!("{hangs} is never called"),
        () = reached => {}
    }
    driver.units.hangs.set(None);
    driver.units
}

fn tags(place: &Place) -> (Option<String>, Option<String>) {
    (place.tag(Link::Committed), place.tag(Link::Active))
}

#[tokio::test]
async fn after_a_boot_what_was_in_force_is_in_force() {
    let table = [
        (Ask::Activate("2".parse().unwrap()), ["reload", "restart", "settle"]),
        (Ask::Disable, ["stop", "reload", "settle"]),
    ];
    for (ask, cuts) in table {
        for hangs in cuts {
            let place = Place::new();
            cut_off(&place, ask.clone(), hangs).await;
            assert!(place.is_pending());
            place.write("/proc/sys/kernel/random/boot_id", "second\n");
            let booting = place.systemd();
            recover(&place.layout, booting).await.unwrap();
            assert_eq!(tags(&place), (Some("1".into()), Some("1".into())), "{ask:?} {hangs}");
            assert!(!place.is_pending());
            let fresh = place.systemd();
            assert_ne!(*fresh.loaded.borrow(), DISTRIBUTION);
            let ended = place.journal().load(1).unwrap().unwrap();
            assert_eq!(ended.report().result, Some(Outcome::RolledBack), "{ask:?} {hangs}");
        }
    }
}

#[tokio::test]
async fn no_unit_is_touched_and_systemd_is_reloaded_once() {
    let place = Place::new();
    cut_off(&place, Ask::Activate("2".parse().unwrap()), "settle").await;
    place.write("/proc/sys/kernel/random/boot_id", "second\n");
    let booting = std::rc::Rc::new(place.systemd());
    recover(&place.layout, Shared(booting.clone())).await.unwrap();
    assert_eq!(booting.calls(), ["reload"]);
}

/// Behind a one-way hook a boot goes on to the new venv; a hook that can't run there stops it where it is.
#[tokio::test]
async fn behind_a_one_way_hook_a_boot_leads_on() {
    const ONE_WAY: &str = "[[hooks.before-stop]]\nrun = \"/bin/sync\"\none-way = true\n";
    const LATER: &str = "[[hooks.WHEN]]\nrun = \"/bin/later\"\n";
    for (later, hangs, in_force, said) in [
        ("", "reload", "2", "nobody watched"),
        ("", "settle", "2", "nobody watched"),
        (
            "while-stopped",
            "/bin/later while nothing runs",
            "1",
            "before `/bin/later`",
        ),
        ("after-start", "/bin/later while 2 runs", "2", "before `/bin/later`"),
    ] {
        let place = Place::new();
        let later = if later.is_empty() {
            String::new()
        } else {
            LATER.replace("WHEN", later)
        };
        place.define(&format!("{ONE_WAY}{later}"));
        cut_off(&place, Ask::Activate("2".parse().unwrap()), hangs).await;
        place.write("/proc/sys/kernel/random/boot_id", "second\n");
        let booting = std::rc::Rc::new(place.systemd());
        recover(&place.layout, Shared(booting)).await.unwrap();
        assert_eq!(tags(&place), (Some(in_force.into()), Some(in_force.into())), "{hangs}");
        assert!(!place.is_pending());
        let report = place.journal().load(1).unwrap().unwrap().report();
        assert_eq!(report.result, Some(Outcome::Failed), "{hangs}");
        let message = report.message.unwrap();
        assert!(
            message.contains(said) && message.contains("no automatic way back"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_is_open_in_this_boot_or_locked_is_venvds_business() {
    let place = Place::new();
    cut_off(&place, Ask::Activate("2".parse().unwrap()), "settle").await;
    recover(&place.layout, place.systemd()).await.unwrap();
    assert_eq!(place.tag(Link::Committed).unwrap(), "2", "of this boot");
    assert!(place.is_pending());
    place.write("/proc/sys/kernel/random/boot_id", "second\n");
    let held = Lock::exclusive(&place.layout.app_lock(&place.app)).unwrap();
    recover(&place.layout, place.systemd()).await.unwrap();
    assert_eq!(place.tag(Link::Committed).unwrap(), "2", "somebody works on it");
    drop(held);
    recover(&place.layout, place.systemd()).await.unwrap();
    assert_eq!(place.tag(Link::Committed).unwrap(), "1");
}

#[tokio::test]
async fn a_marker_without_a_transaction_is_taken_away() {
    let place = Place::new();
    recover(&place.layout, place.systemd()).await.unwrap();
    place.write("/etc/venvd/pending/nova", "9\n");
    let booting = std::rc::Rc::new(place.systemd());
    recover(&place.layout, Shared(booting.clone())).await.unwrap();
    assert!(!place.is_pending());
    assert_eq!(booting.calls(), ["reload"]);
}

#[tokio::test]
async fn units_must_not_start_when_the_link_can_not_be_put_back() {
    let place = Place::new();
    cut_off(&place, Ask::Activate("2".parse().unwrap()), "settle").await;
    place.write("/proc/sys/kernel/random/boot_id", "second\n");
    // A directory in the way, that no rename replaces.
    let link = Link::Committed.path(&place.layout, &place.app);
    fs::remove_file(&link).unwrap();
    fs::create_dir_all(link.join("in the way")).unwrap();
    let error = recover(&place.layout, AtBootNothing).await.unwrap_err();
    assert!(error.to_string().contains("put back for nova"), "{error}");
}

#[tokio::test]
async fn units_must_not_start_when_the_journal_can_not_be_read() {
    let place = Place::new();
    cut_off(&place, Ask::Activate("2".parse().unwrap()), "settle").await;
    place.write("/proc/sys/kernel/random/boot_id", "second\n");
    place.write("/var/lib/venvd/transactions/1.json", "{}");
    let error = recover(&place.layout, place.systemd()).await.unwrap_err();
    assert!(error.to_string().contains("put back for nova"), "{error}");
    assert!(place.is_pending(), "2 was never found healthy");
    // One that is long over is nobody's way back.
    place.write("/etc/venvd/pending/nova", "9\n");
    recover(&place.layout, place.systemd()).await.unwrap();
    assert!(!place.is_pending());
}

/// Lets a test look at what it gave away.
struct Shared(std::rc::Rc<Simulated>);

/// Where even reloading does nothing.
struct AtBootNothing;

macro_rules! units {
    ($type:ty, |$this:ident| $reload:expr) => {
        impl Units for $type {
            async fn reload(&self) -> Result<(), Failure> {
                let $this = self;
                $reload
            }
            async fn capture(&self, app: &App, _: &LeftDown) -> Result<Vec<CapturedUnit>, Failure> {
                panic!("{}", app.name)
            }
            async fn outside(&self, _: &Transaction) -> Result<Vec<UnitName>, Failure> {
                panic!()
            }
            async fn foresee(&self, _: &Transaction, _: Vec<Record>) -> Result<BTreeSet<UnitName>, Failure> {
                panic!()
            }
            async fn stop(&self, _: &Transaction) -> Result<(), Failure> {
                panic!()
            }
            async fn restart(&self, _: &Transaction) -> Result<(), Failure> {
                panic!()
            }
            async fn let_go(&self, _: u32) {}
            async fn start(&self, _: &Transaction, _: Side) -> Result<(), Failure> {
                panic!()
            }
            async fn settle(&self, _: &Transaction, _: Side) -> Result<Vec<UnitReport>, Failure> {
                panic!()
            }
            async fn not_up(&self, _: &Transaction) -> Vec<UnitReport> {
                panic!()
            }
            fn generation(&self) -> u64 {
                0
            }
            async fn is_another_since(&self, _: u64) -> bool {
                false
            }
            async fn is_enabled(&self, part: &Part, unit: &UnitName) -> Result<bool, Failure> {
                AtBoot(Scope::System).is_enabled(part, unit).await
            }
            async fn run_command(&self, transaction: &Transaction, run: Run<'_>) -> Result<Check, Failure> {
                AtBoot(Scope::System).run_command(transaction, run).await
            }
            async fn end_commands(&self, _: u32) {
                panic!()
            }
        }
    };
}

units!(Shared, |this| this.0.reload().await);
units!(AtBootNothing, |_this| Ok(()));
