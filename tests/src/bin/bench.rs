//! Takes the figures: `make bench [ONLY=core]`.
//!
//! `bench --venvctl PROGRAM --generator PROGRAM [--only GROUP,GROUP] [--output FILE] [--samples N]`. The exit status says
//! whether the figures could be taken, not whether all hold: that is in the table and in the file. `bench race` is for the
//! machine that a group runs it in.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use venvd_tests::bench::activate::race;
use venvd_tests::bench::{self, Options};

fn main() -> ExitCode {
    let begin = Instant::now();
    let mut say = |line: &str| {
        // A closed standard error must not stop the work.
        _ = writeln!(std::io::stderr(), "[{:4.0} s] {line}", begin.elapsed().as_secs_f64());
    };
    match run(&mut say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("no figures: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(say: bench::Say<'_>) -> Result<()> {
    if env::args().nth(1).as_deref() == Some(race::WORD) {
        return race::run();
    }
    let mut options = Options {
        only: Vec::new(),
        venvctl: env::current_exe()?.with_file_name("venvctl"),
        generator: env::current_exe()?.with_file_name("venvd-generator"),
        samples: 5,
    };
    let mut output = None;
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--venvctl" => options.venvctl = PathBuf::from(value).canonicalize().context("no venvctl")?,
            "--generator" => options.generator = PathBuf::from(value).canonicalize().context("no generator")?,
            "--samples" => options.samples = value.parse().context("--samples needs a number")?,
            "--output" => output = Some(PathBuf::from(value)),
            _ => bail!("unknown option {word}"),
        }
    }
    let rows = bench::run(&options, say)?;
    if let Some(path) = output {
        bench::write(&rows, &path)?;
    }
    std::io::stdout().write_all(bench::table(&rows).as_bytes())?;
    Ok(())
}
