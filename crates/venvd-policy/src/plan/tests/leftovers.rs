//! What no definition asks for any more.

use super::*;
use crate::sweep::{Swept, leftovers, sweep_with};

const RULES: &str = "etc/sudoers.d/venvd-cinder";
const PATH: &str = "etc/sudoers.d/venvd_path-cinder";
const COMMANDS: &str = "[sudo]\ncommands = [\"cinder-manage /etc/cinder/cinder.conf\"]";

fn sweep(host: &Host) -> Swept {
    sweep_with(&host.layout, |_| Ok(host.sudo.clone().unwrap())).unwrap()
}

fn left(host: &Host) -> Vec<String> {
    leftovers(&host.layout)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A host where cinder 1 is in force by its rules, and `backup` of the same user is, too.
pub(super) fn host_with_two() -> Host {
    let host = host();
    host.program("var/lib/venvd/venvs/cinder/1/bin/cinder-manage");
    host.program("var/lib/venvd/venvs/backup/7/bin/backup-manage");
    host.define(
        "backup",
        "cinder",
        "[sudo]\ncommands = [\"backup-manage /etc/backup.conf\"]",
    );
    let backup = "backup".parse().unwrap();
    links::set(&host.layout, Link::Committed, &backup, Some(&venv("backup", "7"))).unwrap();
    host.write(&["1"]);
    assert!(host.read(PATH).unwrap().contains(&bin("1")));
    host
}

#[test]
fn of_a_former_user_goes_with_the_next_write() {
    for (alone, definition) in [(true, COMMANDS), (true, ""), (false, COMMANDS)] {
        let host = host_with_two();
        if alone {
            fs::remove_file(host.at("etc/venvd/apps/backup.toml")).unwrap();
        }
        host.define("cinder", "cinder2", definition);
        assert_eq!(host.write(&["1"]), Change::Changed);
        match host.read(PATH) {
            None => assert!(alone),
            Some(text) => assert!(
                !alone && text.contains("/backup/7/bin") && !text.contains("/cinder/1/bin"),
                "{text}"
            ),
        }
        assert_eq!(
            host.read("etc/sudoers.d/venvd_path-cinder2").is_some(),
            !definition.is_empty()
        );
        assert_eq!(host.read(RULES).is_some(), !definition.is_empty());
        assert_eq!(host.write(&["1"]), Change::Unchanged);
    }
}

#[test]
fn of_a_deleted_definition_is_swept() {
    for without in ["no definition", "no [sudo]"] {
        let host = host_with_two();
        assert!(left(&host).is_empty() && sweep(&host).changed.is_empty());
        match without {
            "no definition" => fs::remove_file(host.at("etc/venvd/apps/cinder.toml")).unwrap(),
            _ => host.define("cinder", "cinder", ""),
        }
        assert_eq!(left(&host), ["cinder"]);
        let swept = sweep(&host);
        assert_eq!(swept.changed.len(), 3, "{swept:?}");
        assert!(swept.edited.is_empty() && swept.failed.is_empty(), "{swept:?}");
        assert_eq!(host.read(RULES), None);
        let path = host.read(PATH).expect("backup needs it");
        assert!(path.contains("/backup/7/bin") && !path.contains(&bin("1")), "{path}");
        assert_eq!(host.read("etc/cinder/rootwrap.conf").unwrap(), CONF);
        assert!(left(&host).is_empty() && sweep(&host).changed.is_empty());
        // The last one of the user, of whom only that is left.
        fs::remove_file(host.at("etc/venvd/apps/backup.toml")).unwrap();
        assert_eq!(left(&host), ["backup"]);
        sweep(&host);
        assert_eq!(host.read(PATH), None);
    }
}

#[test]
fn that_was_edited_stays_and_is_named() {
    let host = host_with_two();
    fs::remove_file(host.at("etc/venvd/apps/cinder.toml")).unwrap();
    host.put(RULES, "# mine\n");
    let swept = sweep(&host);
    assert_eq!(swept.edited, [host.at(RULES)]);
    assert_eq!(host.read(RULES).unwrap(), "# mine\n");
    assert_eq!(host.read("etc/cinder/rootwrap.conf").unwrap(), CONF);
}

#[test]
fn of_an_app_that_may_be_declared_stays() {
    for spoil in [
        |host: &Host| host.put("etc/venvd/apps/cinder.toml", "nonsense = 1\n"),
        |host: &Host| host.put("etc/venvd/pending/cinder", ""),
        |host: &Host| host.put("etc/venvd/venvd.toml", "nonsense = 1\n"),
    ] {
        let host = host_with_two();
        fs::remove_file(host.at("etc/venvd/apps/cinder.toml")).unwrap();
        spoil(&host);
        let before = host.state();
        assert!(left(&host).is_empty());
        sweep(&host);
        assert_eq!(host.state(), before);
    }
}

#[test]
fn one_that_fails_keeps_none_of_the_others() {
    let host = host_with_two();
    host.plan_of("backup", &["7"]).unwrap().apply().unwrap();
    for app in ["cinder", "backup"] {
        fs::remove_file(host.at(&format!("etc/venvd/apps/{app}.toml"))).unwrap();
    }
    host.put("etc/cinder/rootwrap.conf", "broken");
    let swept = sweep(&host);
    assert!(
        matches!(&swept.failed[..], [(app, Error::Config { .. })] if app.as_str() == "cinder"),
        "{swept:?}"
    );
    for path in [RULES, PATH, "etc/sudoers.d/venvd-backup"] {
        assert_eq!(host.read(path), None, "{path}");
    }
}
