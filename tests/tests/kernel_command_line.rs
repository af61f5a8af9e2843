//! `venvd.enabled=` on the kernel command line: units, sudoers and rootwrap.conf follow it at each boot, together.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::demo::{Demo, UNIT};

fn boot(demo: &mut Demo, words: &[&str]) -> Result<()> {
    demo.machine.set_kernel_words(words);
    demo.machine.reboot()?;
    let state = demo.machine.unit_property("venvd-policy-boot.service", "ActiveState");
    assert_eq!(state, "active", "the policies of {words:?}");
    let order = demo.machine.ok(
        "systemctl show -P ActiveEnterTimestampMonotonic venvd-policy-boot.service; \
         systemctl show -P ExecMainStartTimestampMonotonic demo.service",
    );
    let times: Vec<u64> = order.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(
        times.len() == 2 && times[0] < times[1],
        "the policies come first: {order}"
    );
    Ok(())
}

fn at_each_boot(os: Os) -> Result<()> {
    let mut demo = Demo::new(os)?;
    demo.machine.reboot()?;
    demo.assert_on("a");
    let untouched = demo.machine.ok("journalctl -b -o cat -u venvd-policy-boot.service");
    assert!(!untouched.contains("follow"), "there was nothing to do: {untouched}");

    boot(&mut demo, &["quiet", "venvd.enabled=0"])?;
    demo.assert_off();
    assert_eq!(demo.problems(), ["off-for-this-boot"]);
    let text = demo.machine.ok("venvctl status");
    assert!(text.contains("demo is off for this boot: a committed"), "{text}");
    assert!(text.contains("the kernel command line has venvd.enabled=0"), "{text}");
    let command = ["venv-activate", "demo", "python3", "-V"];
    let refused = demo.machine.run(&command);
    assert_eq!(refused.status, 125, "{refused}");
    assert!(refused.stderr.contains("`venvd.enabled=0`"), "{refused}");
    demo.machine.ok("venv-activate demo:a python3 -V");

    // An activation is for the next boot, and so is the app's own switch.
    let before = demo.machine.unit_property(UNIT, "InvocationID");
    let said = demo.machine.run(&["venvctl", "activate", "demo:b"]);
    assert!(said.success() && said.stderr.contains("off for this boot"), "{said}");
    assert_eq!(demo.machine.unit_property(UNIT, "InvocationID"), before);
    demo.machine.ok("systemctl daemon-reload");
    demo.assert_off();
    let status = demo.status();
    assert_eq!((&status["committed"], &status["previous"]), (&"b".into(), &"a".into()));

    boot(&mut demo, &["venvd.enabled=demo"])?;
    demo.assert_on("b");
    assert_eq!(demo.problems(), [""; 0]);

    boot(&mut demo, &["venvd.enabled=other"])?;
    demo.assert_off();
    demo.machine.ok("venvctl disable demo");
    boot(&mut demo, &[])?;
    demo.assert_off();
    demo.machine.ok("venvctl enable demo");
    demo.assert_on("b");
    Ok(())
}

fn with_the_fall_back(os: Os) -> Result<()> {
    let mut demo = Demo::new(os)?;
    demo.machine.ok("venvctl activate demo:b");
    demo.assert_on("b");

    let record = "/etc/venvd/committed/demo.json";
    demo.machine.ok(&format!(
        "cp {record} /root/record && sed -i 's|/usr/bin/python3[.0-9]*|/usr/bin/python3.99|' {record}"
    ));
    boot(&mut demo, &[])?;
    demo.assert_on("a");
    assert_eq!(demo.problems(), ["fell-back"]);

    demo.machine.ok(&format!("cp /root/record {record}"));
    boot(&mut demo, &[])?;
    demo.assert_on("b");

    demo.machine.ok(&format!(
        "rm /etc/venvd/previous/demo*; sed -i 's|/usr/bin/python3[.0-9]*|/usr/bin/python3.99|' {record}"
    ));
    boot(&mut demo, &[])?;
    demo.assert_off();
    assert_eq!(demo.problems(), ["fell-back"]);
    Ok(())
}

#[test]
fn what_the_kernel_is_told_holds_for_one_boot_on_debian_12() -> Result<()> {
    at_each_boot(Os::Debian12)
}

#[test]
fn what_the_kernel_is_told_holds_for_one_boot_on_debian_13() -> Result<()> {
    at_each_boot(Os::Debian13)
}

#[test]
fn policies_follow_the_fall_back_on_debian_12() -> Result<()> {
    with_the_fall_back(Os::Debian12)
}

#[test]
fn policies_follow_the_fall_back_on_debian_13() -> Result<()> {
    with_the_fall_back(Os::Debian13)
}
