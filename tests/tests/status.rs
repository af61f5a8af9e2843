//! `venvctl status` and `venvctl cat` on a host with a systemd: what stands in front of venvd's drop-in is told by file
//! and line, and what is advised helps.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::demo::{Demo, UNIT};

const NOTHING: [&str; 0] = [];

fn told(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    sound(&demo);
    files_as_systemctl(&demo);
    later_drop_in(&demo);
    taken_into_account(&demo);
    same_name(&demo);
    changed_definition(&demo);
    moved_link(&demo);
    failed(&demo);
    without_a_bus(&demo);
    Ok(())
}

/// Also for somebody who may not look into the service's process.
fn sound(demo: &Demo) {
    assert_eq!(demo.problems(), NOTHING);
    let said = demo.machine.user_run("nobody", &["venvctl", "status"]);
    assert!(said.success() && !said.stdout.contains('!'), "{said}");
    assert!(!said.stdout.contains('\u{1b}'), "no colours in a pipe: {said}");
}

/// The same files, in the same order.
fn files_as_systemctl(demo: &Demo) {
    let headers = |command: &str| {
        let text = demo
            .machine
            .ok(&format!("{command} | sed -n 's/^# \\(\\/[^ ]*\\).*/\\1/p'"));
        // Debian 12's systemd is built for hosts where /lib is no link.
        text.replace("/usr/lib/", "/lib/")
    };
    let (ours, theirs) = (headers("venvctl cat demo"), headers(&format!("systemctl cat {UNIT}")));
    assert_eq!(ours, theirs);
    assert!(
        ours.ends_with("/run/systemd/generator/demo.service.d/zz-venvd.conf"),
        "{ours}"
    );
}

fn later_drop_in(demo: &Demo) {
    let path = "/etc/systemd/system/demo.service.d/zzz.conf";
    let text = "[Service]\nExecStart=\nExecStart=/usr/bin/python3 -c \"import time; time.sleep(1e6)\"\n";
    demo.machine.write(path, text, 0o644);
    assert_eq!(demo.problems(), ["shadowed", "reload-due"]);
    demo.machine
        .ok(&format!("systemctl daemon-reload && systemctl restart {UNIT}"));
    assert_eq!(demo.problems(), ["shadowed"]);
    let status = demo.status();
    let shadow = &status["units"][0]["files"]["shadowed_by"][0];
    assert_eq!(
        (&shadow["path"], &shadow["line"]),
        (&path.into(), &2.into()),
        "{status:#}"
    );
    let text = demo.machine.ok("venvctl status demo");
    assert!(
        text.contains(&format!("! {UNIT}")) && text.contains("zzz.conf:2 empties ExecStart="),
        "{text}"
    );
    let text = demo.machine.ok(&format!("venvctl cat {UNIT}"));
    assert!(
        text.contains(&format!("#^ no effect: {path}:2 empties ExecStart=")),
        "{text}"
    );
    demo.follow_advice("shadowed");
    demo.assert_on("a");
    assert_eq!(demo.problems(), NOTHING);
}

/// The drop-in of before, which applies before ours now.
fn taken_into_account(demo: &Demo) {
    let status = demo.status();
    let files = &status["units"][0]["files"];
    assert_eq!(
        files["taken_into_account"][0], "/etc/systemd/system/demo.service.d/50-zzz.conf",
        "{status:#}"
    );
    let exec = demo.machine.unit_property(UNIT, "ExecStart");
    assert!(exec.contains("/demo/a/bin/python3") && exec.contains("1e6"), "{exec}");
}

fn same_name(demo: &Demo) {
    demo.machine.ok(&format!(
        "ln -s /dev/null /etc/systemd/system/{UNIT}.d/zz-venvd.conf && systemctl daemon-reload && systemctl restart {UNIT}"
    ));
    assert_eq!(demo.problems(), ["switched-off"]);
    assert_eq!(demo.status()["units"][0]["files"]["tag"], serde_json::Value::Null);
    demo.follow_advice("switched-off");
    demo.assert_on("a");
}

fn changed_definition(demo: &Demo) {
    demo.machine.ok("sleep 0.1; touch /etc/venvd/apps/demo.toml");
    assert_eq!(demo.problems(), ["reload-due"]);
    demo.follow_advice("reload-due");
    assert_eq!(demo.problems(), NOTHING);
}

/// By hand, past every check, and while venvd looks away: else it may see one link moved and not yet the other.
fn moved_link(demo: &Demo) {
    demo.machine.ok("systemctl stop venvd.path venvd.service");
    for link in ["committed", "active"] {
        demo.machine
            .ok(&format!("ln -sfn /var/lib/venvd/venvs/demo/b /etc/venvd/{link}/demo"));
    }
    assert_eq!(demo.problems(), ["stale-files"]);
    demo.follow_advice("stale-files");
    let status = demo.status();
    assert_eq!(
        (&status["units"][0]["tag"], &status["in_force"]),
        (&"b".into(), &"b".into())
    );
    demo.machine
        .ok("systemctl start venvd.service venvd.path && venvctl activate demo:a");
    demo.assert_on("a");
}

fn failed(demo: &Demo) {
    demo.machine.ok(&format!("systemctl kill -s KILL {UNIT}"));
    demo.machine
        .wait_until(std::time::Duration::from_secs(10), "it has failed", |machine| {
            machine.unit_property(UNIT, "ActiveState") == "failed"
        });
    assert_eq!(demo.problems(), ["failed"]);
    demo.machine.ok(&format!("systemctl start {UNIT}"));
}

fn without_a_bus(demo: &Demo) {
    demo.machine.ok("systemctl stop dbus.socket dbus.service");
    let text = demo.machine.ok("venvctl status demo");
    assert!(text.contains("cannot reach the system bus"), "{text}");
    assert!(text.contains("NEXT START") && text.contains(UNIT), "{text}");
    demo.machine.ok("systemctl start dbus.socket");
    let image = demo.machine.ok("venvctl --root /proc/1/root status demo");
    assert!(image.contains("demo is on: a in force"), "{image}");
}

#[test]
fn what_stands_in_front_is_told_on_debian_12() -> Result<()> {
    told(Os::Debian12)
}

#[test]
fn what_stands_in_front_is_told_on_debian_13() -> Result<()> {
    told(Os::Debian13)
}
