//! The decision: which files and links the units of all apps need. A value, made without writing anything.

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
use std::path::PathBuf;

use venvd_app::Scope;
use venvd_app::definition::UnitKind;
use venvd_unit::{UnitFiles, UnitId};

use crate::kmsg::Message;
use crate::manager::Manager;
use crate::parallel;
use crate::report::{AppReport, Report, UnitReport, UnitState};
use defaults::Defaults;
pub use inputs::{InForce, Inputs, State};
use member::Member;
use part::{Claim, Part};

/// The name of our drop-ins. It sorts after `override.conf`, which `systemctl edit` makes: our drop-in is computed
/// from the effective value, so the administrator's arguments stay, and only the program is another.
pub const DROP_IN: &str = "zz-venvd.conf";

/// What is to be written. Paths are below the generator's directory, as text: comparing them part by part was a tenth of
/// all work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files and their text.
    pub files: BTreeMap<String, String>,
    /// Links and their targets.
    pub links: BTreeMap<String, PathBuf>,
    /// What is done and what is not.
    pub report: Report,
}

/// What is the same for all units.
#[derive(Debug)]
struct Host<'a> {
    units: &'a UnitFiles,
    /// The units that belong to an app.
    claimed: BTreeSet<UnitId>,
    /// Those of them that are written whole.
    wholes: BTreeSet<UnitId>,
    /// Who reads what is generated.
    manager: &'a Manager,
    /// What that gives every service.
    defaults: Defaults,
}

impl Plan {
    /// Returns what the kernel log should say: everything that was skipped.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        let mut messages: Vec<_> = self.report.problems.iter().cloned().map(Message::warning).collect();
        for (app, report) in &self.report.apps {
            match report {
                AppReport::Skipped { reason } | AppReport::Distribution { reason } => {
                    messages.push(Message::warning(format!("{app}: {reason}")));
                }
                AppReport::InForce { units, fallen_back, .. } => {
                    messages.extend(fallen_back.iter().map(|why| Message::warning(format!("{app}: {why}"))));
                    for (unit, report) in units {
                        if let UnitState::Skipped { reason } = &report.state {
                            messages.push(Message::warning(format!("{app}: {unit} is left as it is: {reason}")));
                        }
                    }
                }
                AppReport::NoVenv | AppReport::Off => {}
            }
        }
        messages
    }
}

/// Decides what to write for everything that is in force.
#[must_use]
pub fn plan(inputs: &Inputs, units: &UnitFiles) -> Plan {
    let mut plan = Plan {
        report: inputs.report(),
        ..Plan::default()
    };
    plan.start_daemon(inputs);
    let apps = inputs.in_force();
    if apps.is_empty() {
        return plan;
    }
    let mut claims: BTreeMap<UnitId, Vec<Member<'_>>> = BTreeMap::new();
    for in_force in &apps {
        plan.files
            .insert(text::target_name(in_force.app), text::target(in_force.app));
        for (name, unit) in &in_force.app.units {
            match UnitId::parse(name.as_str()) {
                Ok(id) => {
                    let member = Member {
                        in_force: *in_force,
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
                Err(error) => {
                    plan.report
                        .unit(in_force.app.name.as_str(), name.to_string(), UnitReport::skipped(error))
                }
            }
        }
    }
    inherit(&mut claims);
    let whole = |members: &[Member<'_>]| members.iter().any(|m| matches!(m.unit.kind, UnitKind::Whole(_)));
    let wholes = claims.iter().filter(|(_, members)| whole(members));
    let host = Host {
        units,
        claimed: claims.keys().cloned().collect(),
        wholes: wholes.map(|(id, _)| id.clone()).collect(),
        manager: &inputs.manager,
        defaults: Defaults::read(units, &inputs.manager),
    };
    // Whole units may have one alias in common, so they know of each other; of all else nothing does.
    let (wholes, others): (Vec<Claim<'_>>, Vec<_>) = claims.into_iter().partition(|(id, _)| host.wholes.contains(id));
    plan.add(Part::of(&wholes, &host));
    for part in parallel::map(&others, |claims| Part::of(claims, &host)) {
        plan.add(part);
    }
    plan
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

impl Plan {
    /// Has a user's manager start venvd where that user has apps: not for all users of a host, most of whom have none.
    /// (The system's is enabled as any unit.)
    fn start_daemon(&mut self, inputs: &Inputs) {
        let declared = &inputs.declared;
        let has_apps = !declared.apps.is_empty() || !declared.broken.is_empty();
        if inputs.manager.scope == Scope::User && has_apps {
            let path = "default.target.wants/venvd.service".to_owned();
            self.links
                .insert(path, PathBuf::from("/usr/lib/systemd/user/venvd.service"));
        }
    }
}
