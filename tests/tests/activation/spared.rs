//! What an activation leaves as it is: units that are not to be restarted, were stopped, or are masked; and what it has to
//! bring back: units that had failed, and others' units that its own took along.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab, SOON, UnitState};

/// Activates the good venv that is not in force; returns it.
fn activate(lab: &Lab) -> &'static str {
    let new = if lab.state().links["committed"].as_deref() == Some("a") {
        "b"
    } else {
        "a"
    };
    let (status, report) = lab.venvctl(&["activate", &format!("lab:{new}")]);
    assert_eq!(status, 0, "{report:#}");
    new
}

fn is_up(unit: &UnitState, tag: &str) -> bool {
    unit.active_state == "active" && unit.tag.as_deref() == Some(tag)
}

fn a_unit_that_is_not_to_be_restarted(lab: &Lab) {
    lab.define("[units.\"lab-1.service\"]\nrestart = \"none\"\n");
    let before = lab.state();
    let new = activate(lab);
    let after = lab.state();
    for (name, unit) in &after.units {
        let untouched = unit.invocation == before.units[name].invocation;
        assert_eq!(untouched, name == "lab-1.service", "{name}: {after:#?}");
    }
    // Its next start is by somebody else.
    lab.machine.ok("systemctl restart lab-1.service");
    lab.assert_on(new);
}

fn a_oneshot_that_runs(lab: &Lab) {
    lab.machine.write(
        "/etc/systemd/system/lab-once.service",
        "[Service]\nType=oneshot\nUser=lab\nExecStart=/usr/bin/lab-serve lab-once\n",
        0o644,
    );
    lab.define("[units.\"lab-once.service\"]\nprograms = [\"lab-serve\"]\n");
    lab.machine
        .ok("systemctl daemon-reload && systemctl start --no-block lab-once.service");
    lab.machine.wait_until(SOON, "the oneshot runs", |machine| {
        machine
            .run(&["grep", "-q", "start lab-once", "/var/lib/lab/log"])
            .success()
    });
    let before = lab.machine.main_pid("lab-once.service");
    let new = activate(lab);
    lab.assert_on(new);
    assert_eq!(lab.machine.main_pid("lab-once.service"), before);
    assert_eq!(
        lab.machine.unit_property("lab-once.service", "ActiveState"),
        "activating"
    );
    lab.machine.ok("systemctl stop lab-once.service");
}

fn stopped_masked_and_failed_ones(lab: &Lab) {
    lab.define("");
    lab.machine.ok(
        "systemctl stop lab-2.service lab-3.service && systemctl mask -q lab-3.service && \
                    systemctl kill -s KILL lab-4.service",
    );
    lab.machine.wait_until(SOON, "the unit has failed", |machine| {
        machine.unit_property("lab-4.service", "ActiveState") == "failed"
    });
    let new = activate(lab);
    let state = lab.state();
    for stays in ["lab-2.service", "lab-3.service"] {
        assert_eq!(state.units[stays].active_state, "inactive", "{state:#?}");
    }
    assert_eq!(lab.machine.unit_property("lab-3.service", "LoadState"), "masked");
    for up in ["lab-1.service", "lab-4.service"] {
        assert!(is_up(&state.units[up], new), "{state:#?}");
    }
    lab.machine.ok("systemctl unmask -q lab-3.service");
    lab.start();
    lab.assert_on(new);
}

/// Units of others that need one of ours come back, however ours are restarted.
fn what_a_stop_takes_along(lab: &Lab) {
    for kind in ["Requires", "BindsTo", "PartOf"] {
        lab.machine.write(
            &format!("/etc/systemd/system/outside-{kind}.service"),
            format!("[Unit]\n{kind}=lab-1.service\nAfter=lab-1.service\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\n"),
            0o644,
        );
    }
    let outside = "outside-Requires.service outside-BindsTo.service outside-PartOf.service";
    lab.machine
        .ok(&format!("systemctl daemon-reload && systemctl start {outside}"));
    for definition in ["", "[[hooks.while-stopped]]\nrun = \"lab-hook while-stopped\"\n"] {
        lab.define(definition);
        let new = activate(lab);
        lab.assert_on(new);
        let states = lab
            .machine
            .run(&["sh", "-c", &format!("systemctl is-active {outside}")])
            .stdout;
        assert_eq!(states, "active\nactive\nactive\n", "[{definition}]");
    }
    lab.machine.ok(&format!("systemctl stop {outside}"));
}

/// While the units are stopped for hooks, neither a connection nor the time starts the old venv.
fn what_could_start_them_meanwhile(lab: &Lab) {
    lab.machine.write(
        "/etc/systemd/system/lab-1.socket",
        "[Socket]\nListenStream=/run/lab-1.sock\n[Install]\nWantedBy=sockets.target\n",
        0o644,
    );
    lab.machine.write(
        "/etc/systemd/system/lab-4.timer",
        "[Timer]\nOnCalendar=*:*:*\nAccuracySec=10ms\n[Install]\nWantedBy=timers.target\n",
        0o644,
    );
    lab.machine
        .ok("systemctl daemon-reload && systemctl stop lab-1.service && \
                    systemctl start lab-1.socket lab-4.timer lab-1.service");
    lab.define("[[hooks.while-stopped]]\nrun = \"lab-hook knock\"\n[[hooks.while-stopped]]\nrun = \"lab-hook wait\"\n");
    lab.forget_log();
    let new = activate(lab);
    lab.assert_on(new);
    let log = lab.log();
    for unit in ["lab-1", "lab-4"] {
        let lines = log.iter().filter(|line| line.unit == unit);
        let did: Vec<_> = lines.map(|line| (line.what.as_str(), line.tag == new)).collect();
        assert_eq!(did, [("stop", false), ("start", true)], "{unit}: {log:#?}");
    }
    let states = lab
        .machine
        .run(&["systemctl", "is-active", "lab-1.socket", "lab-4.timer"])
        .stdout;
    assert_eq!(states, "active\nactive\n");
    lab.machine.ok("systemctl stop lab-1.socket lab-4.timer");
}

fn all(os: Os) -> Result<()> {
    let mut lab = Lab::new(os, 4, &GOOD)?;
    // Independent, so that one can be stopped without the others.
    lab.set_units(4, |_| Vec::new());
    a_unit_that_is_not_to_be_restarted(&lab);
    a_oneshot_that_runs(&lab);
    stopped_masked_and_failed_ones(&lab);
    what_could_start_them_meanwhile(&lab);
    what_a_stop_takes_along(&lab);
    Ok(())
}

#[test]
fn what_was_not_asked_for_is_left_alone_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn what_was_not_asked_for_is_left_alone_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
