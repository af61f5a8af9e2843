use std::fs;
use std::path::Path;

use venvd_app::links::Link;

use super::*;
use crate::testing::{Place, venv};
use crate::transaction::tests::example;

const DEFINITION: &str =
    "enabled = true\n[units.\"nova-api.service\"]\n[rootwrap]\nconfig = \"/etc/nova/rootwrap.conf\"\n";
const CONF: &str = "[DEFAULT]\nfilters_path=/etc/nova/rootwrap.d\nexec_dirs=/usr/sbin\n";

/// The host of other tests, whose app has a `rootwrap.conf`: it shows what is admitted, without any sudo.
pub(crate) fn place() -> Place {
    let place = Place::new();
    place.venv("3");
    for tag in ["1", "2", "3"] {
        // Its interpreter would have to be safe below this root, too, and is not what matters here.
        fs::remove_file(place.layout.on_disk(venv(tag).bin().join("python"))).unwrap();
    }
    for (path, text) in [
        ("/etc/venvd/apps/nova.toml", DEFINITION),
        ("/etc/nova/rootwrap.conf", CONF),
        ("/etc/nova/rootwrap.d/compute.filters", "[Filters]\n"),
        ("/usr/sbin/lvs", ""),
    ] {
        fs::create_dir_all(place.layout.on_disk(path).parent().unwrap()).unwrap();
        place.write(path, text);
    }
    place
}

/// Returns the tags that `rootwrap.conf` admits, in order.
pub(crate) fn admitted(place: &Place) -> Vec<String> {
    let text = fs::read_to_string(place.layout.on_disk("/etc/nova/rootwrap.conf")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("exec_dirs=")).unwrap();
    let tag = |entry: &str| {
        let bin = Path::new(entry).strip_prefix("/var/lib/venvd/venvs/nova").ok()?;
        Some(bin.parent()?.display().to_string())
    };
    line.split(',').filter_map(tag).collect()
}

pub(crate) fn is_leaving(place: &Place, tag: &str, left: Duration) {
    let leaving = Leaving {
        venv: venv(tag),
        until: leaving::now() + left,
    };
    leaving::write(&place.layout, &place.app, &[leaving]).unwrap();
}

fn write(host: &Host, transaction: &Transaction, admit: Admit) -> Result<(), Failure> {
    host.write_policies((transaction, &transaction.parts[0]), admit)
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn both_are_admitted_and_the_order_turns() {
    let place = place();
    let host = place.driver(place.systemd()).host;
    let mut transaction = example(1);
    transaction.parts[0].to = Some(venv("2"));
    for (admit, expected) in [
        (Admit::Both, ["1", "2"].as_slice()),
        (Admit::Turned, &["2", "1"]),
        (Admit::InForce, &["1"]),
        (Admit::New, &["2"]),
        (Admit::None, &[]),
    ] {
        write(&host, &transaction, admit).unwrap();
        assert_eq!(admitted(&place), expected, "{admit:?}");
    }
    // Of an app that was off nothing ran.
    transaction.parts[0].outgoing = None;
    write(&host, &transaction, Admit::Both).unwrap();
    assert_eq!(admitted(&place), ["2"]);
}

#[test]
fn who_left_earlier_goes_on_behind_unless_it_is_revoked() {
    let place = place();
    let host = place.driver(place.systemd()).host;
    let mut transaction = example(1);
    transaction.parts[0].to = Some(venv("2"));
    for (admit, expected, goes_on) in [
        (Admit::Both, ["1", "2", "3"].as_slice(), true),
        (Admit::Turned, &["2", "1", "3"], true),
        (Admit::InForce, &["1", "3"], true),
        (Admit::New, &["2"], false),
        (Admit::None, &[], false),
        // Nothing here runs anything, so the time that is left does not matter.
        (Admit::Leaving, &["1"], false),
    ] {
        is_leaving(&place, "3", LONG);
        write(&host, &transaction, admit).unwrap();
        assert_eq!(admitted(&place), expected, "{admit:?}");
        assert_eq!(place.layout.leaving(&place.app).exists(), goes_on, "{admit:?}");
    }
}

#[test]
fn what_comes_back_into_force_is_admitted_once() {
    let place = place();
    let host = place.driver(place.systemd()).host;
    is_leaving(&place, "2", LONG);
    let mut transaction = example(1);
    transaction.parts[0].to = Some(venv("2"));
    write(&host, &transaction, Admit::Both).unwrap();
    assert_eq!(admitted(&place), ["1", "2"]);
    place.set(Link::Committed, "2");
    write(&host, &transaction, Admit::InForce).unwrap();
    assert_eq!(admitted(&place), ["2"]);
}

#[test]
fn without_rights_nobody_is_looked_for() {
    let place = Place::new();
    let host = place.driver(place.systemd()).host;
    let (app, _) = host.app(&place.app).unwrap();
    assert_eq!(
        host.leave(&app, (&example(1).parts[0], When::Now), &venv("2")).unwrap(),
        []
    );
}
