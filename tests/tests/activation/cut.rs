//! venvd killed, and the power cut, in every state of an activation: after the next start it is in force or taken back,
//! and in between no unit has run what was not in force.

use std::time::Instant;

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab};

use crate::states::{Aim, aims, assert_only_what_was_in_force, catch, decided, restart_venvd_soon};

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
    Ok(std::env::var("VENVD_KILLS").map_or(Ok(3), |number| number.parse())?)
}

fn cut(lab: &mut Lab, aim: &Aim, cut: Cut) -> Result<()> {
    let begin = Instant::now();
    let how = if cut == Cut::Kill { "kill" } else { "stop" };
    let caught = catch(lab, aim, how);
    assert_only_what_was_in_force(&lab.log(), &caught.old);
    if cut == Cut::Power {
        lab.machine.kill()?;
        lab.machine.boot_again()?;
    }
    let (outcome, log) = decided(lab, aim, &caught);
    println!("{cut:?} {}: {outcome} after {:?}", aim.phase, begin.elapsed());
    if cut == Cut::Power {
        let now = caught.decided(&outcome);
        let other = log.iter().find(|line| line.tag != now && line.what == "start");
        assert!(other.is_none(), "{}: this ran at boot: {other:?}", aim.phase);
    }
    Ok(())
}

fn cut_off(os: Os) -> Result<()> {
    let mut lab = Lab::new(os, 2, &[GOOD[0], GOOD[1], ("exits", "exits")])?;
    restart_venvd_soon(&lab);
    for way in [Cut::Kill, Cut::Power] {
        for aim in aims().iter().cycle().take(rounds()? * aims().len()) {
            cut(&mut lab, aim, way)?;
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
