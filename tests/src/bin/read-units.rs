//! Reads units and prints that as JSON: `read-units ROOT <names` as the generator would, below a root;
//! `read-units --bus <names` asks the systemd that runs for what services run.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};
use venvd_tests::corpus::{bus, reading};

fn main() -> Result<()> {
    let from = std::env::args_os()
        .nth(1)
        .context("usage: read-units ROOT|--bus <names")?;
    let names = std::io::read_to_string(std::io::stdin())?;
    let names = names.lines();
    let json = if from == "--bus" {
        serde_json::to_string(&bus::services(names)?)?
    } else {
        serde_json::to_string(&reading::ours(Path::new(&from), names))?
    };
    writeln!(std::io::stdout(), "{json}")?;
    Ok(())
}
