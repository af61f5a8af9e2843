//! `make demo`: takes the tour and shows a table of what held.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::tour::{STEPS, Shown, Tour};

fn main() -> Result<ExitCode> {
    let os: Os = std::env::var("DEMO_OS").map_or(Ok(Os::Debian12), |os| os.parse())?;
    let begin = Instant::now();
    println!("venvd on {os}, in a machine with its own systemd");
    let mut tour = Tour::begin(os, |line| println!("   {line}"))?;
    let mut broke = None;
    for step in &STEPS {
        println!("\n{}. {}", step.letter, step.title);
        // A command that fails panics, and has shown its output by then.
        let taken = catch_unwind(AssertUnwindSafe(|| tour.take(step)));
        if let Ok(Err(error)) = &taken {
            println!("{error:#}");
        }
        if !matches!(taken, Ok(Ok(()))) {
            broke = Some(step.letter);
            break;
        }
    }
    println!("\n{}", table(tour.shown()));
    let failed = tour.shown().iter().filter(|shown| !shown.holds).count();
    let held = tour.shown().len() - failed;
    println!("{held} shown, {failed} not true, in {} s", begin.elapsed().as_secs());
    if let Some(letter) = broke {
        println!("step {letter} could not be finished; the reason stands above");
    }
    Ok(if failed == 0 && broke.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn table(shown: &[Shown]) -> String {
    let width = shown.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    let rows = shown.iter().map(|row| {
        let holds = if row.holds { "yes" } else { "NO " };
        format!("{}  {:<width$}  {holds}\n", row.step, row.what)
    });
    rows.collect()
}
