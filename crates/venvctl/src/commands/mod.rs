//! The verbs.

mod build;
mod cat;
mod detach;
mod diff;
mod doctor;
mod freeze;
mod gc;
mod hold;
mod install;
mod job;
mod list;
mod log;
mod offline;
mod plan;
mod policy;
mod repair;
mod revoke;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout, UserPlaces, VenvName, search};
use venvd_core::build::Interrupt;
use venvd_core::list as venvs;
use venvd_fs::Root;

use crate::args::{Args, Command, Generated};
use crate::client::Request;
use crate::failure::Failure;
use crate::manual;
use crate::output;

#[derive(Debug, Serialize)]
struct Removed {
    venv: VenvName,
    removed: bool,
}

/// Does what was typed.
pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let layout = layout(args.root, args.user)?;
    output::spelling::speak_of(layout.scope());
    let json = args.json;
    let (request, dry_run) = match args.command {
        Command::Build {
            target,
            lock,
            upgrade,
            offline,
            find_links,
        } => {
            let asked = build::Asked {
                target,
                lock,
                upgrade,
                offline,
                find_links,
            };
            return build::run(&layout, asked, json);
        }
        Command::Install { from, name } => return install::run(&layout, &from, name, json),
        Command::Verify { targets, deep } => return verify::run(&layout, &targets, deep, json),
        Command::Repair { venv, from } => return repair::run(&layout, &venv, from.as_deref(), json),
        Command::Diff { before, after } => return diff::run(&layout, &before, &after, json),
        Command::Gc { app, keep, dry_run } => {
            let asked = gc::Asked { app, keep, dry_run };
            return gc::run(&layout, &asked, json);
        }
        Command::Hold { venv, reason } => return hold::hold(&layout, &venv, reason.as_deref(), json),
        Command::Unhold { venv } => return hold::unhold(&layout, &venv, json),
        Command::Freeze { app, reason } => return freeze::freeze(&layout, &app, reason.as_deref(), json),
        Command::Thaw { app } => return freeze::thaw(&layout, &app, json),
        Command::Revoke { venv, reason, force } => {
            let in_force = match force {
                true => revoke::InForce::Too,
                false => revoke::InForce::Refuse,
            };
            return revoke::revoke(&layout, &venv, (&reason, in_force), json);
        }
        Command::Detach { app } => return detach::detach(&layout, &app, json),
        Command::Attach { app } => {
            detach::attach(&layout, &app)?;
            return job::run(&layout, &Request::Enable(app), json);
        }
        Command::Unrevoke { venv } => return revoke::unrevoke(&layout, &venv, json),
        Command::Doctor { app } => return doctor::run(&layout, app.as_ref(), json),
        Command::List { app } => return list::run(&layout, app.as_ref(), json),
        Command::Log { app, lines } => return log::run(&layout, (app.as_ref(), lines), json),
        Command::Status { app } => return status::run(&layout, app.as_ref(), json),
        Command::Cat { targets } => return cat::run(&layout, &targets, json),
        Command::Policy { .. } if !layout.has_policies() => {
            return Err(Failure::refused(
                "no-policies",
                "a user's apps have no sudo rules and no rootwrap.conf: those are the administrator's",
            ));
        }
        Command::Policy { command } => return policy::run(&layout, &command, json),
        Command::Remove { venv } => {
            venvd_core::remove::remove(&layout, &venv)?;
            let removed = Removed { venv, removed: true };
            output::show(&removed, json, |removed| format!("{} is removed\n", removed.venv))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Generate { what, directory, date } => {
            match what {
                Generated::Man => manual::write_pages(&directory, &date)?,
                Generated::Completions => manual::write_completions(&directory)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Activate { venvs, how, dry_run } => (Request::Activate { venvs, how }, dry_run),
        Command::Rollback { app, dry_run } => (Request::Rollback(app), dry_run),
        Command::Enable { app, dry_run } => (Request::Enable(app), dry_run),
        Command::Disable { app, dry_run } => (Request::Disable(app), dry_run),
    };
    if dry_run {
        plan::run(&layout, &request, json)
    } else if layout.root().is_host() {
        job::run(&layout, &request, json)
    } else {
        offline::run(&layout, &request, json)
    }
}

/// Returns where everything lies that the command line is about.
fn layout(root: Option<PathBuf>, user: bool) -> Result<Layout, Failure> {
    if !user {
        let root = root.map_or(Ok(Root::host()), |root| existing(root).map(Root::at))?;
        return Ok(Layout::new(root));
    }
    let places = UserPlaces::of_this_process().map_err(|error| Failure::refused("no-home", error.to_string()))?;
    if !places.runtime.is_dir() {
        let runtime = places.runtime.display();
        return Err(Failure::refused(
            "no-session",
            format!("there is no {runtime}: log in, or let your manager run without (`loginctl enable-linger`)"),
        ));
    }
    Ok(Layout::user(Root::host(), &places))
}

/// What is said where there is nothing to be shown.
const NO_VENVS: &str = "no venvs\n";

/// Refuses an app that has neither a definition nor a venv: its name is mistyped.
fn require_known(layout: &Layout, app: &AppName) -> Result<(), Failure> {
    if !venvs::paths(layout, Some(app))?.is_empty() {
        return Ok(());
    }
    match search::load_app(layout, app) {
        Err(search::LoadError::Unknown { .. }) => Err(no_venv_of(app)),
        // A broken definition is one.
        _ => Ok(()),
    }
}

fn no_venv_of(app: &AppName) -> Failure {
    Failure::refused(
        "no-such-venv",
        format!("there is no venv of {app}; `venvctl list` shows those that exist"),
    )
}

/// A root that is not there would look like an empty one, and be made by what is written below it.
fn existing(root: PathBuf) -> Result<PathBuf, Failure> {
    if root.is_dir() {
        return Ok(root);
    }
    Err(Failure::refused(
        "no-root",
        format!("there is no directory {root:?}; --root needs an image or a chroot"),
    ))
}

/// Returns what Ctrl-C and an ordinary `kill` set from now on, for what ends cleanly by itself then.
fn interrupt() -> Result<Interrupt, Failure> {
    Interrupt::by_signals().map_err(|error| {
        let message = format!("cannot prepare for an interrupt: {error}");
        Failure::refused("io", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_must_be_there() {
        assert!(existing("/".into()).is_ok());
        let refused = existing("/nonexistent".into()).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.exit), ("no-root", 1));
    }
}
