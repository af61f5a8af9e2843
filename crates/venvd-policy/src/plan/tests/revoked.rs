use super::*;

#[test]
fn a_revoked_venv_has_no_rights_whoever_admits_it() {
    let host = host();
    let original = host.state();
    let revoke = |tag: &str| host.put(&format!("etc/venvd/revoked/cinder/{tag}"), "");
    host.write(&["1", "2"]);
    revoke("1");
    for admitted in [&["1", "2"][..], &["2", "1"]] {
        host.write(admitted);
        assert_eq!(host.read("etc/sudoers.d/venvd-cinder").unwrap(), rules(&["2"]));
        assert_eq!(
            host.read("etc/sudoers.d/venvd_path-cinder").unwrap(),
            path_line(&[bin("2")])
        );
    }
    revoke("2");
    host.write(&["1", "2"]);
    assert_eq!(host.state(), original, "as of an app that is off");
}

#[test]
fn nothing_is_written_for_a_detached_app() {
    let host = host();
    host.write(&["1"]);
    let before = host.state();
    let recorded = host.read("etc/venvd/rootwrap/cinder.edited");
    host.put("etc/venvd/detached/cinder", "");
    for admitted in [&["1", "2"][..], &["2"], &[]] {
        assert_eq!(host.write(admitted), Change::Unchanged);
        assert_eq!(host.state(), before);
        assert_eq!(host.read("etc/venvd/rootwrap/cinder.edited"), recorded);
    }
    fs::remove_file(host.at("etc/venvd/detached/cinder")).unwrap();
    assert_eq!(host.write(&["1"]), Change::Unchanged, "it goes on where it was");
    assert_eq!(host.write(&[]), Change::Changed);
}
