//! Files that an administrator edited, and what refusals say of the definition.

use super::*;

#[test]
fn an_edited_file_stays_until_force() {
    let edit = |host: &Host, path: &str| {
        let text = host.read(path).unwrap();
        host.put(path, &text.replace("NOSETENV", "SETENV").replace(SYSTEM, "/opt/mine"));
        host.read(path).unwrap()
    };
    for path in ["etc/sudoers.d/venvd-cinder", "etc/sudoers.d/venvd_path-cinder"] {
        let host = host();
        host.write(&["1"]);
        fs::set_permissions(host.at(path), fs::Permissions::from_mode(0o640)).unwrap();
        let edited = edit(&host, path);
        for admitted in [&["1"][..], &["1", "2"]] {
            let error = host.plan(admitted).unwrap().settle_edited(Edited::Refuse).unwrap_err();
            assert_eq!(error.code(), "policy-edited");
            assert!(
                error.to_string().contains(path) && error.to_string().contains("--force"),
                "{error}"
            );
        }
        assert_eq!(host.read(path).as_ref(), Some(&edited), "it is not touched");

        let mut plan = host.plan(&["1"]).unwrap();
        plan.settle_edited(Edited::SetAside).unwrap();
        assert!(matches!(plan.warnings().last(), Some(Warning::Edited { .. })));
        plan.apply().unwrap();
        assert_eq!(
            host.read(&format!("{path}.edited")),
            Some(edited),
            "what it said is kept"
        );
        let mut plan = host.plan(&["1"]).unwrap();
        plan.settle_edited(Edited::Refuse).unwrap();
        assert_eq!(plan.apply().unwrap(), Change::Unchanged);

        // A foreign file of our name is no other case.
        host.put(path, "cinder ALL=(ALL) ALL\n");
        assert!(host.plan(&["1"]).unwrap().settle_edited(Edited::Refuse).is_err());
    }
}

#[test]
fn a_refusal_names_the_place_in_the_definition() {
    let host = host();
    fs::remove_file(host.at("var/lib/venvd/venvs/cinder/1/bin/cinder-rootwrap-daemon")).unwrap();
    let report = host.refusal("policy-missing-program");
    // `enabled` and `user` come first.
    assert!(
        report.contains("/etc/venvd/apps/cinder.toml:7 (sudo.commands[1])"),
        "{report}"
    );
    host.put(
        "etc/venvd/apps/cinder.toml.d/50-sudo.toml",
        "[sudo]\ncommands = [\n  'cinder-manage /etc/x.conf',\n]\n",
    );
    let report = host.refusal("policy-missing-program");
    assert!(
        report.contains("/etc/venvd/apps/cinder.toml.d/50-sudo.toml:3 (sudo.commands[0])"),
        "{report}"
    );
}

#[test]
fn a_definition_outside_of_the_allowlist_names_file_line_and_place() {
    for bad in [
        "x",
        "x *",
        "x /a/../b",
        "x  /a",
        "x /a,ALL",
        "/bin/sh /x",
        "x #1",
        "x a=b",
        "x /a\\n* ALL",
        "privsep-helper --config-file /a *",
    ] {
        let host = host();
        host.put(
            "etc/venvd/apps/cinder.toml",
            &format!("user = \"cinder\"\n[sudo]\ncommands = [\"{bad}\"]\n"),
        );
        let error = search::load_app(&host.layout, &"cinder".parse().unwrap()).unwrap_err();
        let report = venvd_fs::report(&error);
        assert!(report.contains("cinder.toml:3:"), "{bad:?}: {report}");
    }
}

#[test]
fn privsep_helper_is_a_rule_only_as_unsafe_and_with_a_warning() {
    let mut host = host();
    host.define("cinder", "cinder", &format!("[sudo]\nunsafe = [\n  {PRIVSEP:?},\n]"));
    let plan = host.plan(&["1"]).unwrap();
    let rule = format!("cinder ALL=(root) NOPASSWD: NOSETENV: {}/{PRIVSEP}", bin("1"));
    assert_eq!(plan.rules(), [rule]);
    assert!(plan.secure_path().is_some(), "it is called by its bare name");
    let [warning] = plan.warnings() else {
        panic!("{:?}", plan.warnings())
    };
    let text = warning.to_string();
    assert!(
        text.contains("cinder.toml:5 (sudo.unsafe[0])") && text.contains("whoever is cinder is root"),
        "{text}"
    );
    host.sudo = Some(sudo(Family::Rust, [0, 2, 5]));
    let report = host.refusal("policy-unsupported");
    assert!(report.contains("cinder.toml:5 (sudo.unsafe[0])"), "{report}");
    host.sudo = Some(sudo(Family::Rust, [0, 2, 13]));
    host.plan(&["1"]).unwrap();
}

#[test]
fn the_warning_of_a_star_says_what_it_admits() {
    let host = host();
    let plan = host.plan(&["1"]).unwrap();
    let text = plan.warnings()[0].to_string();
    assert!(
        text.contains("cinder.toml:7 (sudo.commands[0])") && text.contains("privsep-helper"),
        "{text}"
    );
}
