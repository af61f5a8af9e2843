//! What venvd finds that did not run: flips, requests, and what a venvd that was killed left open. And its watch, when
//! others take away the directory that flips are in.

use anyhow::Result;
use serde_json::Value;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab, SOON};

use crate::states::{Aim, assert_only_what_was_in_force, catch, outcome};

/// The records of a begin, and of the ends that there may be here (docs/daemon.md).
const BEGUN: &str = "95ac18225d5342c6b34dad8acc0f3da6";
const DONE: &str = "1a3a6c88024d467493a538c3eadbd659";
const ROLLED_BACK: &str = "60c19f90952e4b239c95a9ed1b2d213f";

/// Returns a good venv that is none of these.
fn other(than: &[&str]) -> &'static str {
    let others = ["a", "b", "c"].into_iter().find(|tag| !than.contains(tag));
    others.unwrap_or_else(|| panic!("there is no venv but {than:?}"))
}

fn in_force(lab: &Lab) -> String {
    let committed = lab.state().links["committed"].clone();
    committed.unwrap_or_else(|| panic!("nothing is in force"))
}

/// Stops these, and proves that nothing brought them back.
fn stop(lab: &Lab, units: &[&str]) {
    lab.machine.ok(&format!("systemctl stop {}", units.join(" ")));
    for unit in units {
        assert_eq!(lab.machine.unit_property(unit, "ActiveState"), "inactive", "{unit}");
    }
}

fn assert_venvd_runs(lab: &Lab) {
    assert_eq!(lab.machine.unit_property("venvd.service", "ActiveState"), "active");
}

/// Panics unless the last activation put this venv in force, and was asked for by this.
fn assert_followed(lab: &Lab, tag: &str, cause: &str) {
    lab.wait_idle();
    lab.assert_on(tag);
    let [job, tag] = [format!("VENVD_JOB={}", lab.state().last), format!("VENVD_TAG={tag}")];
    let cause = format!("VENVD_CAUSE={cause}");
    let said = lab
        .machine
        .journalctl(&["-b", "-o", "cat", "VENVD_RESULT=done", &job, &tag, &cause]);
    assert!(said.contains("is in force"), "{job} {cause}: {said:?}");
}

fn a_flip_starts_it(lab: &Lab) {
    stop(lab, &["venvd.service"]);
    assert_eq!(lab.machine.unit_property("venvd.path", "ActiveState"), "active");
    let new = other(&[&in_force(lab)]);
    lab.flip(new);
    assert_followed(lab, new, "boot");
    assert_venvd_runs(lab);
}

fn a_call_starts_it(lab: &Lab) {
    let new = other(&[&in_force(lab)]);
    let list = "busctl call org.venvd1 /org/venvd1 org.venvd1.Manager ListApps";
    for (call, answer) in [
        (list, "\"lab\""),
        (&format!("venvctl --json activate lab:{new}"), "\"done\""),
    ] {
        stop(lab, &["venvd.path", "venvd.service"]);
        let said = lab.machine.ok(call);
        assert!(said.contains(answer), "{call}: {said}");
        assert_venvd_runs(lab);
    }
    assert_followed(lab, new, "dbus");
    lab.machine.ok("systemctl start venvd.path");
}

/// It is a request all the same; until it is answered, also over a boot, the units run what is in force.
fn a_flip_that_nobody_saw(lab: &mut Lab, start: impl FnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    stop(lab, &["venvd.path", "venvd.service"]);
    let old = in_force(lab);
    let new = other(&[&old]);
    lab.forget_log();
    lab.flip(new);
    start(lab)?;
    assert_followed(lab, new, "boot");
    let log = lab.log();
    assert_only_what_was_in_force(&log, &old);
    let starts = log.iter().filter(|line| line.what == "start" && line.tag == new);
    assert_eq!(starts.count(), lab.units().len(), "{log:#?}");
    Ok(())
}

/// States to be killed in: before and behind the commit, and on the way back.
const KILLED_IN: [(&str, Option<&str>); 3] = [
    (r#"{"forward":"mark-pending"}"#, None),
    (r#"{"forward":{"settle":"new"}}"#, None),
    (r#"{"back":"start-units"}"#, Some("exits")),
];

/// The request that starts the next venvd waits until what the dead one left open has its own end.
fn a_request_beside_an_open_activation(lab: &Lab) {
    let settings = "/etc/systemd/system/venvd.service.d/50-test.conf";
    lab.machine.write(settings, "[Service]\nRestart=no\n", 0o644);
    lab.machine.ok("systemctl daemon-reload");
    stop(lab, &["venvd.path"]);
    for (phase, venv) in KILLED_IN {
        let definition = "";
        let aim = Aim {
            phase,
            definition,
            venv,
            revokes: false,
        };
        let first = catch(lab, &aim, "kill");
        lab.machine.wait_until(SOON, "venvd is dead", |machine| {
            machine.unit_property("venvd.service", "ActiveState") == "failed"
        });
        assert_eq!(lab.state().open, [first.number], "{phase}");
        let new = other(&[&first.old, &first.new]);
        let (status, report) = lab.venvctl(&["activate", &format!("lab:{new}")]);
        let second = first.number + 1;
        assert_eq!((status, &report["id"]), (0, &second.into()), "{phase}: {report:#}");
        let end = outcome(&lab.machine, first.number);
        println!("{phase}: {end}");
        let end = match end.as_str() {
            "done" => DONE,
            "rolled-back" => ROLLED_BACK,
            _ => panic!("{phase}: {end}"),
        };
        assert_followed(lab, new, "dbus");
        assert_eq!(lab.state().last, second, "{phase}");
        let order = [
            (BEGUN, first.number),
            (end, first.number),
            (BEGUN, second),
            (DONE, second),
        ];
        let order = order.map(|(what, number)| (what.to_owned(), number.to_string()));
        assert_eq!(begins_and_ends(lab, [first.number, second]), order, "{phase}");
    }
    lab.machine.ok(&format!(
        "rm {settings} && systemctl daemon-reload && systemctl start venvd.path"
    ));
}

/// Returns what the journal has of the begins and ends of these, in its order.
fn begins_and_ends(lab: &Lab, numbers: [u32; 2]) -> Vec<(String, String)> {
    // Of one field any of the values, of different ones each: journalctl(1).
    let mut options = vec!["-b".to_owned(), "--output=json".to_owned()];
    options.extend([BEGUN, DONE, ROLLED_BACK].map(|what| format!("MESSAGE_ID={what}")));
    options.extend(numbers.map(|number| format!("VENVD_JOB={number}")));
    let said = lab
        .machine
        .journalctl(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        (field("MESSAGE_ID"), field("VENVD_JOB"))
    };
    said.lines().map(record).collect()
}

/// What others do to the directory that venvd watches; afterwards it is there. Last, what was watched goes on to be, elsewhere.
const TAKEN_AWAY: [&str; 5] = [
    "rm -r /etc/venvd/active && mkdir -p /etc/venvd/active",
    "mv /etc/venvd/active /etc/venvd/away && mkdir -p /etc/venvd/active && rm -r /etc/venvd/away",
    "mount -t tmpfs tmpfs /etc/venvd/active && ln -s nowhere /etc/venvd/active/lab && umount /etc/venvd/active",
    "mv /etc/venvd /etc/away && mv -T /etc/away /etc/venvd",
    "cp -a /etc/venvd /etc/anew && mv /etc/venvd /etc/away && mv -T /etc/anew /etc/venvd",
];

fn its_directory_is_taken_away(lab: &Lab) {
    let venvd = lab.machine.main_pid("venvd.service");
    for way in TAKEN_AWAY {
        println!("{way}");
        lab.machine.ok(way);
        let new = other(&[&in_force(lab)]);
        lab.flip(new);
        assert_followed(lab, new, "link");
    }
    assert_eq!(
        lab.machine.main_pid("venvd.service"),
        venvd,
        "it was the same all the time"
    );
}

/// A file system that is there when venvd starts is what it watches, until that is unmounted; then what was below counts.
fn its_directory_is_unmounted(lab: &Lab) {
    let below = in_force(lab);
    let [inside, after] = [other(&[&below]), other(&[&below, other(&[&below])])];
    lab.machine
        .ok("mount -t tmpfs tmpfs /etc/venvd/active && systemctl restart venvd.service");
    // Ready is said before the first look.
    lab.machine.wait_until(SOON, "venvd has looked", |machine| {
        machine.unit_property("venvd.service", "StatusText") == "waiting for flips and requests"
    });
    lab.flip(inside);
    assert_followed(lab, inside, "link");
    lab.machine.ok("umount /etc/venvd/active");
    assert_followed(lab, &below, "link");
    lab.flip(after);
    assert_followed(lab, after, "link");
}

fn all(os: Os) -> Result<()> {
    let mut lab = Lab::new(os, 2, &[GOOD[0], GOOD[1], ("c", "good"), ("exits", "exits")])?;
    a_flip_starts_it(&lab);
    a_call_starts_it(&lab);
    a_flip_that_nobody_saw(&mut lab, |lab| {
        lab.machine.ok("systemctl start venvd.path venvd.service");
        Ok(())
    })?;
    a_flip_that_nobody_saw(&mut lab, |lab| lab.machine.reboot())?;
    a_request_beside_an_open_activation(&lab);
    its_directory_is_taken_away(&lab);
    its_directory_is_unmounted(&lab);
    Ok(())
}

#[test]
fn what_happens_while_venvd_sleeps_is_found_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn what_happens_while_venvd_sleeps_is_found_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
