//! Fills the cache beforehand, so that no test waits for a download: `cargo run -p venvd-tests --bin prepare`.

use std::{io::Write, process::ExitCode, time::Instant};

fn main() -> ExitCode {
    let begin = Instant::now();
    let mut progress = |line: &str| {
        // A closed standard error must not stop the work.
        _ = writeln!(std::io::stderr(), "[{:4.0} s] {line}", begin.elapsed().as_secs_f64());
    };
    match venvd_tests::prepare(&mut progress) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("can't prepare the machines: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
