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
