//! Stands in for any program: appends how it was started, as a line of JSON, to the file that `STAND_IN_RECORD` names.

use std::{env, fs::File, io::Write};

use anyhow::{Context, Result};
use venvd_tests::corpus::start::Record;

fn main() -> Result<()> {
    let path = env::var_os("STAND_IN_RECORD").context("STAND_IN_RECORD is not set")?;
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let record = Record {
        argv: env::args_os().map(lossy).collect(),
        environment: env::vars_os()
            .map(|(name, value)| (lossy(name), lossy(value)))
            .collect(),
    };
    let mut line = serde_json::to_vec(&record)?;
    line.push(b'\n');
    File::options().create(true).append(true).open(path)?.write_all(&line)?;
    Ok(())
}
