//! The drop-in of an existing unit: one file, so that a reset is never there without its new value.

use std::path::PathBuf;

use venvd_app::definition::UnitKind;
use venvd_unit::UnitId;
use venvd_unit::effective::{self, Effective, Entry, Unit};

use super::member::{Member, Skip};
use super::part::Part;
use super::text::{self, Sections, source_path};
use super::variables::{self, Paths};
use super::{DROP_IN, Host, exec};
use crate::report::{UnitReport, UnitState};

/// Plans the drop-in of the unit `id` for all of its members; for a template also those of instances that have
/// settings of their own, since the template's drop-in knows nothing of them.
pub(super) fn plan(plan: &mut Part, (id, members): (&UnitId, &[Member<'_>]), host: &Host<'_>) {
    let Some(first) = members.first() else { return };
    if !one(plan, (&first.id, members), host) && has_template_of_ours(id, host) {
        plan.files.insert(path(id), text::header(first.in_force));
    }
    if id.is_template() {
        let instances = host.units.instances(id);
        // By the name of its file: an alias of an instance that is declared is that instance, whose drop-in is its own.
        let claimed = |instance: &UnitId| host.claims.contains_key(&host.units.find(instance).id);
        for instance in instances.iter().filter(|instance| !claimed(instance)) {
            let members: Vec<_> = members
                .iter()
                .map(|member| Member {
                    id: instance.clone(),
                    ..member.clone()
                })
                .collect();
            if !one(plan, (instance, &members), host) && plan.files.contains_key(&path(&first.id)) {
                // As for those that are declared by their names.
                plan.files.insert(path(instance), text::header(first.in_force));
            }
        }
    }
}

/// Returns whether an instance that is left as it is could get the drop-in of its template. Of one name the instance's
/// file wins: an empty one keeps the template's from it.
fn has_template_of_ours(id: &UnitId, host: &Host<'_>) -> bool {
    let ours = |template: UnitId| host.claims.contains_key(&template) && !host.wholes.contains(&template);
    id.template().is_some_and(ours) && host.units.find(id).fragment.is_some()
}

/// Plans the drop-in of one unit, below the directory of `name`. Returns whether there is one.
fn one(plan: &mut Part, (name, members): (&UnitId, &[Member<'_>]), host: &Host<'_>) -> bool {
    let unit = match effective::load_below(host.units, name, DROP_IN) {
        Unit::Absent => {
            if let Some(template) = name.template().filter(|template| host.wholes.contains(template)) {
                return skip_all(plan, members, || Skip::OfWhole(template.clone()));
            }
            for member in members {
                plan.tell(member, UnitReport::new(UnitState::Absent));
            }
            return false;
        }
        Unit::Masked(path) => return skip_all(plan, members, || Skip::Masked(path.clone())),
        Unit::Broken(trouble) => return skip_all(plan, members, || Skip::Broken(trouble.clone())),
        Unit::Loaded(unit) => unit,
    };
    // A file of that name that the administrator made comes before ours, one of a package after it.
    let hides = |path: &&PathBuf| host.manager.hides_generated(path);
    if let Some(path) = unit.namesake.as_ref().filter(hides) {
        return skip_all(plan, members, || Skip::SwitchedOff(path.clone()));
    }
    let mut admitted = Vec::new();
    for member in members {
        match exec::lists(&unit, member) {
            Ok(lists) => admitted.push((member, lists)),
            Err(skip) => plan.skip(member, &skip),
        }
    }
    let Some((first, _)) = admitted.first() else {
        return false;
    };
    let in_force = first.in_force;
    // Of several apps that only set variables, none leads.
    let leads = admitted.len() == 1 || !matches!(first.unit.kind, UnitKind::Environment);
    let leader = leads.then_some(*first);
    for (member, lists) in &admitted {
        let mut report = told(&unit, member, lists);
        let leads = leader.is_some_and(|leader| leader.in_force.app.name == member.in_force.app.name);
        report
            .warnings
            .extend(variables::overruled(&unit, (member, leads), host.units.root()));
        plan.tell(member, report);
    }
    let mut sections = Sections::of("service");
    // A unit has one. The definition, never a link: systemd would look through it at what is not mounted yet, and say
    // that a reload is due for ever.
    sections.unit("SourcePath", &source_path(in_force));
    if let Some(leader) = leader {
        sections.lead(leader, &Paths::of(&unit, &host.defaults));
    }
    fill(&mut sections, &unit, &admitted);
    plan.files.insert(path(name), sections.finish(in_force));
    true
}

fn path(name: &UnitId) -> String {
    format!("{name}.d/{DROP_IN}")
}

fn skip_all(plan: &mut Part, members: &[Member<'_>], skip: impl Fn() -> Skip) -> bool {
    for member in members {
        plan.skip(member, &skip());
    }
    false
}

fn fill(sections: &mut Sections, unit: &Effective, admitted: &[(&Member<'_>, Vec<exec::List>)]) {
    for (member, _) in admitted {
        sections.belong(member.in_force, member.restarts(unit.service_type()));
        sections.variables(member);
    }
    for (key, values) in admitted.iter().flat_map(|(_, lists)| lists) {
        sections.own(key, "");
        for value in values {
            sections.own(key, value);
        }
    }
}

fn told(unit: &Effective, member: &Member<'_>, lists: &[exec::List]) -> UnitReport {
    let state = match &member.unit.kind {
        UnitKind::Spliced(_) => UnitState::Spliced {
            lists: lists.iter().map(|(key, _)| (*key).to_owned()).collect(),
        },
        UnitKind::Exec(_) => UnitState::Exec,
        UnitKind::Environment => UnitState::Environment,
        UnitKind::Whole(_) => UnitState::Whole,
    };
    let mut report = UnitReport::new(state);
    report.own_stop = lists.iter().any(|(key, _)| exec::STOP.contains(key)) || exec::finds_stop(unit, member);
    if matches!(member.unit.kind, UnitKind::Exec(_)) {
        report.warnings.extend(exec::leftovers(unit, lists));
    }
    let written = |entry: &&Entry| {
        entry.assignment.section == "Service" && lists.iter().any(|(key, _)| *key == entry.assignment.key)
    };
    report.warnings.extend(unit.above.iter().filter(written).map(|entry| {
        let (path, assignment) = (entry.path.display(), &entry.assignment);
        format!(
            "{path}:{} sets {} after {DROP_IN}, and has the last word",
            assignment.line, assignment.key
        )
    }));
    report
        .warnings
        .extend(unit.troubles.iter().map(|trouble| format!("systemd ignores {trouble}")));
    report
}
