//! Definitions, links, and holds.

use std::collections::BTreeSet;

use venvd_app::links::{self, Link, LinkError, VenvPath};
use venvd_app::record::RecordError;
use venvd_app::search::Declared;
use venvd_app::{AppName, Layout, Record, VenvName};
use venvd_fs::report;

use super::{Diagnosis, is_there, names};
use crate::brake;

/// Where links lie, and how people call them.
const LINKS: [(Link, &str, &str); 3] = [
    (Link::Active, "active", "asked for"),
    (Link::Committed, "committed", "in force"),
    (Link::Previous, "previous", "the way back"),
];

/// Returns the apps that have a link.
pub(super) fn linked(layout: &Layout, diagnosis: &mut Diagnosis) -> Vec<AppName> {
    let mut apps = Vec::new();
    for (_, directory, _) in LINKS {
        let found = names(layout, &layout.links(directory), diagnosis);
        // Records and accepted definitions lie there too; their names have a dot, which no app's has.
        apps.extend(found.iter().filter_map(|name| name.parse().ok()));
    }
    apps
}

/// Looks at an app's definition and links; returns the venvs that its links lead to.
pub(super) fn examine(
    layout: &Layout,
    declared: &Declared,
    app: &AppName,
    diagnosis: &mut Diagnosis,
) -> BTreeSet<VenvPath> {
    if let Some(error) = declared.broken.get(app) {
        let advice = "correct the file: activations are refused, and until then the definition that was accepted last is \
                      in force";
        diagnosis.wrong(app, "definition", (report(error), advice.to_owned()));
    }
    let mut linked = BTreeSet::new();
    let mut committed = None;
    for (link, directory, role) in LINKS {
        match links::read(layout, link, app) {
            Ok(None) => {}
            Ok(Some(venv)) => {
                if !is_there(&layout.on_disk(venv.path())) {
                    dangling(app, &venv, (directory, role), diagnosis);
                }
                revoked(layout, &venv, (link, role), diagnosis);
                if link == Link::Committed {
                    committed = Some(venv.clone());
                }
                linked.insert(venv);
            }
            Err(error) => broken_link(app, &error, diagnosis),
        }
    }
    match committed {
        Some(venv) => record(layout, &venv, diagnosis),
        None if declared.apps.get(app).is_some_and(|app| app.enabled) => {
            let message = "is on, but no venv is in force: its units run what the distribution installed".to_owned();
            let advice = format!("`venvctl build {app}`, then `venvctl activate {app}:TAG`");
            diagnosis.note(app, "no-venv", (message, advice));
        }
        None => {}
    }
    linked
}

fn dangling(app: &AppName, venv: &VenvPath, (directory, role): (&str, &str), diagnosis: &mut Diagnosis) {
    let message = format!(
        "the {directory} link leads to {:?}, which is not there: no venv is {role}",
        venv.path()
    );
    let advice = format!(
        "is its file system mounted? Else `venvctl build {}` makes it again from its kept lock, or activate another one \
         (`venvctl list {app}`)",
        venv.name()
    );
    diagnosis.wrong(app, "dangling-link", (message, advice));
}

/// Says that a link leads to a venv that must not run.
fn revoked(layout: &Layout, venv: &VenvPath, (link, role): (Link, &str), diagnosis: &mut Diagnosis) {
    let note = match brake::revoked(layout, venv.name()) {
        Ok(None) => return,
        Ok(Some(note)) => note.to_string(),
        Err(error) => format!(", and its file can't be read: {}", report(&error)),
    };
    let (app, message) = (venv.name().app(), format!("is {role}, and revoked{note}"));
    let advice =
        format!("`venvctl activate {app}:TAG` puts another one in force (`venvctl list {app}` shows the tags)");
    match link {
        Link::Committed => diagnosis.wrong(venv.name(), "revoked", (message, advice)),
        Link::Previous => diagnosis.note(venv.name(), "revoked", (message, advice)),
        // What is asked for and revoked is refused, and not asked for any more.
        Link::Active => {}
    }
}

fn broken_link(app: &AppName, error: &LinkError, diagnosis: &mut Diagnosis) {
    match error {
        LinkError::Foreign { .. } => {
            let advice = format!("`venvctl activate {app}:TAG` sets it; `venvctl list {app}` shows the tags");
            diagnosis.wrong(app, "foreign-link", (report(error), advice));
        }
        LinkError::Io(error) => diagnosis.unreadable(app, error),
    }
}

/// Looks at the file beside the committed link, by which the generator knows interpreter and programs.
fn record(layout: &Layout, venv: &VenvPath, diagnosis: &mut Diagnosis) {
    let problem = match Record::load(layout, Link::Committed, venv) {
        Ok(_) => return,
        Err(RecordError::Io(error)) => return diagnosis.unreadable(venv.name().app(), &error),
        Err(error) => error,
    };
    let message = format!("{problem}; units are made by it at boot");
    let advice = format!("`venvctl activate {}` writes it again", venv.name());
    diagnosis.wrong(venv.name().app(), "record", (message, advice));
}

/// Looks for held venvs that do not exist.
pub(super) fn held(layout: &Layout, only: Option<&AppName>, diagnosis: &mut Diagnosis) {
    for app in names(layout, &layout.held_venvs(), diagnosis) {
        if only.is_some_and(|only| only.as_str() != app) {
            continue;
        }
        for tag in names(layout, &layout.held_venvs().join(&app), diagnosis) {
            let Ok(venv) = format!("{app}:{tag}").parse::<VenvName>() else {
                continue;
            };
            if VenvPath::find(layout, &venv).is_none() {
                let advice = format!("`venvctl unhold {venv}`, or build it again");
                diagnosis.note(&venv, "held", ("is held, but does not exist".to_owned(), advice));
            }
        }
    }
}
