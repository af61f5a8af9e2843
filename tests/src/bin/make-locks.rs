//! Makes the committed locks anew: `cargo run -p venvd-tests --bin make-locks [DIRECTORY]`.
//!
//! The directory has the upper constraints of each release, as `upper-constraints-<release>.txt`; without it, the one
//! beside the source tree where developers keep them.

use std::{env, io::Write, path::PathBuf, process::ExitCode};

/// Beside the source tree. Not needed to build or to test: the locks are committed.
const CONSTRAINTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

fn main() -> ExitCode {
    let constraints = env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(CONSTRAINTS), PathBuf::from);
    let mut progress = |line: &str| {
        // A closed standard error must not stop the work.
        _ = writeln!(std::io::stderr(), "{line}");
    };
    match venvd_tests::locks::make(&constraints, &mut progress) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("can't make the locks: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
