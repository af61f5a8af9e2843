//! A unit that venvd writes whole.

use std::path::PathBuf;

use venvd_app::definition::{Section, UnitKind, Whole};
use venvd_unit::UnitId;

use super::install::{Install, Keys};
use super::member::{Member, Skip};
use super::part::Part;
use super::text::{self, Sections, escape_specifiers, source_path};
use super::variables::{self, Paths};
use super::{Host, exec};
use crate::report::{UnitReport, UnitState};

/// The name of drop-ins that do for older systemds what links in `.upholds` do for newer ones.
const UPHOLDS: &str = "zz-venvd-upholds.conf";

/// Plans the file of a whole unit, and the links that enable it. `members` are its own app first, then those that set
/// variables on it.
pub(super) fn plan(plan: &mut Part, members: &[Member<'_>], host: &Host<'_>) {
    let Some((member, others)) = members.split_first() else {
        return;
    };
    let UnitKind::Whole(whole) = &member.unit.kind else {
        return;
    };
    let mut report = UnitReport::new(UnitState::Whole);
    let service = whole.sections.get(&Section::Service);
    let stops = exec::STOP.iter().filter_map(|key| service?.get(*key)).flatten();
    report.own_stop = stops.into_iter().any(|line| exec::is_of_venv(line));
    match shadow(host, &member.id) {
        Shadow::None => {}
        Shadow::Hides(warning) => report.warnings.push(warning),
        Shadow::Hidden(skip) => {
            for other in others {
                plan.skip(other, &Skip::Whole);
            }
            return plan.skip(member, &skip);
        }
    }
    let (text, warnings) = match text((member, whole), others, host) {
        Ok(text) => text,
        Err(skip) => {
            for other in others {
                plan.skip(other, &Skip::Whole);
            }
            return plan.skip(member, &skip);
        }
    };
    report.warnings.extend(warnings);
    plan.files.insert(member.id.to_string(), text);
    if let Some(install) = whole.sections.get(&Section::Install) {
        report.warnings.extend(enable(plan, member, install, host));
    }
    plan.tell(member, report);
    for other in others {
        plan.tell(other, UnitReport::new(UnitState::Environment));
    }
}

/// What a file that is there already means for one of ours.
enum Shadow {
    None,
    Hides(String),
    Hidden(Skip),
}

/// systemd.generator(7): what an administrator wrote comes first, what a package brought comes after.
fn shadow(host: &Host<'_>, id: &UnitId) -> Shadow {
    let Some(own) = host.units.own_file(id) else {
        return Shadow::None;
    };
    if host.units.is_mask(own) {
        return Shadow::Hidden(Skip::Masked(own.to_owned()));
    }
    if host.manager.hides_generated(own) {
        return Shadow::Hidden(Skip::Hidden(own.to_owned()));
    }
    Shadow::Hides(format!("it hides {}", own.display()))
}

/// Plans the links of the `[Install]` section, and returns what of it has no effect.
fn enable(plan: &mut Part, member: &Member<'_>, keys: &Keys, host: &Host<'_>) -> Vec<String> {
    let install = Install::read(&member.id, keys);
    let mut warnings: Vec<_> = install.refused.iter().map(ToString::to_string).collect();
    plan.links.extend(install.dependencies);
    for (by, name) in install.upholds {
        let text = plan.files.entry(format!("{by}.d/{UPHOLDS}"));
        let text = text.or_insert_with(|| format!("{}\n[Unit]\n", text::header(member.in_force)));
        text.push_str(&format!("Upholds={name}\n"));
    }
    for alias in install.aliases {
        if host.wholes.contains(&alias) || plan.links.contains_key(alias.as_str()) {
            warnings.push(format!("[Install] Alias={alias}: another unit of venvd has that name"));
            continue;
        }
        match shadow(host, &alias) {
            Shadow::Hidden(skip) => {
                warnings.push(format!("[Install] Alias={alias}: {skip}"));
                continue;
            }
            Shadow::Hides(warning) => warnings.push(format!("[Install] Alias={alias}: {warning}")),
            Shadow::None => {}
        }
        plan.links.insert(alias.to_string(), PathBuf::from(member.id.as_str()));
    }
    let ours = |also: &String| host.wholes.iter().any(|whole| whole.as_str() == also);
    warnings.extend(install.also.iter().filter(|also| !ours(also)).map(|also| {
        format!(
            "[Install] Also={also}: only units that venvd writes are enabled with this one; `systemctl enable {also}`"
        )
    }));
    warnings
}

/// Returns the file's text, and what is odd about it.
fn text(
    (member, whole): (&Member<'_>, &Whole),
    others: &[Member<'_>],
    host: &Host<'_>,
) -> Result<(String, Vec<String>), Skip> {
    let mut warnings = Vec::new();
    let in_force = member.in_force;
    let empty = Keys::new();
    let unit = whole.sections.get(&Section::Unit).unwrap_or(&empty);
    let mut sections = Sections::of(member.id.kind());
    if !unit.contains_key("Description") {
        sections.unit(
            "Description",
            &format!("{} of {}", escape_specifiers(member.id.as_str()), in_force.app.name),
        );
    }
    sections.unit("SourcePath", &source_path(in_force));
    match &whole.exec {
        Some(line) => {
            let exec = exec::own_line(line, member)?;
            warnings = service(&mut sections, (member, whole), host);
            for other in others {
                sections.belong(other.in_force, false);
                sections.variables(other);
            }
            sections.own("ExecStart", &exec);
        }
        None => {
            for key in [Section::Socket, Section::Timer] {
                for (key, value) in flat(whole.sections.get(&key).unwrap_or(&empty)) {
                    sections.own(key, &member.expand(value));
                }
            }
        }
    }
    for (key, value) in flat(unit) {
        sections.unit(key, &member.expand(value));
    }
    Ok((sections.finish(in_force), warnings))
}

/// Fills the `[Service]` section but for its command line; returns what has the last word over it.
fn service(sections: &mut Sections, (member, whole): (&Member<'_>, &Whole), host: &Host<'_>) -> Vec<String> {
    let empty = Keys::new();
    let service = whole.sections.get(&Section::Service).unwrap_or(&empty);
    let last = |key: &str| service.get(key).and_then(|values| values.last()).map(String::as_str);
    // Services of an app run as its user unless the definition says otherwise; as root they never run by accident.
    let user = member.in_force.app.user.as_ref();
    if let Some(user) = user.filter(|_| last("User").is_none() && last("DynamicUser").is_none()) {
        sections.own("User", user.as_str());
    }
    for (key, value) in flat(service) {
        sections.own(key, &member.expand(value));
    }
    let unit = sections.effective(&member.id, &member.in_force.app.source);
    sections.lead(member, &Paths::of(&unit, &host.defaults));
    sections.belong(member.in_force, member.restarts(last("Type").unwrap_or_default()));
    sections.variables(member);
    let mut warnings = variables::overruled(&unit, (member, true), host.units.root());
    warnings.extend(
        unit.troubles
            .iter()
            .map(|trouble| format!("systemd ignores {}", trouble.what)),
    );
    warnings
}

fn flat(keys: &Keys) -> impl Iterator<Item = (&str, &str)> {
    keys.iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), value.as_str())))
}
