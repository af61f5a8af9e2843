//! `venvctl`: builds, lists, activates and takes back the venvs of a host.

mod args;
mod client;
mod commands;
mod failure;
mod output;
mod systemd;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let json = args.json;
    match commands::run(args) {
        Ok(code) => code,
        Err(failure) => output::failed(&failure, json),
    }
}
