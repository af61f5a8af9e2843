use std::os::unix::fs::symlink;
use std::path::Path;
use std::rc::Rc;

use venvd_app::links::Link;
use venvd_bus::{Outcome, job_id, job_path};

use super::*;
use crate::testing::{Heard, Place, Simulated, venv};

fn actor(place: &Place, systemd: Simulated) -> Actor<Simulated, Heard> {
    Actor {
        driver: place.driver(systemd),
        desk: Arc::new(Desk::open(&place.journal()).unwrap().0),
        announce: Heard::default(),
    }
}

fn heard(actor: &Actor<Simulated, Heard>) -> Vec<(Option<Outcome>, String)> {
    let heard = actor.announce.0.borrow();
    let code = |report: &JobReport| {
        report
            .code
            .as_ref()
            .map(|code| code.as_str().to_owned())
            .unwrap_or_default()
    };
    heard.iter().map(|report| (report.result, code(report))).collect()
}

#[tokio::test]
async fn a_flip_is_followed_and_a_bad_one_put_back() {
    let place = Place::new();
    let actor = actor(&place, place.systemd());
    actor.follow(Cause::Boot).await;
    assert!(heard(&actor).is_empty(), "what is asked for is in force");
    place.set(Link::Active, "2");
    actor.follow(Cause::Link).await;
    assert_eq!((actor.driver.units.running().as_str(), heard(&actor).len()), ("2", 1));

    let link = Link::Active.path(&place.layout, &place.app);
    for (target, code) in [
        ("/var/lib/venvd/venvs/nova/9", Code::NO_SUCH_VENV),
        ("/tmp", Code::BAD_LINK),
    ] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        actor.follow(Cause::Link).await;
        assert_eq!(heard(&actor).pop().unwrap(), (Some(Outcome::Refused), code.to_owned()));
        assert_eq!(place.tag(Link::Active).unwrap(), "2");
    }
    let report = actor.announce.0.borrow().last().unwrap().clone();
    assert_eq!(actor.desk.report(report.id).unwrap().unwrap(), report);
    assert_eq!(job_id(&job_path(report.id)), Some(report.id));
    assert_eq!((report.cause, report.caller_uid), (Cause::Link, None));
    fs::remove_file(&link).unwrap();
    actor.follow(Cause::Link).await;
    assert_eq!(
        heard(&actor).len(),
        3,
        "a link that is gone asks for nothing: somebody may be replacing it"
    );
}

#[tokio::test]
async fn what_is_no_link_or_no_app_is_left_or_refused() {
    let place = Place::new();
    let actor = actor(&place, place.systemd());
    let directory = place.layout.active_links();
    fs::write(directory.join("glance"), "").unwrap();
    symlink(venv("2").path(), directory.join("Nova")).unwrap();
    symlink(venv("2").path(), directory.join(".nova.tmp")).unwrap();
    symlink("/var/lib/venvd/venvs/keystone/1", directory.join("keystone")).unwrap();
    actor.follow(Cause::Link).await;
    assert_eq!(heard(&actor), [(Some(Outcome::Refused), Code::UNKNOWN_APP.to_owned())]);
    assert!(directory.join("glance").exists());
    assert!(
        fs::read_link(directory.join("keystone")).is_err(),
        "nothing of it was in force"
    );
}

/// Flips come as fast as they can while an activation goes on; the newest wins.
#[tokio::test(flavor = "current_thread")]
async fn of_many_flips_the_newest_is_in_force_after_few_activations() {
    let place = Rc::new(Place::new());
    for tag in ["3", "4"] {
        place.venv(tag);
    }
    let actor = actor(&place, place.systemd());
    let stop = Rc::new(std::cell::Cell::new(false));
    // As `ln -sfn` does it: syncing each would take as long as an activation.
    let flip = |tag: &str| {
        let links = place.layout.active_links();
        symlink(venv(tag).path(), links.join(".new")).unwrap();
        fs::rename(links.join(".new"), links.join("nova")).unwrap();
    };
    let flips = async {
        for number in 0..100 {
            flip(["1", "2", "3"][number % 3]);
            tokio::task::yield_now().await;
        }
        flip("4");
        stop.set(true);
    };
    let follow = async {
        loop {
            let last = stop.get();
            actor.follow(Cause::Link).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            if last {
                return;
            }
        }
    };
    tokio::join!(flips, follow);
    assert_eq!(actor.driver.units.running(), "4");
    assert_eq!(place.tag(Link::Committed).unwrap(), "4");
    assert!(heard(&actor).len() <= 3, "{:?}", heard(&actor));
    assert!(heard(&actor).iter().all(|(result, _)| *result == Some(Outcome::Done)));
}

#[tokio::test]
async fn a_lock_that_is_held_is_waited_for() {
    let place = Place::new();
    let actor = actor(&place, place.systemd());
    let held = Lock::exclusive(&place.layout.app_lock(&place.app)).unwrap();
    place.set(Link::Active, "2");
    let release = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(actor.driver.units.running(), "1");
        drop(held);
    };
    tokio::join!(actor.follow(Cause::Link), release);
    assert_eq!(actor.driver.units.running(), "2");
}

/// The old venv ran, and can't be started any more.
#[tokio::test]
async fn what_nothing_else_can_run_is_tried_once_more() {
    let place = Place::new();
    let mut systemd = place.systemd();
    systemd.sick.insert("1");
    systemd.hangs.set(Some("restart"));
    let actor = actor(&place, systemd);
    let request = Request::one(
        place.app.clone(),
        Ask::Activate("2".parse().unwrap()),
        Options::of(Cause::Dbus),
    );
    let id = actor.desk.number(&request);
    // Cut off, taken up once, and cut off again: then it goes back.
    let patience = Duration::from_millis(500);
    tokio::time::timeout(patience, actor.work(id, &request))
        .await
        .unwrap_err();
    tokio::time::timeout(patience, actor.resume()).await.unwrap_err();
    actor.driver.units.hangs.set(None);
    actor.resume().await;
    assert_eq!(
        heard(&actor),
        [
            (Some(Outcome::Failed), Code::INTERRUPTED.to_owned()),
            (Some(Outcome::Done), String::new())
        ]
    );
    assert_eq!(actor.driver.units.running(), "2");
    assert_eq!(place.tag(Link::Committed).unwrap(), "2");

    // Not for ever, and not where it is the venv that is no good.
    place.venv("3");
    let sick = Request::one(
        place.app.clone(),
        Ask::Activate("3".parse().unwrap()),
        Options::of(Cause::Dbus),
    );
    actor.work(actor.desk.number(&sick), &sick).await;
    assert_eq!(actor.driver.units.running(), "3");
}

#[test]
fn only_what_differs_is_a_flip() {
    let place = Place::new();
    assert!(is_in_force(
        &place.layout,
        &place.app,
        Path::new("/var/lib/venvd/venvs/nova/1/")
    ));
    assert!(!is_in_force(
        &place.layout,
        &place.app,
        Path::new("/usr/lib/venvd/venvs/nova/1")
    ));
    assert!(!is_in_force(
        &place.layout,
        &"glance".parse().unwrap(),
        Path::new("/tmp")
    ));
}
