//! The verbs.

mod build;
mod job;
mod list;
mod offline;
mod status;

use std::process::ExitCode;

use venvd_app::Layout;
use venvd_fs::Root;

use crate::args::{Args, Command};
use crate::client::Request;
use crate::failure::Failure;
use crate::output;

/// Does what was typed.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let layout = Layout::new(args.root.map_or_else(Root::host, Root::at));
    let json = args.json;
    let request = match args.command {
        Command::Build { target, lock } => return build::run(&layout, target, lock, json),
        Command::List { app } => return list::run(&layout, app.as_ref(), json),
        Command::Status { app } => return status::run(&layout, app.as_ref(), json),
        Command::Remove { venv } => {
            venvd_core::remove::remove(&layout, &venv)?;
            output::show(&venv, json, |venv| format!("{venv} is removed\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Activate { venv } => Request::Activate(venv),
        Command::Rollback { app } => Request::Rollback(app),
        Command::Enable { app } => Request::Enable(app),
        Command::Disable { app } => Request::Disable(app),
    };
    if layout.root().is_host() {
        job::run(&request, json)
    } else {
        offline::run(&layout, &request, json)
    }
}
