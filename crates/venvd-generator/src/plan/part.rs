//! A part of the plan: what becomes of some units, made without a look at the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use venvd_app::definition::UnitKind;
use venvd_unit::UnitId;

use super::member::{self, Member, Skip};
use super::{Host, Plan, dropin, whole};
use crate::report::UnitReport;

/// A unit, and the members that would have it.
pub(super) type Claim<'a> = (UnitId, Vec<Member<'a>>);

/// Files, links, and what is to be said.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) files: BTreeMap<String, String>,
    pub(super) links: BTreeMap<String, PathBuf>,
    /// App, unit, and what became of it.
    told: Vec<(String, String, UnitReport)>,
}

impl Part {
    /// Plans these units.
    pub(super) fn of(claims: &[Claim<'_>], host: &Host<'_>) -> Self {
        let mut part = Self::default();
        for (id, members) in claims {
            let (members, refused) = member::settle(members.clone());
            for (member, skip) in refused {
                part.skip(&member, &skip);
            }
            match members.first().map(|member| &member.unit.kind) {
                Some(UnitKind::Whole(_)) => whole::plan(&mut part, &members, host),
                Some(_) => dropin::plan(&mut part, (id, &members), host),
                None => {}
            }
        }
        part
    }

    /// Says that a unit is left as it is.
    pub(super) fn skip(&mut self, member: &Member<'_>, skip: &Skip) {
        self.tell(member, UnitReport::skipped(skip));
    }

    /// Says what became of a unit.
    pub(super) fn tell(&mut self, member: &Member<'_>, report: UnitReport) {
        let app = member.in_force.app.name.to_string();
        self.told.push((app, member.id.to_string(), report));
    }
}

impl Plan {
    /// Adds a part.
    pub(super) fn add(&mut self, mut part: Part) {
        self.files.append(&mut part.files);
        self.links.append(&mut part.links);
        for (app, unit, report) in part.told {
            self.report.unit(&app, unit, report);
        }
    }
}
