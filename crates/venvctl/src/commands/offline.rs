//! The same verbs below another root: an image, a chroot. Nothing runs there, so the files are all there is to change.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::links::{self, Link, VenvPath};
use venvd_app::{App, AppName, Layout, ProgramName, exposed, search};
use venvd_bus::Code;
use venvd_core::{brake, preflight};
use venvd_fs::atomic;

use crate::client::Request;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct State {
    app: AppName,
    enabled: bool,
    in_force: Option<String>,
}

/// Changes links or switch below the root.
pub(super) fn run(layout: &Layout, request: &Request, json: bool) -> Result<ExitCode, Failure> {
    let name = match request {
        Request::Activate { venvs, .. } => match venvs.as_slice() {
            [venv] => venv.app(),
            // They are to change together so that services do not meet, and here there are none.
            _ => {
                return Err(Failure::refused(
                    "one-at-a-time",
                    "below a root, name one venv at a time",
                ));
            }
        },
        Request::Rollback(app) | Request::Enable(app) | Request::Disable(app) => app,
    };
    let app = search::load_app(layout, name)?;
    if !matches!(request, Request::Disable(_)) && app.hooks.all().next().is_some() {
        output::say(&format!(
            "venvctl: the hooks of {name} do not run below a root: nothing runs there that they could be about"
        ));
    }
    match request {
        // Nobody runs there whose rights could end, or who could be restarted.
        Request::Activate { venvs, .. } => {
            for venv in venvs {
                put_in_force(layout, &app, &venvd_core::list::find(layout, venv)?)?;
            }
        }
        Request::Rollback(_) => {
            let previous = links::read(layout, Link::Previous, name)?.ok_or_else(|| {
                Failure::refused(
                    "no-previous",
                    format!("{name} has no previous venv; name one: venvctl activate {name}:TAG"),
                )
            })?;
            put_in_force(layout, &app, &previous)?;
        }
        Request::Enable(_) => {
            exposed::check(layout, &app)?;
            switch(layout, name, true)?;
        }
        Request::Disable(_) => switch(layout, name, false)?,
    }
    for problem in exposed::follow(layout) {
        output::say(&format!("note: {}", venvd_fs::report(&problem)));
    }
    let app = search::load_app(layout, name)?;
    let in_force = links::read(layout, Link::Committed, name)?.map(|venv| venv.name().to_string());
    let result = State {
        app: app.name,
        enabled: app.enabled,
        in_force,
    };
    output::show(&result, json, |result| {
        let switch = if result.enabled { "on" } else { "off" };
        format!(
            "{} is {switch}, with {} in force\n",
            result.app,
            result.in_force.as_deref().unwrap_or("no venv")
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Below a root a flip moves both links: there is no daemon to answer the one by the other.
fn put_in_force(layout: &Layout, app: &App, venv: &VenvPath) -> Result<(), Failure> {
    let needed: Vec<ProgramName> = app.needed_programs().into_iter().collect();
    let manifest = preflight::check(layout, venv, &needed)?;
    if let Some(note) = brake::revoked(layout, venv.name())? {
        let message = brake::revoked_text(venv.name(), &note);
        return Err(Failure::refused(Code::REVOKED, message));
    }
    if let Some(note) = brake::frozen(layout, &app.name)? {
        let name = &app.name;
        let message = format!("{name} is frozen{note}; `venvctl thaw {name}` lets it be activated again");
        return Err(Failure::refused(Code::FROZEN, message));
    }
    if app.enabled {
        exposed::check(layout, app)?;
    }
    let before = links::read(layout, Link::Committed, &app.name)?;
    venvd_core::committed_record(&manifest)?.write(&Link::Committed.record(layout, &app.name))?;
    search::accept(layout, &app.name)?;
    links::set(layout, Link::Committed, &app.name, Some(venv))?;
    links::set(layout, Link::Active, &app.name, Some(venv))?;
    if let Some(before) = before.filter(|before| before != venv) {
        let path = Link::Previous.record(layout, &app.name);
        match venvd_core::Manifest::load(&layout.on_disk(before.path())) {
            Ok(manifest) => venvd_core::committed_record(&manifest)?.write(&path)?,
            // It was removed since: then there is no fall-back to it either.
            Err(_) => drop(atomic::remove(&path)?),
        }
        links::set(layout, Link::Previous, &app.name, Some(&before))?;
    }
    Ok(())
}

fn switch(layout: &Layout, app: &AppName, on: bool) -> Result<(), Failure> {
    atomic::write(&layout.enabled_fragment(app), search::switch_text(on).as_bytes(), 0o644)?;
    Ok(search::accept(layout, app)?)
}
