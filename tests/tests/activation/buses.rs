//! The bus restarted, and systemd itself, in the middle of an activation: it ends well or is taken back, and nothing is lost.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab, SOON};

use crate::states::{aims, catch, decided, restart_venvd_soon};

/// States in which venvd waits for systemd.
const STATES: [&str; 8] = [
    r#"{"forward":"reload"}"#,
    r#"{"forward":"restart-units"}"#,
    r#"{"forward":{"settle":"new"}}"#,
    r#"{"forward":"stop-units"}"#,
    r#"{"forward":{"run-hook":["while-stopped",0]}}"#,
    r#"{"forward":"start-units"}"#,
    r#"{"back":"start-units"}"#,
    r#"{"back":{"settle":"old"}}"#,
];

const DISTURBANCES: [&str; 2] = ["systemctl restart dbus.service", "systemctl daemon-reexec"];

fn all(os: Os) -> Result<()> {
    let lab = Lab::new(os, 2, &[GOOD[0], GOOD[1], ("exits", "exits")])?;
    restart_venvd_soon(&lab);
    for disturbance in DISTURBANCES {
        for aim in aims().iter().filter(|aim| STATES.contains(&aim.phase)) {
            let caught = catch(&lab, aim, disturbance);
            let (outcome, _) = decided(&lab, aim, &caught);
            println!("{disturbance}, {}: {outcome}", aim.phase);
            // venvd is there for the next one.
            lab.machine.wait_until(SOON, "venvd answers", |machine| {
                machine.run(&["venvctl", "--json", "status", "lab"]).success()
                    && machine.unit_property("venvd.service", "ActiveState") == "active"
            });
        }
    }
    Ok(())
}

#[test]
fn a_restart_of_the_bus_or_of_systemd_loses_nothing_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn a_restart_of_the_bus_or_of_systemd_loses_nothing_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
