//! A unit that venvd writes whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use venvd_app::definition::{Section, Whole};
use venvd_unit::{UnitFiles, UnitId};

use super::member::{Member, Skip};
use super::text::{Sections, default_path, escape_specifiers};
use super::{Plan, exec};
use crate::report::{UnitReport, UnitState};

/// Keys of a section and their values.
type Keys = BTreeMap<String, Vec<String>>;

/// Plans the file of a whole unit, and the links that enable it.
pub(crate) fn plan(plan: &mut Plan, (member, whole): (&Member<'_>, &Whole), units: &UnitFiles) {
    let id = &member.id;
    let mut report = UnitReport::new(UnitState::Whole);
    if let Some(own) = units.own_file(id) {
        // systemd.generator(7): what an administrator wrote comes first, what a package brought comes after.
        if units.is_mask(own) {
            return plan.skip(member, &Skip::Masked(own.to_owned()));
        }
        if own.starts_with("/etc") || own.starts_with("/run") {
            return plan.skip(member, &Skip::Hidden(own.to_owned()));
        }
        report.warnings.push(format!("it hides {}", own.display()));
    }
    let text = match text((member, whole), units.root()) {
        Ok(text) => text,
        Err(skip) => return plan.skip(member, &skip),
    };
    plan.files.insert(PathBuf::from(id.as_str()), text);
    if let Some(install) = whole.sections.get(&Section::Install) {
        for result in links(id, install) {
            match result {
                Ok((path, target)) => drop(plan.links.insert(path, target)),
                Err(skip) => report.warnings.push(skip.to_string()),
            }
        }
    }
    plan.tell(member, report);
}

fn text((member, whole): (&Member<'_>, &Whole), root: &Path) -> Result<String, Skip> {
    let exec = exec::own_line(&whole.exec, member)?;
    let app = member.in_force.app;
    let empty = Keys::new();
    let unit = whole.sections.get(&Section::Unit).unwrap_or(&empty);
    let service = whole.sections.get(&Section::Service).unwrap_or(&empty);
    let last = |key: &str| service.get(key).and_then(|values| values.last()).map(String::as_str);
    let mut sections = Sections::default();
    if !unit.contains_key("Description") {
        sections.unit(
            "Description",
            &format!("{} of {}", escape_specifiers(member.id.as_str()), app.name),
        );
    }
    sections.unit("SourcePath", &escape_specifiers(&app.source.display().to_string()));
    let path = default_path(root);
    sections.lead(member, (&path, &path));
    sections.belong(&member.in_force, member.restarts(last("Type").unwrap_or_default()));
    sections.variables(member);
    // Services of an app run as its user unless the definition says otherwise; as root they never run by accident.
    if let Some(user) = app
        .user
        .as_ref()
        .filter(|_| last("User").is_none() && last("DynamicUser").is_none())
    {
        sections.service("User", user.as_str());
    }
    for (key, value) in flat(unit) {
        sections.unit(key, value);
    }
    for (key, value) in flat(service) {
        sections.service(key, value);
    }
    sections.service("ExecStart", &exec);
    Ok(sections.finish(app))
}

fn flat(keys: &Keys) -> impl Iterator<Item = (&str, &str)> {
    keys.iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), value.as_str())))
}

/// Returns the links that `systemctl enable` would make, which it can't for generated units: below the generator's
/// directory, link and target.
fn links(id: &UnitId, install: &Keys) -> Vec<Result<(PathBuf, PathBuf), Skip>> {
    let words = |key: &str| -> Vec<String> {
        let values = install.get(key).into_iter().flatten();
        values
            .flat_map(|value| value.split_whitespace())
            .map(str::to_owned)
            .collect()
    };
    let refuse = |key: &str, value: &str, why: &'static str| {
        Err(Skip::Install {
            key: key.to_owned(),
            value: value.to_owned(),
            why,
        })
    };
    // systemd.unit(5): a template is enabled as its default instance.
    let name = match words("DefaultInstance").first() {
        Some(instance) if id.is_template() => {
            UnitId::parse(&id.as_str().replacen('@', &format!("@{instance}"), 1)).ok()
        }
        _ => Some(id.clone()).filter(|id| !id.is_template()),
    };
    let mut links = Vec::new();
    for (key, suffix) in [
        ("WantedBy", "wants"),
        ("RequiredBy", "requires"),
        ("UpheldBy", "upholds"),
    ] {
        for value in words(key) {
            links.push(match (&name, UnitId::parse(&value)) {
                (Some(name), Ok(by)) => Ok((
                    Path::new(&format!("{by}.{suffix}")).join(name.as_str()),
                    Path::new("..").join(id.as_str()),
                )),
                (None, _) => refuse(key, &value, "a template needs a DefaultInstance= to be enabled"),
                (_, Err(_)) => refuse(key, &value, "not a unit name; specifiers are not expanded here"),
            });
        }
    }
    for value in words("Alias") {
        links.push(match UnitId::parse(&value) {
            Ok(alias) if alias.kind() == id.kind() && alias.is_template() == id.is_template() && alias != *id => {
                Ok((PathBuf::from(alias.as_str()), PathBuf::from(id.as_str())))
            }
            _ => refuse("Alias", &value, "not another name for such a unit"),
        });
    }
    for (key, value) in flat(install) {
        if !["WantedBy", "RequiredBy", "UpheldBy", "Alias", "DefaultInstance"].contains(&key) {
            links.push(refuse(key, value, "it has no effect on a generated unit"));
        }
    }
    links
}
