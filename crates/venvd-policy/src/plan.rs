use std::path::PathBuf;

use venvd_app::detached::is_detached;
use venvd_app::links::VenvPath;
use venvd_app::revoked::is_revoked;
use venvd_app::search::{self, Declared};
use venvd_app::{App, AppName, Layout, UserName};

use crate::place::Place;
use crate::rootwrap::check::Checker;
use crate::rootwrap::edited::EditedConfs;
use crate::sudoers::installed::Sudo;
use crate::sudoers::model::{self, Rule, SecurePath};
use crate::sudoers::system::DIRECTORY;
use crate::{Error, Refused, Warning};

mod edit;
mod rootwrap;
mod rules;
mod secure_path;
mod shared;

pub use edit::{Edit, Edited, Kind};
pub(crate) use edit::{SUDOERS_MODE, present};
pub(crate) use secure_path::venvs_in_path;

/// What is to be written, with all refusals behind it. Nothing has been changed yet.
#[derive(Debug)]
pub struct Plan {
    pub(crate) layout: Layout,
    pub(crate) app: AppName,
    pub(crate) user: Option<UserName>,
    pub(crate) edits: Vec<Edit>,
    /// Where the files lie, also those that are as they should be.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) warnings: Vec<Warning>,
    /// What must hold by sudo's own word afterwards.
    pub(crate) rules: Vec<Rule>,
    pub(crate) secure_path: Option<SecurePath>,
    pub(crate) sudo: Option<Sudo>,
    /// When an app is turned off: why one of its other files stays. All else is done before it is reported.
    pub(crate) left_behind: Option<Error>,
    /// What is written down of the `rootwrap.conf` files.
    pub(crate) confs: EditedConfs,
}

impl Plan {
    /// Returns the plan for an app whose files are none of ours for now.
    fn untouched(layout: &Layout, app: &App) -> Result<Self, Error> {
        let mut confs = EditedConfs::read(layout, &app.name)?;
        confs.after.clone_from(&confs.before);
        Ok(Self {
            layout: layout.clone(),
            app: app.name.clone(),
            user: app.user.clone(),
            edits: Vec::new(),
            directories: Vec::new(),
            warnings: Vec::new(),
            rules: Vec::new(),
            secure_path: None,
            sudo: None,
            left_behind: None,
            confs,
        })
    }

    /// Returns the files to write or remove, in order; none when all is so already.
    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Returns what the administrator should know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns which sudo was found, where one was needed: `sudo 1.9.13`.
    #[must_use]
    pub fn sudo(&self) -> Option<String> {
        self.sudo.as_ref().map(ToString::to_string)
    }

    /// Returns the rules that are to hold, one a line.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }

    /// Returns the user's `secure_path` that is to hold.
    #[must_use]
    pub fn secure_path(&self) -> Option<String> {
        self.secure_path.as_ref().map(ToString::to_string)
    }

    /// Refuses what would overwrite an administrator's edit, or says what becomes of it.
    fn settle_edited(&mut self, edited: Edited) -> Result<(), Error> {
        for edit in self.edits.iter().filter(|edit| edit.is_over_edited()) {
            if edited == Edited::Refuse {
                return Err(Error::Edited {
                    app: self.app.clone(),
                    path: edit.path.clone(),
                });
            }
            self.warnings.push(Warning::Edited {
                path: edit.path.clone(),
                aside: edit.aside(),
            });
        }
        Ok(())
    }
}

/// Decides what the policy of `app` must be when exactly the venvs `admitted` may be used, the first one in front.
///
/// None admitted means that the app is off. It only reads; whether the app is `enabled` is the caller's business. As a
/// preflight, it is asked for the new venv alone: a program may be missing in one of two venvs, not in all.
///
/// Of those that are admitted, revoked ones are not. For an app that is detached nothing is to be written.
///
/// Other apps of the same user share its `secure_path`: those count that are on, with the venv that is in force.
///
/// With none admitted, edited files are set aside whatever is asked for: an app must always be possible to turn off.
///
/// # Errors
/// All that speaks against it; see [`Error`].
pub fn plan(layout: &Layout, app: &App, admitted: &[VenvPath], edited: Edited) -> Result<Plan, Error> {
    plan_walking((layout, app), (admitted, Walk::All), edited)
}

/// As [`plan`], with a choice of what is looked through.
pub(crate) fn plan_walking(
    (layout, app): (&Layout, &App),
    (admitted, walk): (&[VenvPath], Walk),
    edited: Edited,
) -> Result<Plan, Error> {
    let mut plan = plan_for((layout, app), (admitted, walk), || Sudo::installed(&app.name))?;
    let is_off = admitted.iter().all(|venv| is_revoked(layout, venv.name()));
    plan.settle_edited(if is_off { Edited::SetAside } else { edited })?;
    Ok(plan)
}

/// Of which venvs all files are looked at: who could change one is root with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Of all that are admitted.
    All,
    /// Of those that have no rights yet. A venv may have ten thousands of files, and is admitted four times while one
    /// takes the place of another. The programs that rules name, and the ways to them, are looked at in any case.
    New,
}

/// As [`plan_walking`], with a given way to find the installed sudo. It is only asked for where a sudoers file is written: a
/// broken or missing sudo must not keep an app from being turned off.
pub(crate) fn plan_for(
    (layout, app): (&Layout, &App),
    (admitted, walk): (&[VenvPath], Walk),
    installed: impl Fn() -> Result<Sudo, Error>,
) -> Result<Plan, Error> {
    if is_detached(layout, &app.name) {
        return Plan::untouched(layout, app);
    }
    // A revoked venv has no rights, whoever would admit it.
    let admitted: Vec<VenvPath> = admitted
        .iter()
        .filter(|venv| !is_revoked(layout, venv.name()))
        .cloned()
        .collect();
    let admitted = admitted.as_slice();
    let planner = Planner {
        layout,
        app,
        admitted,
        checker: Checker { layout, app },
        declared: search::load(layout),
    };
    planner.check_names()?;
    if walk == Walk::All {
        planner.walk(|_| true)?;
    }
    if !admitted.is_empty() {
        planner.check_shared()?;
        planner.check_secure_path()?;
    }
    let mut warnings = Vec::new();
    let mut sudo = None;
    let mut rules = Vec::new();
    if !admitted.is_empty() && !app.sudo.is_empty() {
        rules = planner.rules(sudo.insert(installed()?), &mut warnings)?;
    }
    let mut left = LeftBehind {
        is_off: admitted.is_empty(),
        first: None,
    };
    let mut edits = vec![planner.rules_edit(&rules)?];
    let (secure_path, path_edits) = planner.path_edits(&mut warnings, &mut left)?;
    edits.extend(path_edits);
    let mut directories = vec![layout.on_disk(DIRECTORY)];
    let mut confs = EditedConfs::read(layout, &app.name)?;
    let current = left.allow(planner.rootwrap_edit())?.flatten();
    let (former, stuck) = planner.former_confs(current.as_ref(), &mut confs);
    for (path, reason) in stuck {
        let app = app.name.clone();
        match left.allow::<()>(Err(reason)) {
            Ok(_) => {}
            Err(reason) => warnings.push(Warning::LeftBehind { app, path, reason }),
        }
    }
    for conf in current.into_iter().chain(former) {
        directories.extend(conf.path.parent().map(|directory| layout.on_disk(directory)));
        edits.push(conf.edit);
    }
    let mut edits: Vec<Edit> = edits.into_iter().flatten().collect();
    if walk == Walk::New {
        planner.walk(|venv| edits.iter().any(|edit| edit.brings(venv)))?;
    }
    edits.sort_by_key(|edit| edit.kind);
    if edits.iter().all(Edit::adds_no_rule) {
        edits.reverse();
    }
    let writes = |edit: &Edit| edit.kind != Kind::Rootwrap && edit.after.is_some();
    if sudo.is_none() && edits.iter().any(writes) {
        sudo = left.allow(installed())?;
        edits.retain(|edit| sudo.is_some() || !writes(edit));
    }
    Ok(Plan {
        layout: layout.clone(),
        app: app.name.clone(),
        user: app.user.clone(),
        edits,
        directories,
        warnings,
        rules,
        secure_path,
        sudo,
        left_behind: left.first,
        confs,
    })
}

/// An app must always be possible to turn off: what can't be put right then is said after all else is done.
struct LeftBehind {
    is_off: bool,
    first: Option<Error>,
}

impl LeftBehind {
    fn allow<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Err(error) if self.is_off => {
                self.first.get_or_insert(error);
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}

struct Planner<'a> {
    layout: &'a Layout,
    app: &'a App,
    admitted: &'a [VenvPath],
    checker: Checker<'a>,
    declared: Declared,
}

impl Planner<'_> {
    fn refused(&self, source: Refused) -> Error {
        self.refused_at(Place::of_user(self.layout, self.app), source)
    }

    fn refused_at(&self, place: Box<Place>, source: Refused) -> Error {
        Error::Refused {
            app: self.app.name.clone(),
            place,
            source,
        }
    }

    fn check_names(&self) -> Result<(), Error> {
        match self.admitted.iter().find(|venv| venv.name().app() != &self.app.name) {
            Some(venv) => Err(Error::Foreign {
                app: self.app.name.clone(),
                venv: venv.name().clone(),
            }),
            None => Ok(()),
        }
    }

    /// Looks at all that root may run of some venvs.
    fn walk(&self, wanted: impl Fn(&VenvPath) -> bool) -> Result<(), Error> {
        if self.app.sudo.is_empty() && self.app.rootwrap.is_none() {
            return Ok(());
        }
        let mut venvs = self.admitted.iter().filter(|venv| wanted(venv));
        venvs.try_for_each(|venv| self.checker.venv(venv))
    }

    fn rules_edit(&self, rules: &[Rule]) -> Result<Option<Edit>, Error> {
        let text = (!rules.is_empty()).then(|| model::rules_file(&self.app.name, rules));
        Edit::of_sudoers(Kind::Rules, self.layout.sudoers(&self.app.name), text)
    }

    fn path_edit(&self, user: &UserName, path: Option<&SecurePath>) -> Result<Option<Edit>, Error> {
        let text = path.map(|path| model::path_file(user, path)).transpose();
        let text = text.map_err(|refused| self.refused(refused))?;
        Edit::of_sudoers(Kind::SecurePath, self.layout.sudoers_path_of(user), text)
    }
}

#[cfg(test)]
mod tests;
