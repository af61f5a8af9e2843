//! Units that a program of the venv stops: it is that of the venv they run from, on the way forth and back.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab};

/// What a shell script has for a program that says when it is ready is a process of its own.
const STOP: &str = "[Service]\nExecStop=/usr/bin/lab-hook stopped\nNotifyAccess=all\n";

/// Both programs of the unit become the venv's.
const DEFINITION: &str = "health.commands = [\"lab-check\"]
[units.\"lab-1.service\"]
programs = [\"lab-serve\", \"lab-hook\"]
";

/// Activates a venv; returns the exit status, and the venvs whose programs stopped the unit, in order.
fn activate(lab: &Lab, tag: &str) -> (i32, Vec<String>) {
    lab.forget_log();
    let (status, report) = lab.venvctl(&["activate", &format!("lab:{tag}")]);
    println!("{tag}: {status} {}", report["message"]);
    let stopped = lab.log().into_iter().filter(|line| line.what == "stopped");
    (status, stopped.map(|line| line.tag).collect())
}

fn stopped_by_its_own(os: Os) -> Result<()> {
    let lab = Lab::new(
        os,
        1,
        &[GOOD[0], GOOD[1], ("exits", "exits"), ("unhealthy", "unhealthy")],
    )?;
    lab.define(DEFINITION);
    lab.change_unit(STOP);
    let by = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    assert_eq!(activate(&lab, "b"), (0, by(&["a"])));
    lab.assert_on("b");
    assert_eq!(activate(&lab, "unhealthy"), (3, by(&["b", "unhealthy"])));
    lab.assert_on("b");
    // What did not start needs no stop.
    assert_eq!(activate(&lab, "exits"), (3, by(&["b"])));
    lab.assert_on("b");
    // Between the venv and what the distribution has, which is no venv's and stops nothing here.
    lab.machine.ok(
        "printf '#!/bin/sh\\necho stopped lab-1 none - 0 - 0 >>/var/lib/lab/log\\n' >/usr/bin/lab-hook && \
             printf '#!/bin/sh\\nsystemd-notify --ready\\nexec sleep infinity\\n' >/usr/bin/lab-serve && chmod +x /usr/bin/lab-*",
    );
    for (verb, stopped) in [("disable", "b"), ("enable", "none")] {
        lab.forget_log();
        let (status, report) = lab.venvctl(&[verb, "lab"]);
        assert_eq!(status, 0, "{verb}: {report:#}");
        let by: Vec<_> = lab.log().into_iter().filter(|line| line.what == "stopped").collect();
        assert!(by.len() == 1 && by[0].tag == stopped, "{verb}: {by:?}");
    }
    lab.assert_on("b");
    // What the distribution has is no good by now.
    lab.machine.ok("printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/lab-serve");
    let (status, report) = lab.venvctl(&["disable", "lab"]);
    assert_eq!(status, 3, "{report:#}");
    lab.assert_on("b");
    Ok(())
}

#[test]
fn units_are_stopped_by_their_own_venv_on_debian_12() -> Result<()> {
    stopped_by_its_own(Os::Debian12)
}

#[test]
fn units_are_stopped_by_their_own_venv_on_debian_13() -> Result<()> {
    stopped_by_its_own(Os::Debian13)
}
