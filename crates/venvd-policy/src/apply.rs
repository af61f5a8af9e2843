use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use venvd_app::links::VenvPath;
use venvd_app::{App, Layout};
use venvd_fs::atomic::{self, Change, Staged};
use venvd_fs::lock::Lock;
use venvd_fs::{IoContext, report};

use crate::plan::{SUDOERS_MODE, Walk, plan_walking, present};
use crate::sudoers::model::Rule;
use crate::sudoers::prove::{self, Claim};
use crate::sudoers::validate;
use crate::{Edit, Edited, Error, Kind, Plan};

/// One writer of policies at a time, since apps share a user's `secure_path`. No app is called that.
const LOCK: &str = "/run/venvd/_policy.lock";

/// The rules that sudo was asked for, and that have been in force since.
static PROVED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Makes the policy of `app` admit exactly these venvs, the first one in front: [`plan()`](crate::plan()) and
/// [`Plan::apply`] under one lock, but of venvs that have rights already not each file is looked at.
///
/// # Errors
/// Whatever either refuses.
pub fn write(layout: &Layout, app: &App, admitted: &[VenvPath], edited: Edited) -> Result<Change, Error> {
    let _lock = lock(layout)?;
    plan_walking((layout, app), (admitted, Walk::New), edited)?.apply_locked()
}

/// Takes away all that venvd gave the app: its rules, its place in `secure_path` and in `rootwrap.conf`.
///
/// # Errors
/// When a file can't be removed or written. When only something that leads to its venvs can't be put right (others can
/// write to its `rootwrap.conf`, or it can't be parsed), the rest is done before that is reported.
pub fn remove(layout: &Layout, app: &App) -> Result<Change, Error> {
    write(layout, app, &[], Edited::SetAside)
}

pub(crate) fn lock(layout: &Layout) -> Result<Lock, Error> {
    Ok(Lock::exclusive(&layout.on_disk(LOCK))?)
}

impl Plan {
    /// Writes what was planned: stage all, have it validated, put it in place file by file, ask sudo whether it holds.
    ///
    /// On a failure all files are as before: those that were in place already are put back, in reverse order.
    ///
    /// # Errors
    /// When something fails, or somebody changed one of the files since the planning.
    pub fn apply(self) -> Result<Change, Error> {
        let _lock = lock(&self.layout)?;
        self.apply_locked()
    }

    pub(crate) fn apply_locked(self) -> Result<Change, Error> {
        for edit in &self.edits {
            if present(&edit.path)?.0 != edit.before {
                return Err(Error::Conflict {
                    path: edit.path.clone(),
                });
            }
        }
        self.finish_interrupted()?;
        let attributes = self.edits.iter().map(Attributes::of).collect::<Result<Vec<_>, _>>()?;
        let staged = self
            .edits
            .iter()
            .zip(&attributes)
            .map(|(edit, attributes)| {
                edit.after
                    .as_deref()
                    .map(|text| attributes.stage(&edit.path, text))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.validate(&staged)?;
        self.set_aside()?;
        self.confs.begin()?;
        let mut done = Vec::new();
        for ((edit, attributes), staged) in self.edits.iter().zip(attributes).zip(staged) {
            let result = match staged {
                Some(staged) => staged.commit(),
                None => atomic::remove(&edit.path).map(drop),
            };
            // Also the one that failed: its rename may have been done, and only the sync not.
            done.push((edit, attributes));
            if let Err(error) = result {
                return Err(put_back(&done, error.into()));
            }
        }
        // Without an edit there is nothing to put back, and a way back that changes nothing must not wait for what others
        // broke meanwhile. `policy check` proves it all the same.
        if !self.edits.is_empty()
            && let Err(error) = self.prove_what_is_new()
        {
            return Err(put_back(&done, error));
        }
        if let Err(error) = self.confs.finish() {
            return Err(put_back(&done, error.into()));
        }
        match self.left_behind {
            Some(error) => Err(Error::LeftBehind {
                app: self.app,
                source: Box::new(error),
            }),
            None if self.edits.is_empty() => Ok(Change::Unchanged),
            None => Ok(Change::Changed),
        }
    }

    /// Takes care of what a writer left that was killed: its temporary files go, and what it had put in place already, but
    /// not synced, becomes durable before anything is built on it.
    fn finish_interrupted(&self) -> Result<(), Error> {
        for edit in &self.edits {
            atomic::sweep(&edit.path)?;
            atomic::sweep(&edit.aside())?;
        }
        atomic::sweep(&self.confs.path)?;
        atomic::sweep(&validate::wrapper(&self.layout))?;
        for directory in self.directories.iter().filter(|directory| directory.is_dir()) {
            atomic::sync_directory(directory)?;
        }
        Ok(())
    }

    /// Keeps what an administrator wrote into files of ours.
    fn set_aside(&self) -> Result<(), Error> {
        for edit in self.edits.iter().filter(|edit| edit.is_over_edited()) {
            if let Some(text) = &edit.before {
                atomic::write(&edit.aside(), text, SUDOERS_MODE)?;
            }
        }
        Ok(())
    }

    fn validate(&self, staged: &[Option<Staged>]) -> Result<(), Error> {
        let ours = self
            .edits
            .iter()
            .zip(staged)
            .filter(|(edit, _)| edit.kind != Kind::Rootwrap);
        let paths: Vec<&Path> = ours.filter_map(|(_, staged)| Some(staged.as_ref()?.path())).collect();
        let Some(sudo) = self.sudo.as_ref().filter(|_| !paths.is_empty()) else {
            return Ok(());
        };
        match validate::faults(sudo, &self.layout, &paths)? {
            None => Ok(()),
            Some(report) => Err(Error::Invalid {
                app: self.app.clone(),
                report,
            }),
        }
    }

    /// Asks sudo whether it follows these rules now, as far as it can be asked.
    ///
    /// # Errors
    /// When it does not, or can't be run.
    pub fn prove(&self) -> Result<(), Error> {
        self.prove_those(|_| true)
    }

    /// The same, but of rules that have been in force since this process proved them, sudo is only asked whether they need a
    /// password by now. A writer that was killed leaves rules that no process has proved.
    fn prove_what_is_new(&self) -> Result<(), Error> {
        let proved = || PROVED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new =
            |rule: &Rule| self.edits.iter().any(|edit| edit.adds(rule)) || !proved().contains(&rule.to_string());
        self.prove_those(is_new)?;
        let gone: BTreeSet<String> = self.edits.iter().flat_map(Edit::rules_before).collect();
        let mut proved = proved();
        proved.retain(|rule| !gone.contains(rule));
        proved.extend(self.rules.iter().map(Rule::to_string));
        Ok(())
    }

    /// The same, with some rules asked for one by one.
    fn prove_those(&self, one_by_one: impl Fn(&Rule) -> bool) -> Result<(), Error> {
        // Below another root there is no sudo to ask. Without rules nothing was granted.
        let (Some(sudo), Some(user)) = (&self.sudo, &self.user) else {
            return Ok(());
        };
        if !self.layout.root().is_host() || self.rules.is_empty() {
            return Ok(());
        }
        let claim = Claim {
            user,
            rules: &self.rules,
            new: self.rules.iter().filter(|rule| one_by_one(rule)).collect(),
            secure_path: self.secure_path.as_ref(),
        };
        match prove::objection(sudo, &claim)? {
            None => Ok(()),
            Some(reason) => Err(Error::NotInForce {
                app: self.app.clone(),
                user: user.clone(),
                reason,
            }),
        }
    }
}

/// Whose a file is and who may read it.
#[derive(Debug, Clone, Copy)]
struct Attributes {
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl Attributes {
    fn of(edit: &Edit) -> Result<Self, Error> {
        if edit.kind == Kind::Rootwrap {
            // Often root:cinder 0640: the service reads it, too.
            let metadata = fs::symlink_metadata(&edit.path).at("look at", &edit.path)?;
            return Ok(Self {
                mode: metadata.mode() & 0o7777,
                owner: Some((metadata.uid(), metadata.gid())),
            });
        }
        // sudo ignores a file that is not root's; only root can see to that.
        Ok(Self {
            mode: SUDOERS_MODE,
            owner: nix::unistd::geteuid().is_root().then_some((0, 0)),
        })
    }

    fn stage(self, path: &Path, text: &[u8]) -> Result<Staged, venvd_fs::Error> {
        let staged = atomic::stage(path, text, self.mode)?;
        match self.owner {
            Some((uid, gid)) => staged.owned_by(uid, gid),
            None => Ok(staged),
        }
    }
}

/// Puts files back as they were, the last one first, and returns the error to report.
fn put_back(done: &[(&Edit, Attributes)], failure: Error) -> Error {
    let mut stuck = None;
    for (edit, attributes) in done.iter().rev() {
        let undone = match (&edit.before, &edit.link, present(&edit.path)) {
            (before, _, Ok((present, _))) if *before == present => Ok(()),
            (_, Some(target), _) => atomic::symlink(target, &edit.path).map(drop),
            (Some(text), ..) => attributes.stage(&edit.path, text).and_then(Staged::commit),
            (None, ..) => atomic::remove(&edit.path).map(drop),
        };
        // The others are put back all the same: the less is left, the better.
        if let Err(undo) = undone {
            stuck.get_or_insert((edit.path.clone(), report(&undo)));
        }
    }
    match stuck {
        None => failure,
        Some((path, undo)) => Error::HalfWritten {
            path,
            undo,
            failure: Box::new(failure),
        },
    }
}
