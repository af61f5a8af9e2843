//! Which venvs nothing needs any more: the plan. Nothing is changed here; [`apply`](fn@apply) does what a plan says.
//!
//! A venv stays for any one of the [`Reason`]s. What can't be found out counts as a reason to stay.

mod apply;
mod facts;
mod size;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout};
use venvd_fs::lock::Lock;

use crate::build::staging;
use crate::error::Error;
use crate::list;
use crate::note::Note;
use crate::usage::{self, Usage, Use};
pub use apply::{Collected, apply};
use facts::Facts;
pub(crate) use facts::Links;
pub use size::Sizes;

/// What is to be collected.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Only this app's venvs.
    pub app: Option<AppName>,
    /// How many of an app's newest venvs stay in any case.
    pub keep: u32,
}

/// What stays, what goes, and why.
#[derive(Debug)]
pub struct Plan {
    /// One for each venv, by name.
    pub decisions: Vec<Decision>,
    /// What dead builds left.
    pub leftovers: Vec<PathBuf>,
    /// How much all that goes frees.
    pub frees: u64,
    /// What the venvs take on disk.
    sizes: Sizes,
}

/// Whether a venv stays.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The venv.
    pub venv: VenvPath,
    /// Whether it stays.
    pub verdict: Verdict,
    /// What it alone takes on disk: bytes that nothing else shares.
    pub alone: u64,
}

/// Whether a venv stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for these reasons.
    Keep(Vec<Reason>),
    /// Nothing needs it.
    Go,
}

/// Why a venv stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Reason {
    /// The active link leads to it.
    AskedFor,
    /// The committed link leads to it.
    InForce,
    /// The previous link leads to it.
    Previous,
    /// Somebody said that it stays.
    Held(Note),
    /// It is one of its app's newest.
    Newest {
        /// Which, from 1.
        rank: usize,
        /// Of how many.
        keep: u32,
    },
    /// Processes use it.
    Used {
        /// Which, and how that is known.
        by: Vec<Use>,
    },
    /// An activation of its app is not over.
    Pending,
    /// It came with a package or image, which has to remove it.
    Packaged,
    /// It is no venv of ours: it has no manifest, or one that is not understood.
    NotSealed {
        /// What is wrong.
        why: String,
    },
    /// Something that could speak for it can't be read.
    Unknown {
        /// What.
        why: String,
    },
}

/// How many processes a text names; JSON has them all.
const NAMED: usize = 3;

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskedFor => formatter.write_str("asked for"),
            Self::InForce => formatter.write_str("in force"),
            Self::Previous => formatter.write_str("previous"),
            Self::Held(hold) => {
                formatter.write_str("held")?;
                hold.by.iter().try_for_each(|by| write!(formatter, " by {by}"))?;
                hold.reason.iter().try_for_each(|why| write!(formatter, ": {why}"))
            }
            Self::Newest { rank: 1, .. } => formatter.write_str("the newest"),
            Self::Newest { keep, .. } => write!(formatter, "among the newest {keep}"),
            Self::Used { by } => {
                let named: Vec<String> = by.iter().take(NAMED).map(Use::to_string).collect();
                write!(formatter, "used by {}", named.join(", "))?;
                match by.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(formatter, ", and {more} more"),
                }
            }
            Self::Pending => formatter.write_str("an activation is not over"),
            Self::Packaged => formatter.write_str("belongs to a package"),
            Self::NotSealed { why } => write!(
                formatter,
                "not sealed by venvd, so not touched: {why}; `venvctl remove` it if nobody needs it"
            ),
            Self::Unknown { why } => write!(formatter, "can't be decided: {why}"),
        }
    }
}

/// Finds out what stays and what goes. Changes nothing.
///
/// # Errors
/// When the caller may not look into every process, or the venvs can't be listed.
pub fn plan(layout: &Layout, asked: &Asked) -> Result<Plan, Error> {
    let venvs = list::paths(layout, asked.app.as_ref())?;
    let verdicts = verdicts(layout, asked, &venvs)?;
    // Of all apps: they share content with each other.
    let sizes = Sizes::measure(layout, &list::paths(layout, None)?)?;
    let mut decisions: Vec<Decision> = verdicts
        .into_iter()
        .map(|(venv, verdict)| Decision {
            alone: sizes.alone(&venv),
            venv,
            verdict,
        })
        .collect();
    decisions.sort_by(|one, other| one.venv.cmp(&other.venv));
    let leftovers = {
        // Taking a lock makes it where there is none, and a look changes nothing. Whoever builds has made it.
        let path = layout.store_lock();
        let _lock = path.exists().then(|| Lock::exclusive(&path)).transpose()?;
        staging::dead(layout)?
    };
    let go = decisions.iter().filter(|decision| decision.verdict == Verdict::Go);
    let frees = sizes.together(go.map(|decision| &decision.venv));
    Ok(Plan {
        decisions,
        leftovers,
        frees,
        sizes,
    })
}

/// Decides for each of the venvs.
fn verdicts(layout: &Layout, asked: &Asked, venvs: &[VenvPath]) -> Result<BTreeMap<VenvPath, Verdict>, Error> {
    usage::may_look(layout)?;
    let usage = Usage::scan(layout, venvs)?;
    refuse_blind(&usage)?;
    let facts: Vec<Facts> = venvs.par_iter().map(|venv| Facts::of(layout, venv)).collect();
    let ranks = facts::ranks(layout, &facts);
    let verdicts = facts.iter().map(|facts| {
        let mut reasons = facts.reasons();
        if let Some(rank) = ranks.get(&facts.venv).filter(|rank| **rank <= asked.keep as usize) {
            reasons.push(Reason::Newest {
                rank: *rank,
                keep: asked.keep,
            });
        }
        reasons.extend(reasons_of(&usage, &facts.venv));
        let verdict = if reasons.is_empty() {
            Verdict::Go
        } else {
            Verdict::Keep(reasons)
        };
        (facts.venv.clone(), verdict)
    });
    Ok(verdicts.collect())
}

/// Returns why one venv can't be removed on demand: as for collecting, but age and missing seals don't protect it.
///
/// # Errors
/// When the caller may not look into every process.
pub(crate) fn reasons_against_removal(layout: &Layout, venv: &VenvPath) -> Result<Vec<Reason>, Error> {
    usage::may_look(layout)?;
    let venvs = list::paths(layout, Some(venv.name().app()))?;
    let usage = Usage::scan(layout, &venvs)?;
    refuse_blind(&usage)?;
    let mut reasons = Facts::of(layout, venv).reasons();
    reasons.retain(|reason| !matches!(reason, Reason::NotSealed { .. }));
    reasons.extend(reasons_of(&usage, venv));
    Ok(reasons)
}

fn reasons_of(usage: &Usage, venv: &VenvPath) -> impl Iterator<Item = Reason> {
    let used = match usage.of(venv) {
        [] => None,
        by => Some(Reason::Used { by: by.to_vec() }),
    };
    let unknown = usage.unknown.get(venv.name().app()).map(|why| Reason::Unknown {
        why: format!("its units are not known: {why}"),
    });
    used.into_iter().chain(unknown)
}

/// A process that can't be looked into may use any venv.
fn refuse_blind(usage: &Usage) -> Result<(), Error> {
    if usage.blind.is_empty() {
        return Ok(());
    }
    Err(Error::Blind {
        processes: usage.blind.clone(),
    })
}

#[cfg(test)]
mod tests;
