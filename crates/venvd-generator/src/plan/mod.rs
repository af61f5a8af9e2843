//! The decision: which files and links the units of all apps need. Values, made without writing anything.

mod defaults;
mod dropin;
mod exec;
mod inputs;
mod install;
mod member;
mod part;
mod text;
mod variables;
mod whole;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use venvd_app::definition::UnitKind;
use venvd_app::parallel;
use venvd_unit::{UnitFiles, UnitId};

use crate::manager::Manager;
use crate::report::{Report, UnitReport};
use defaults::Defaults;
pub use inputs::{InForce, Inputs, State};
use member::Member;
use part::Claim;
pub use part::Part;

/// The name of our drop-ins. It sorts after `override.conf`, which `systemctl edit` makes: our drop-in is computed
/// from the effective value, so the administrator's arguments stay, and only the program is another.
pub const DROP_IN: &str = "zz-venvd.conf";

/// How many units make a batch for [`parallel::map`].
const BATCH: usize = 25;

/// What is the same for all units.
#[derive(Debug)]
struct Host<'a> {
    units: &'a UnitFiles,
    /// The units that belong to an app, and the members that would have each.
    claims: &'a BTreeMap<UnitId, Vec<Member<'a>>>,
    /// Those of them that are written whole.
    wholes: BTreeSet<UnitId>,
    /// Who reads what is generated.
    manager: &'a Manager,
    /// What that gives every service.
    defaults: Defaults,
}

/// Decides what to write for everything that is in force: part by part, and each is handed to `take` as soon as it is
/// decided, so that writing one goes on beside the planning of others. Returns what `take` made of each, in order, and
/// what is done and what is not.
pub fn plan<R: Send>(inputs: &Inputs, units: &UnitFiles, take: impl Fn(&Part) -> R + Sync) -> (Vec<R>, Report) {
    let mut report = inputs.report();
    let mut common = Part::default();
    common.start_daemon(inputs);
    let apps = inputs.in_force();
    if apps.is_empty() {
        return (vec![take(&common)], report);
    }
    for in_force in &apps {
        common
            .files
            .insert(text::target_name(in_force.app), text::target(in_force));
    }
    let mut claims = claims(&apps, units, &mut report);
    inherit(&mut claims);
    let whole = |members: &[Member<'_>]| members.iter().any(|m| matches!(m.unit.kind, UnitKind::Whole(_)));
    let wholes = claims.iter().filter(|(_, members)| whole(members));
    let host = Host {
        units,
        claims: &claims,
        wholes: wholes.map(|(id, _)| id.clone()).collect(),
        manager: &inputs.manager,
        defaults: Defaults::read(units, &inputs.manager),
    };
    // Whole units may have one alias in common, so they know of each other; of all else nothing does.
    let (wholes, others): (Vec<Claim<'_>>, Vec<_>) = claims.iter().partition(|(id, _)| host.wholes.contains(*id));
    common.plan(&wholes, &host);
    let mut parts = vec![(take(&common), common.told)];
    parts.extend(parallel::map(&others, BATCH, |claims| {
        let mut part = Part::default();
        part.plan(claims, &host);
        (take(&part), part.told)
    }));
    let mut taken = Vec::new();
    for (result, told) in parts {
        taken.push(result);
        for (app, unit, said) in told {
            report.unit(app.as_str(), unit, said);
        }
    }
    (taken, report)
}

/// Returns who would have which unit, by the names under which systemd lists them.
fn claims<'a>(apps: &'a [InForce<'a>], units: &UnitFiles, report: &mut Report) -> BTreeMap<UnitId, Vec<Member<'a>>> {
    let mut claims: BTreeMap<UnitId, Vec<Member<'a>>> = BTreeMap::new();
    for in_force in apps {
        for (name, unit) in &in_force.app.units {
            match UnitId::parse(name.as_str()) {
                Ok(id) => {
                    let member = Member {
                        in_force,
                        id,
                        unit: Cow::Borrowed(unit),
                    };
                    // A whole unit hides whatever had its name before.
                    let key = match unit.kind {
                        UnitKind::Whole(_) => member.id.clone(),
                        _ => units.find(&member.id).id,
                    };
                    claims.entry(key).or_default().push(member);
                }
                Err(error) => report.unit(in_force.app.name.as_str(), name.to_string(), UnitReport::skipped(error)),
            }
        }
    }
    claims
}

/// Gives instances that are declared by their own names what is declared of their templates, too: of two drop-ins of
/// one name, in the directories of instance and template, systemd reads only the instance's. Their own come first.
fn inherit(claims: &mut BTreeMap<UnitId, Vec<Member<'_>>>) {
    let templates: BTreeMap<_, _> = claims
        .iter()
        .filter(|(id, _)| id.is_template())
        .map(|(id, members)| (id.clone(), members.clone()))
        .collect();
    for (id, members) in claims.iter_mut() {
        let of_template = id.template().and_then(|id| templates.get(&id)).into_iter().flatten();
        for inherited in of_template.filter(|member| !matches!(member.unit.kind, UnitKind::Whole(_))) {
            let app = &inherited.in_force.app.name;
            match members.iter_mut().find(|member| member.in_force.app.name == *app) {
                Some(member) => member.inherit(&inherited.unit),
                None => members.push(Member {
                    id: id.clone(),
                    ..inherited.clone()
                }),
            }
        }
    }
}
