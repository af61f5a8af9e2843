//! The generator's entry: arguments and environment in, exit status out.

use std::process::ExitCode;

use venvd_fs::chain::Owners;
use venvd_generator::{Invocation, Outcome, kmsg, run};

fn main() -> ExitCode {
    let uid = Owners::of_this_process().user();
    let Some(invocation) = Invocation::new(std::env::args_os().skip(1), |name| std::env::var_os(name), uid) else {
        return ExitCode::SUCCESS;
    };
    let Outcome { messages, failed } = run(&invocation);
    kmsg::log(invocation.layout.root(), &messages);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
