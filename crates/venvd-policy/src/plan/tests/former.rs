//! A `rootwrap.conf` that the definition names no more.

use super::*;

const OLD: &str = "etc/cinder/rootwrap.conf";
const NEW: &str = "etc/venvd/rootwrap/cinder/rootwrap.conf";
const RECORD: &str = "etc/venvd/rootwrap/cinder.edited";

/// The definition of [`host`], with another configuration; without [rootwrap] for none.
fn name(host: &Host, config: &str) {
    let rootwrap = match config {
        "" => String::new(),
        config => format!("[rootwrap]\nconfig = \"/{config}\"\n"),
    };
    host.define("cinder", "cinder", &rootwrap);
}

/// A host where the first venv is in the old file, and another one is there.
fn moved() -> Host {
    let host = host();
    host.put(NEW, CONF);
    host.write(&["1"]);
    assert!(host.read(OLD).unwrap().contains(&bin("1")));
    assert!(host.read(RECORD).unwrap().ends_with("\n/etc/cinder/rootwrap.conf\n"));
    host
}

#[test]
fn is_put_back_once_another_one_is_named_or_none() {
    for (config, admitted) in [(NEW, &["2"][..]), (NEW, &[]), ("", &["1"]), ("", &[])] {
        let host = moved();
        name(&host, config);
        assert_eq!(host.write(admitted), Change::Changed);
        assert_eq!(host.read(OLD).unwrap(), CONF, "{config} {admitted:?}");
        let record = host.read(RECORD);
        if config == NEW && !admitted.is_empty() {
            assert!(host.read(NEW).unwrap().contains(&bin("2")));
            let record = record.unwrap();
            assert!(record.contains(NEW) && !record.contains(OLD), "{record}");
        } else {
            assert_eq!(record, None, "{config} {admitted:?}");
        }
        assert_eq!(host.write(admitted), Change::Unchanged);
    }
}

#[test]
fn that_others_can_write_is_reported_until_it_can_be_put_back() {
    let host = moved();
    host.chmod(OLD, 0o666);
    name(&host, NEW);
    for change in [Change::Changed, Change::Unchanged] {
        let plan = host.plan(&["1"]).unwrap();
        let text = plan.warnings().last().unwrap().to_string();
        assert!(text.contains(OLD) && text.contains("policy apply cinder"), "{text}");
        assert_eq!(plan.apply().unwrap(), change);
    }
    assert!(host.read(NEW).unwrap().contains(&bin("1")));
    let error = host.plan(&[]).unwrap().apply().unwrap_err();
    assert_eq!(error.code(), "policy-left-behind");
    assert_eq!(host.read(NEW).unwrap(), CONF, "all else is done");
    host.chmod(OLD, 0o644);
    host.write(&[]);
    assert_eq!((host.read(OLD).unwrap().as_str(), host.read(RECORD)), (CONF, None));
}

#[test]
fn may_be_gone_or_have_become_a_link_to_the_new_one() {
    for is_link in [false, true] {
        let host = moved();
        fs::remove_file(host.at(OLD)).unwrap();
        if is_link {
            symlink(format!("/{NEW}"), host.at(OLD)).unwrap();
        }
        name(&host, NEW);
        host.write(&["1"]);
        assert!(host.read(NEW).unwrap().contains(&bin("1")));
        assert!(!host.read(RECORD).unwrap().contains(OLD));
        assert_eq!(host.write(&["1"]), Change::Unchanged);
    }
}

#[test]
fn is_known_before_it_is_edited() {
    let host = host();
    let before = host.state();
    // The record can't be written, so nothing is.
    let plan = host.plan(&["1"]).unwrap();
    host.put("etc/venvd/rootwrap", "");
    plan.apply().unwrap_err();
    assert_eq!(host.state(), before);
    fs::remove_file(host.at("etc/venvd/rootwrap")).unwrap();
    // Killed between the record and the edit.
    host.put(RECORD, "# x\n/etc/cinder/rootwrap.conf\n");
    name(&host, "");
    host.write(&["1"]);
    assert_eq!((host.state(), host.read(RECORD)), (before, None));
}
