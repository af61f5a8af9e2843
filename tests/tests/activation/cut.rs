//! venvd killed, and the power cut, in every state of an activation: after the next start it is in force or taken back,
//! and in between no unit has run what was not in force.

use std::time::Instant;

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab};

use crate::states::{Aim, Caught, aims, assert_only_what_was_in_force, catch, outcome};

/// How an activation is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// venvd is killed.
    Kill,
    /// The machine is.
    Power,
}

/// How often each state is cut in, in each way.
fn rounds() -> Result<usize> {
    Ok(std::env::var("VENVD_KILLS")
        .unwrap_or_else(|_| "3".to_owned())
        .parse()?)
}

fn cut(lab: &mut Lab, aim: &Aim, cut: Cut) -> Result<()> {
    let begin = Instant::now();
    let how = if cut == Cut::Kill { "kill" } else { "stop" };
    let Caught { number, old, new, .. } = catch(lab, aim, how);
    assert_only_what_was_in_force(&lab.log(), &old);
    if cut == Cut::Power {
        lab.machine.kill()?;
        lab.machine.boot_again()?;
    }
    lab.wait_idle();
    let outcome = outcome(&lab.machine, number);
    println!("{cut:?} {}: {outcome} after {:?}", aim.phase, begin.elapsed());
    let now = match outcome.as_str() {
        "done" => &new,
        "rolled-back" | "refused" => &old,
        other => panic!("{cut:?} {}: {other}", aim.phase),
    };
    lab.assert_on(now);
    assert_eq!(lab.state().last, number, "nothing was begun that nobody asked for");
    let log = lab.log();
    assert_only_what_was_in_force(&log, &old);
    if cut == Cut::Power {
        let other = log.iter().find(|line| line.tag != *now && line.what == "start");
        assert!(other.is_none(), "{}: this ran at boot: {other:?}", aim.phase);
    }
    let rules = lab.machine.read("/etc/sudoers.d/venvd-lab");
    let admitted: Vec<_> = rules.lines().filter(|line| line.contains("/bin/lab-hook")).collect();
    assert!(
        admitted.len() == 1 && admitted[0].contains(&format!("/lab/{now}/bin/lab-hook")),
        "{}: {rules}",
        aim.phase
    );
    Ok(())
}

fn cut_off(os: Os) -> Result<()> {
    let mut lab = Lab::new(os, 2, &[GOOD[0], GOOD[1], ("exits", "exits")])?;
    // A second for each would be most of the time that this takes.
    lab.machine.write(
        "/etc/systemd/system/venvd.service.d/50-test.conf",
        "[Service]\nRestartSec=50ms\n",
        0o644,
    );
    lab.machine.ok("systemctl daemon-reload");
    for _ in 0..rounds()? {
        for aim in &aims() {
            for way in [Cut::Kill, Cut::Power] {
                cut(&mut lab, aim, way)?;
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_is_cut_off_is_decided_on_debian_12() -> Result<()> {
    cut_off(Os::Debian12)
}

#[test]
fn whatever_is_cut_off_is_decided_on_debian_13() -> Result<()> {
    cut_off(Os::Debian13)
}
