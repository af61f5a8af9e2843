//! Twelve units that need each other, restarted many times; and more flips than anybody could follow.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab, Line, SOON};

/// How often all units are restarted.
const TIMES: usize = 50;

const UNITS: usize = 12;

/// Which units a unit needs: three chains, of which the third begins where the first two end.
fn needs(unit: usize) -> Vec<usize> {
    match unit {
        1 | 5 => Vec::new(),
        9 => vec![4, 8],
        _ => vec![unit - 1],
    }
}

/// Panics unless each unit did this once, from this venv; returns who did, in order.
fn each_once<'a>(log: &'a [Line], what: &str, tag: &str) -> Vec<&'a str> {
    let lines: Vec<_> = log.iter().filter(|line| line.what == what).collect();
    let wrong: Vec<_> = lines.iter().filter(|line| line.tag != tag).collect();
    assert!(wrong.is_empty(), "not from {tag}: {wrong:?}");
    let order: Vec<_> = lines.iter().map(|line| line.unit.as_str()).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((order.len(), sorted.len()), (UNITS, UNITS), "{what}: {order:?}");
    order
}

fn assert_in_order(log: &[Line], old: &str, new: &str) {
    let (stops, starts) = (each_once(log, "stop", old), each_once(log, "start", new));
    let at = |order: &[&str], unit: usize| order.iter().position(|name| *name == format!("lab-{unit}"));
    for unit in 1..=UNITS {
        for needed in needs(unit) {
            assert!(
                at(&stops, unit) < at(&stops, needed),
                "{unit} needs {needed}, stopped: {stops:?}"
            );
            assert!(
                at(&starts, needed) < at(&starts, unit),
                "{unit} needs {needed}, started: {starts:?}"
            );
        }
    }
}

fn all_restart_in_order(lab: &Lab) {
    lab.define("health.settle = \"50ms\"\n");
    lab.forget_log();
    for time in 0..TIMES {
        let (old, new) = if time % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let (status, report) = lab.venvctl(&["activate", &format!("lab:{new}")]);
        assert_eq!(status, 0, "{time}: {report:#}");
        assert_in_order(&lab.log(), old, new);
    }
    lab.assert_on("a");
}

/// The first flip begins an activation, which takes longer than all of them; the next one finds the last flip.
fn many_flips(lab: &Lab) {
    lab.define("health.settle = \"4s\"\n");
    let before = lab.state().last;
    lab.machine.ok("cd /etc/venvd/active; for flip in $(seq 499); do \
         ln -sfn /var/lib/venvd/venvs/lab/b lab; ln -sfn /var/lib/venvd/venvs/lab/a lab; done; \
         ln -sfn /var/lib/venvd/venvs/lab/b lab; ln -sfn /var/lib/venvd/venvs/lab/c lab");
    lab.machine
        .wait_until(2 * SOON, "the last flip is what runs", |_| lab.state().is_on("c"));
    let activations = lab.state().last - before;
    assert!((1..=3).contains(&activations), "{activations} activations");
    let causes = lab.machine.journalctl(&[
        "-b",
        "-o",
        "cat",
        "VENVD_CAUSE=link",
        "VENVD_APP=lab",
        "--output-fields=VENVD_JOB",
    ]);
    assert!(causes.lines().count() >= activations as usize, "{causes}");
}

/// A flip right behind another one, at any moment of what that began, is not lost.
fn the_newest_wins(lab: &Lab) {
    lab.define("health.settle = \"1ms\"\n");
    for pause in (0..20).map(|step| step * 3) {
        let (first, second) = if lab.state().is_on("c") { ("a", "b") } else { ("a", "c") };
        lab.machine.ok(&format!(
            "cd /etc/venvd/active; ln -sfn /var/lib/venvd/venvs/lab/{first} lab; sleep {}; \
             ln -sfn /var/lib/venvd/venvs/lab/{second} lab",
            Duration::from_millis(pause).as_secs_f64()
        ));
        lab.machine
            .wait_until(SOON, &format!("{second}, {pause} ms behind {first}, runs"), |_| {
                lab.state().is_on(second)
            });
    }
}

fn twelve_units(os: Os) -> Result<()> {
    let mut lab = Lab::new(os, UNITS, &[GOOD[0], GOOD[1], ("c", "good")])?;
    lab.set_units(UNITS, needs);
    all_restart_in_order(&lab);
    many_flips(&lab);
    the_newest_wins(&lab);
    Ok(())
}

#[test]
fn twelve_units_restart_in_order_on_debian_12() -> Result<()> {
    twelve_units(Os::Debian12)
}

#[test]
fn twelve_units_restart_in_order_on_debian_13() -> Result<()> {
    twelve_units(Os::Debian13)
}
