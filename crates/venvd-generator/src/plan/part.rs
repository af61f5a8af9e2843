//! A part of the plan: what becomes of some units, decided without a look at the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use venvd_app::definition::UnitKind;
use venvd_app::{AppName, Scope};
use venvd_unit::UnitId;

use super::member::{self, Member, Skip};
use super::{Host, Inputs, dropin, whole};
use crate::report::UnitReport;

/// A unit, and the members that would have it.
pub(super) type Claim<'a> = (&'a UnitId, &'a Vec<Member<'a>>);

/// What is to be written, and what is to be said. Paths are below the generator's directory, as text: comparing them part
/// by part was a tenth of all work.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Files and their text.
    pub files: BTreeMap<String, String>,
    /// Links and their targets.
    pub links: BTreeMap<String, PathBuf>,
    /// App, unit, and what became of it.
    pub(super) told: Vec<(AppName, String, UnitReport)>,
}

impl Part {
    /// Plans these units.
    pub(super) fn plan(&mut self, claims: &[Claim<'_>], host: &Host<'_>) {
        for (id, members) in claims {
            let (members, refused) = member::settle((*members).clone());
            for (member, skip) in refused {
                self.skip(&member, &skip);
            }
            match members.first().map(|member| &member.unit.kind) {
                Some(UnitKind::Whole(_)) => whole::plan(self, &members, host),
                Some(_) => dropin::plan(self, (id, &members), host),
                None => {}
            }
        }
    }

    /// Has a user's manager start venvd where that user has apps: not for all users of a host, most of whom have none.
    /// (The system's is enabled as any unit.)
    pub(super) fn start_daemon(&mut self, inputs: &Inputs) {
        let declared = &inputs.declared;
        let has_apps = !declared.apps.is_empty() || !declared.broken.is_empty();
        if inputs.manager.scope == Scope::User && has_apps {
            let path = "default.target.wants/venvd.service".to_owned();
            self.links
                .insert(path, PathBuf::from("/usr/lib/systemd/user/venvd.service"));
        }
    }

    /// Says that a unit is left as it is.
    pub(super) fn skip(&mut self, member: &Member<'_>, skip: &Skip) {
        self.tell(member, UnitReport::skipped(skip));
    }

    /// Says what became of a unit.
    pub(super) fn tell(&mut self, member: &Member<'_>, report: UnitReport) {
        let app = member.in_force.app.name.clone();
        self.told.push((app, member.id.to_string(), report));
    }
}
