//! What is left of apps that no definition gives rights any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use venvd_app::{App, AppName, Layout, search};

use crate::apply::lock;
use crate::plan::{Walk, plan_for, venvs_in_path};
use crate::rootwrap::edited;
use crate::sudoers::installed::Sudo;
use crate::sudoers::system::{apps_with_rules, users_with_path};
use crate::{Edit, Error};

/// What became of it.
#[derive(Debug, Default)]
pub struct Swept {
    /// Files that were removed or put back.
    pub changed: Vec<PathBuf>,
    /// Sudoers files that stay, since somebody edited them.
    pub edited: Vec<PathBuf>,
    /// Apps of which not all could be taken away, and why.
    pub failed: Vec<(AppName, Error)>,
}

/// Returns the apps that have rules, a place in a `secure_path` or in a `rootwrap.conf`, and that no definition gives any.
///
/// An app whose definition is broken counts as declared, and so do all when the definitions can't be listed. One whose
/// activation is open says itself what it needs.
///
/// # Errors
/// When a file can't be read.
pub fn leftovers(layout: &Layout) -> Result<Vec<AppName>, Error> {
    let declared = search::load(layout);
    if !declared.problems.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: BTreeSet<AppName> = apps_with_rules(layout)?.into_iter().collect();
    found.extend(edited::apps(layout)?);
    for user in users_with_path(layout)? {
        let venvs = venvs_in_path(layout, &user)?;
        found.extend(venvs.iter().map(|venv| venv.name().app().clone()));
    }
    let has_rights = |app: &App| !app.sudo.is_empty() || app.rootwrap.is_some();
    found.retain(|name| {
        let is_open = fs::symlink_metadata(layout.pending(name)).is_ok();
        !is_open && !declared.broken.contains_key(name) && !declared.apps.get(name).is_some_and(has_rights)
    });
    Ok(found.into_iter().collect())
}

/// Takes away what is left of such apps, each on its own. What somebody edited stays.
///
/// # Errors
/// When it can't be told what is left.
pub fn sweep(layout: &Layout) -> Result<Swept, Error> {
    sweep_with(layout, Sudo::installed)
}

/// As [`sweep`], with a given way to find the installed sudo.
pub(crate) fn sweep_with(layout: &Layout, installed: impl Fn(&AppName) -> Result<Sudo, Error>) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    // Mostly there is nothing, and then nothing is to be locked.
    if leftovers(layout)?.is_empty() {
        return Ok(swept);
    }
    let _lock = lock(layout)?;
    for name in leftovers(layout)? {
        let app = App::undeclared(name.clone());
        let done = plan_for((layout, &app), (&[], Walk::All), || installed(&name)).and_then(|mut plan| {
            let edited = plan.edits.extract_if(.., |edit| edit.is_over_edited());
            swept.edited.extend(edited.map(|edit| edit.path));
            let paths: Vec<PathBuf> = plan.edits().iter().map(|edit: &Edit| edit.path.clone()).collect();
            let left_behind = plan.left_behind.take();
            plan.apply_locked()?;
            swept.changed.extend(paths);
            left_behind.map_or(Ok(()), Err)
        });
        if let Err(error) = done {
            swept.failed.push((name, error));
        }
    }
    Ok(swept)
}
