use super::*;
use crate::admit::tests::{admitted, is_leaving, place};
use crate::machine::Admit;
use crate::testing::Place;
use crate::transaction::tests::example;

/// A host where 1 is in force and 2 still is admitted.
fn leaving_host(left: Duration) -> (Place, Host) {
    let place = place();
    let host = place.driver(place.systemd()).host;
    is_leaving(&place, "2", left);
    host.write_policies((&example(1), &example(1).parts[0]), Admit::InForce)
        .unwrap();
    assert_eq!(admitted(&place), ["1", "2"]);
    (place, host)
}

#[test]
fn rights_end_when_nothing_needs_them_or_their_time_is_over() {
    for left in [Duration::ZERO, Duration::from_secs(600)] {
        let (place, host) = leaving_host(left);
        assert_eq!(round(&host), Wait::default(), "{left:?}");
        assert_eq!(admitted(&place), ["1"], "{left:?}");
        assert!(!place.layout.leaving(&place.app).exists());
    }
}

#[test]
fn an_activation_under_way_is_not_disturbed() {
    let (place, host) = leaving_host(Duration::ZERO);
    let lock = Lock::try_exclusive(&place.layout.app_lock(&place.app)).unwrap();
    assert!(round(&host).until.is_some() && lock.is_some());
    drop(lock);
    host.mark_pending(1, &example(1).parts[0].app).unwrap();
    assert!(round(&host).until.is_some());
    assert_eq!(admitted(&place), ["1", "2"]);
    host.clear_pending(&place.app).unwrap();
    assert_eq!(round(&host), Wait::default());
    assert_eq!(admitted(&place), ["1"]);
}

#[test]
fn one_app_that_is_off_or_broken_does_not_stop_the_others() {
    let (place, host) = leaving_host(Duration::ZERO);
    place.write("/run/venvd/leaving/glance.json", "[");
    assert!(round(&host).until.is_some(), "glance is looked at again");
    assert_eq!(admitted(&place), ["1"]);
    is_leaving(&place, "2", Duration::from_secs(600));
    place.write("/etc/venvd/venvd.toml", "enabled = false\n");
    round(&host);
    assert!(!place.layout.leaving(&place.app).exists());
}

#[tokio::test]
async fn the_end_of_all_processes_is_waited_for() {
    let mut children: Vec<_> = ["0.01", "0.05"]
        .map(|time| std::process::Command::new("sleep").arg(time).spawn().unwrap())
        .into();
    let ids: Vec<u32> = children.iter().map(std::process::Child::id).collect();
    ended(&ids).await;
    for child in &mut children {
        assert!(child.try_wait().unwrap().is_some(), "it runs on");
    }
    ended(&ids).await;
}
