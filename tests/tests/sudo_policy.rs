//! `venvctl policy` on a booted machine, with a real venv, a real rootwrap and the host's sudo.

use anyhow::Result;
use serde_json::Value;
use venvd_tests::demo::{Demo, ROOTWRAP, ROOTWRAP_TEXT};
use venvd_tests::{Os, Output};

const RULES: &str = "/etc/sudoers.d/venvd-demo";

fn policy(demo: &Demo, arguments: &[&str]) -> Output {
    demo.machine.run(&[&["venvctl", "policy"], arguments].concat())
}

fn json(demo: &Demo, arguments: &[&str]) -> Value {
    let output = policy(demo, &[arguments, &["--json"]].concat());
    let value: Result<Value, _> = serde_json::from_str(&output.stdout);
    value.unwrap_or_else(|error| panic!("no JSON ({error}): {output}"))
}

fn changed(demo: &Demo, arguments: &[&str]) -> bool {
    json(demo, arguments)["apps"][0]["changed"] == true
}

fn follows_the_venv_and_respects_an_edit(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    let machine = &demo.machine;
    // The activation wrote all of it.
    assert!(!changed(&demo, &["apply"]));
    let said = policy(&demo, &["diff"]);
    assert!(said.success() && said.stdout.is_empty(), "{said}");
    let shown = policy(&demo, &["show", "demo"]).stdout;
    assert!(
        shown.contains("demo:a in force") && shown.contains("venvd-demo is as it should be"),
        "{shown}"
    );
    let found = policy(&demo, &["check"]);
    assert!(
        found.success() && found.stdout.contains("privsep-helper"),
        "a warning alone is no error: {found}"
    );

    // The last rule that matches counts, and this one asks for a password.
    for (line, reason) in [
        ("demo ALL=(ALL) ALL", "NOPASSWD"),
        ("Defaults:demo requiretty", "requiretty"),
    ] {
        machine.write("/etc/sudoers.d/zz", format!("{line}\n"), 0o440);
        assert_ne!(demo.sudo(), 0);
        let found = policy(&demo, &["check"]);
        assert!(found.status == 1 && found.stdout.contains(reason), "{found}");
    }
    machine.ok("rm /etc/sudoers.d/zz");

    // What somebody took away comes back.
    machine.ok(&format!(
        "rm {RULES} && sed -i 's|^exec_dirs=.*|exec_dirs=/usr/bin|' {ROOTWRAP}"
    ));
    assert_ne!(demo.sudo(), 0);
    assert_eq!(policy(&demo, &["check"]).status, 1);
    let diff = policy(&demo, &["diff"]).stdout;
    assert!(
        diff.contains("+demo ALL=(root)") && !diff.contains('\u{1b}'),
        "no colour but on a terminal: {diff}"
    );
    let said = policy(&demo, &["apply"]);
    assert!(said.success() && said.stdout.starts_with("demo: changed"), "{said}");
    assert!(policy(&demo, &["apply"]).stdout.starts_with("demo: unchanged"));
    assert_eq!(demo.sudo(), 0);
    machine.write(ROOTWRAP, ROOTWRAP_TEXT, 0o644);
    assert!(changed(&demo, &["apply", "demo"]));

    // An edit stays, stops an activation before anything is changed, and is kept when it goes.
    let mine = "# mine\ndemo ALL=(root) NOPASSWD: /usr/bin/true \"\"\n";
    machine.write(RULES, mine, 0o440);
    let refused = json(&demo, &["apply"]);
    assert_eq!(refused["refused"][0]["code"], "policy-edited");
    let activation = machine.run(&["venvctl", "activate", "--json", "demo:b"]);
    assert!(
        activation.status == 1 && activation.stdout.contains("policy-edited"),
        "{activation}"
    );
    assert_eq!(
        (machine.read(RULES).as_str(), &demo.status()["committed"]),
        (mine, &"a".into())
    );
    assert!(changed(&demo, &["apply", "--force"]));
    assert_eq!(
        (machine.read(&format!("{RULES}.edited")).as_str(), demo.sudo()),
        (mine, 0)
    );
    machine.ok("venvctl activate demo:b");
    demo.assert_on("b");

    // It never keeps an app from being turned off.
    machine.write(RULES, mine, 0o440);
    machine.ok("venvctl disable demo");
    assert_eq!(machine.read(&format!("{RULES}.edited")), mine);
    machine.ok(&format!("rm {RULES}.edited"));
    demo.assert_off();
    Ok(())
}

fn adopts_what_the_service_user_can_write(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    let machine = &demo.machine;
    machine.ok("chgrp -R demo /etc/demo && chmod -R g+w /etc/demo");
    let activation = machine.run(&["venvctl", "activate", "--json", "demo:b"]);
    assert!(
        activation.status == 1 && activation.stdout.contains("policy-unsafe-path"),
        "{activation}"
    );
    assert!(policy(&demo, &["adopt", "demo"]).success());
    let said = policy(&demo, &["apply"]);
    assert!(said.success(), "{said}");
    let copy = "/etc/venvd/rootwrap/demo/rootwrap.conf";
    let call = |conf: &str| machine.user_run("demo", &["sudo", "-n", "oslo-rootwrap", conf, "id", "-u"]);
    assert_eq!(call(copy).stdout, "0\n");
    assert_ne!(call(ROOTWRAP).status, 0, "the old one is not believed any more");
    machine.ok("venvctl activate demo:b");
    assert_eq!(call(copy).stdout, "0\n");
    Ok(())
}

#[test]
fn debian_12_follows_the_venv_and_respects_an_edit() -> Result<()> {
    follows_the_venv_and_respects_an_edit(Os::Debian12)
}

#[test]
fn debian_13_follows_the_venv_and_respects_an_edit() -> Result<()> {
    follows_the_venv_and_respects_an_edit(Os::Debian13)
}

#[test]
fn debian_12_adopts_what_the_service_user_can_write() -> Result<()> {
    adopts_what_the_service_user_can_write(Os::Debian12)
}
