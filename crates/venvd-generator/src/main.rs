//! The generator's entry: arguments and environment in, exit status out.

use std::io::{self, Write};
use std::process::ExitCode;

use venvd_fs::chain::Owners;
use venvd_generator::{Invocation, Outcome, PREVIEW, kmsg, preview, run};

fn main() -> ExitCode {
    let uid = Owners::of_this_process().user();
    let Some(invocation) = Invocation::new(std::env::args_os().skip(1), |name| std::env::var_os(name), uid) else {
        return ExitCode::SUCCESS;
    };
    if invocation.directory.as_os_str() == PREVIEW {
        return match show(&invocation) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("venvd-generator: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Outcome { messages, failed } = run(&invocation);
    kmsg::log(invocation.layout.root(), &messages);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Says what would become of the units with the venvs in force whose records stand on stdin.
fn show(invocation: &Invocation) -> io::Result<()> {
    let records = serde_json::from_reader(io::stdin().lock())?;
    let report = serde_json::to_string_pretty(&preview(invocation, records))?;
    writeln!(io::stdout(), "{report}")
}
