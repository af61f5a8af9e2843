//! venvd, the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    match venvd_activator::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // To stderr, where systemd takes it to the journal, and a person at a terminal sees it.
            eprintln!("venvd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
