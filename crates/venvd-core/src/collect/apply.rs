//! Removing what a plan lets go.

use std::collections::BTreeMap;
use std::path::PathBuf;

use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::lock::Lock;

use super::{Asked, Plan, Reason, Verdict, verdicts};
use crate::build::staging;
use crate::error::Error;
use crate::store::{Store, Swept};
use crate::{list, remove};

/// What was collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// The venvs that are gone.
    pub removed: Vec<VenvPath>,
    /// Those that turned out to be needed after all, and why.
    pub kept: BTreeMap<VenvPath, Vec<Reason>>,
    /// Those that could not be removed, and why.
    pub failed: BTreeMap<VenvPath, Error>,
    /// What dead builds had left, and is gone.
    pub leftovers: Vec<PathBuf>,
    /// What the store had for nobody, and is gone; none where there is no store.
    pub swept: Option<Swept>,
    /// What could not be cleaned up besides.
    pub problems: Vec<Error>,
    /// How many bytes were freed by venvs that are gone.
    pub freed: u64,
}

/// Removes the venvs that a plan lets go, what dead builds left, and what the store keeps for nobody.
///
/// Each venv is looked at again under the store's lock, just before it goes by one rename: a link may have been flipped
/// meanwhile. One that can't be removed keeps none of the others.
pub fn apply(layout: &Layout, asked: &Asked, plan: &Plan) -> Collected {
    let mut collected = Collected::default();
    for decision in plan.decisions.iter().filter(|one| one.verdict == Verdict::Go) {
        let venv = &decision.venv;
        match collect_one(layout, asked, venv) {
            Ok(Verdict::Go) => collected.removed.push(venv.clone()),
            Ok(Verdict::Keep(reasons)) => drop(collected.kept.insert(venv.clone(), reasons)),
            Err(error) => drop(collected.failed.insert(venv.clone(), error)),
        }
    }
    collected.freed = plan.sizes.together(collected.removed.iter());
    match clean_up(layout, &mut collected) {
        Ok(()) => {}
        Err(error) => collected.problems.push(error),
    }
    collected
}

fn collect_one(layout: &Layout, asked: &Asked, venv: &VenvPath) -> Result<Verdict, Error> {
    let app = venv.name().app();
    // An activation that has only just begun has left no mark yet. It waits for this lock, for as long as this takes.
    let Some(_activations) = Lock::try_exclusive(&layout.app_lock(app))? else {
        return Ok(Verdict::Keep(vec![Reason::Pending]));
    };
    let _store = Lock::exclusive(&layout.store_lock())?;
    let venvs = list::paths(layout, Some(app))?;
    match verdicts(layout, asked, &venvs)?.remove(venv) {
        Some(Verdict::Go) => {}
        Some(keep) => return Ok(keep),
        None => {
            return Err(Error::NoSuchVenv {
                venv: venv.name().clone(),
            });
        }
    }
    remove::bury(layout, venv.name())?;
    Ok(Verdict::Go)
}

fn clean_up(layout: &Layout, collected: &mut Collected) -> Result<(), Error> {
    let _store = Lock::exclusive(&layout.store_lock())?;
    collected.leftovers = staging::sweep(layout)?;
    // Making a store only to sweep it would be no service.
    if layout.store().is_dir() {
        collected.swept = Some(Store::open(layout)?.sweep(layout)?);
    }
    Ok(())
}
