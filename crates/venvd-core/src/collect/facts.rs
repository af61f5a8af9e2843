//! What is known of one venv, its processes apart.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::Deserialize;
use venvd_app::links::{self, Link, VenvPath};
use venvd_app::revoked::is_revoked;
use venvd_app::{AppName, Layout};
use venvd_fs::{IoContext, atomic};

use super::Reason;
use crate::hold;
use crate::manifest;

/// Which of an app's links lead to a venv.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) active: bool,
    pub(crate) committed: bool,
    pub(crate) previous: bool,
}

impl Links {
    pub(crate) fn of(layout: &Layout, venv: &VenvPath) -> Result<Self, links::LinkError> {
        let leads_here = |link| links::read(layout, link, venv.name().app()).map(|found| found.as_ref() == Some(venv));
        Ok(Self {
            active: leads_here(Link::Active)?,
            committed: leads_here(Link::Committed)?,
            previous: leads_here(Link::Previous)?,
        })
    }
}

/// What is known of one venv.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) venv: VenvPath,
    /// When it was sealed; why that is not known.
    created: Result<u64, String>,
    reasons: Vec<Reason>,
}

impl Facts {
    pub(super) fn of(layout: &Layout, venv: &VenvPath) -> Self {
        let mut reasons = Vec::new();
        let unknown = |error: &dyn std::error::Error| Reason::Unknown {
            why: venvd_fs::report(error),
        };
        match Links::of(layout, venv) {
            Ok(links) => {
                let said = [
                    (links.committed, Reason::InForce),
                    (links.active, Reason::AskedFor),
                    (links.previous, Reason::Previous),
                ];
                reasons.extend(said.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason));
            }
            Err(error) => reasons.push(unknown(&error)),
        }
        match hold::read(layout, venv.name()) {
            Ok(hold) => reasons.extend(hold.map(Reason::Held)),
            Err(error) => reasons.push(unknown(&error)),
        }
        match is_pending(layout, venv.name().app()) {
            // Until it is over, the way back may be a venv that no link leads to, and that nothing runs from.
            Ok(true) => reasons.push(Reason::Pending),
            Ok(false) => {}
            Err(error) => reasons.push(unknown(&error)),
        }
        if venv.is_packaged(layout) {
            reasons.push(Reason::Packaged);
        }
        let created = created(layout, venv);
        if let Err(why) = &created {
            reasons.push(Reason::NotSealed { why: why.clone() });
        }
        Self {
            venv: venv.clone(),
            created,
            reasons,
        }
    }

    pub(super) fn reasons(&self) -> Vec<Reason> {
        self.reasons.clone()
    }
}

/// Returns which is each app's newest, second newest and so on, from 1, of those that were sealed here and may run.
pub(super) fn ranks(layout: &Layout, facts: &[Facts]) -> BTreeMap<VenvPath, usize> {
    let mut by_app: BTreeMap<&AppName, Vec<(u64, &VenvPath)>> = BTreeMap::new();
    for facts in facts {
        let counts = !facts.venv.is_packaged(layout) && !is_revoked(layout, facts.venv.name());
        if let (Ok(created), true) = (&facts.created, counts) {
            let entry = (*created, &facts.venv);
            by_app.entry(facts.venv.name().app()).or_default().push(entry);
        }
    }
    let mut ranks = BTreeMap::new();
    for mut venvs in by_app.into_values() {
        // Of two of the same second, the one whose name sorts last is newer, as 29.2.1 is than 29.2.0.
        venvs.sort_by(|one, other| other.cmp(one));
        let ranked = venvs.into_iter().enumerate();
        ranks.extend(ranked.map(|(index, (_, venv))| (venv.clone(), index + 1)));
    }
    ranks
}

pub(super) fn is_pending(layout: &Layout, app: &AppName) -> Result<bool, venvd_fs::Error> {
    let path = layout.pending(app);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("look at", &path),
    }
}

/// Reads when a venv was sealed, and whether its manifest is one that this venvd understands.
fn created(layout: &Layout, venv: &VenvPath) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
        created: u64,
        app: AppName,
        tag: venvd_app::Tag,
    }
    let directory = layout.on_disk(venv.path());
    let bytes = atomic::read(&directory.join(manifest::PATH)).map_err(|error| venvd_fs::report(&error))?;
    let bytes = bytes.ok_or_else(|| format!("it has no {}", manifest::PATH))?;
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| format!("its manifest can't be read: {error}"))?;
    if head.format != manifest::FORMAT {
        return Err(format!("its manifest has format {}", head.format));
    }
    if (&head.app, &head.tag) != (venv.name().app(), venv.name().tag()) {
        return Err(format!("its manifest is that of {}:{}", head.app, head.tag));
    }
    Ok(head.created)
}
