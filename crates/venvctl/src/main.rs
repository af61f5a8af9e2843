//! `venvctl`: builds, lists, activates and takes back the venvs of a host.

mod args;
mod client;
mod commands;
mod failure;
mod manual;
mod output;
mod systemd;
mod units;

use std::process::ExitCode;

use clap::FromArgMatches;

fn main() -> ExitCode {
    let args = args::Args::from_arg_matches(&manual::command().get_matches()).unwrap_or_else(|error| error.exit());
    let json = args.json;
    match commands::run(args) {
        Ok(code) => code,
        Err(failure) => output::failed(&failure, json),
    }
}
