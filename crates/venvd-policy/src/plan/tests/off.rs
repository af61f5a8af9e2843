//! An app must always be possible to turn off.

use super::leftovers::host_with_two;
use super::*;

#[test]
fn an_app_can_be_turned_off_whatever_became_of_its_rootwrap_conf() {
    for spoil in [
        |host: &Host| host.chmod("etc/cinder", 0o777),
        |host: &Host| host.put("etc/cinder/rootwrap.conf", "broken"),
    ] {
        let host = host();
        host.write(&["1"]);
        spoil(&host);
        let error = host.plan(&[]).unwrap().apply().unwrap_err();
        assert_eq!(
            error.code(),
            "policy-left-behind",
            "that its rootwrap.conf stays is said"
        );
        assert_eq!(host.read("etc/sudoers.d/venvd-cinder"), None);
        assert_eq!(host.read("etc/sudoers.d/venvd_path-cinder"), None);
    }
    let host = host();
    host.write(&["1"]);
    fs::remove_file(host.at("etc/cinder/rootwrap.conf")).unwrap();
    host.write(&[]);
}

#[test]
fn an_app_can_be_turned_off_whatever_was_edited() {
    let host = host();
    host.write(&["1"]);
    host.put("etc/sudoers.d/venvd-cinder", "cinder ALL=(ALL) NOPASSWD: ALL\n");
    let app = host.app("cinder");
    plan(&host.layout, &app, &[], Edited::Refuse).unwrap().apply().unwrap();
    assert_eq!(host.read("etc/sudoers.d/venvd-cinder"), None);
    assert!(host.read("etc/sudoers.d/venvd-cinder.edited").is_some());
}

#[test]
fn an_app_can_be_turned_off_whatever_became_of_sudo() {
    for spoil in [
        |host: &mut Host| host.sudo = None,
        |host: &mut Host| host.put("etc/sudoers", "Defaults secure_path=\"/usr/bin:/a b\"\n"),
    ] {
        let mut host = host_with_two();
        spoil(&mut host);
        let error = host.plan(&[]).unwrap().apply().unwrap_err();
        assert_eq!(error.code(), "policy-left-behind");
        assert_eq!(host.read("etc/sudoers.d/venvd-cinder"), None);
        assert_eq!(host.read("etc/cinder/rootwrap.conf").unwrap(), CONF);
        let path = host.read("etc/sudoers.d/venvd_path-cinder").unwrap();
        assert!(path.contains(&bin("1")), "it could not be written: {path}");
    }
}

#[test]
fn the_systems_secure_path_may_have_slashes_at_the_end() {
    let host = host();
    host.put("etc/sudoers", "Defaults secure_path=\"/usr/sbin/:/usr/bin//\"\n");
    host.write(&["1"]);
    assert_eq!(
        host.read("etc/sudoers.d/venvd_path-cinder").unwrap(),
        path_line(&[bin("1")])
    );
    host.put("etc/sudoers", "Defaults secure_path=\"/\"\n");
    assert_eq!(host.plan(&["1"]).unwrap_err().code(), "policy-invalid");
}

#[test]
fn a_link_in_place_of_a_file_is_one_that_was_edited() {
    for path in ["etc/sudoers.d/venvd-cinder", "etc/sudoers.d/venvd_path-cinder"] {
        for admitted in [&["1"][..], &[]] {
            let host = host();
            host.write(&["1"]);
            fs::rename(host.at(path), host.at("elsewhere")).unwrap();
            symlink(host.at("elsewhere"), host.at(path)).unwrap();
            let elsewhere = host.read("elsewhere");
            let plan_it = |edited| {
                let mut plan = host.plan(admitted).unwrap();
                plan.settle_edited(edited).map(|()| plan)
            };
            assert_eq!(plan_it(Edited::Refuse).unwrap_err().code(), "policy-edited");
            assert!(fs::symlink_metadata(host.at(path)).unwrap().is_symlink());
            plan_it(Edited::SetAside).unwrap().apply().unwrap();
            assert!(host.read(&format!("{path}.edited")).unwrap().contains("elsewhere"));
            assert_eq!(host.read("elsewhere"), elsewhere, "nothing is written through it");
            assert_eq!(host.read(path).is_some(), !admitted.is_empty());
            assert_eq!(host.write(admitted), Change::Unchanged);
        }
    }
}

#[test]
fn a_failure_half_way_brings_a_link_back() {
    let host = host();
    host.write(&["1"]);
    let (rules, path) = (
        host.at("etc/sudoers.d/venvd-cinder"),
        host.at("etc/sudoers.d/venvd_path-cinder"),
    );
    fs::remove_file(&rules).unwrap();
    symlink("/etc/hosts", &rules).unwrap();
    let mut plan = host.plan(&["1", "2"]).unwrap();
    host.put(
        "visudo",
        &format!("#!/bin/sh\nrm -f {0}; mkdir -p {0}\n", path.display()),
    );
    host.chmod("visudo", 0o755);
    if let Some(sudo) = &mut plan.sudo {
        sudo.visudo = host.at("visudo");
    }
    plan.apply().unwrap_err();
    assert!(path.is_dir(), "the last file could not be written");
    assert_eq!(fs::read_link(&rules).unwrap().to_str(), Some("/etc/hosts"));
}
