//! Every step of the tour, on both releases.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::tour::{STEPS, Tour};

fn take_all(os: Os) -> Result<()> {
    let mut tour = Tour::begin(os, |line| println!("{line}"))?;
    for step in &STEPS {
        println!("{}. {}", step.letter, step.title);
        tour.take(step)?;
    }
    let untrue: Vec<_> = tour.shown().iter().filter(|shown| !shown.holds).collect();
    assert!(untrue.is_empty(), "not true: {untrue:#?}");
    assert!(tour.shown().len() >= 40, "only {} claims were made", tour.shown().len());
    Ok(())
}

#[test]
fn a_service_runs_from_a_venv_is_upgraded_and_comes_back_on_debian_12() -> Result<()> {
    take_all(Os::Debian12)
}

#[test]
fn a_service_runs_from_a_venv_is_upgraded_and_comes_back_on_debian_13() -> Result<()> {
    take_all(Os::Debian13)
}
