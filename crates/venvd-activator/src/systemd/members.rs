//! Which units an app has on this host, and how they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use venvd_app::definition::{Restart, UnitKind};
use venvd_app::{App, UnitName};
use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::proxies::ManagerProxy;
use super::settle::Observation;
use crate::transaction::CapturedUnit;

pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
const JOB: &str = "org.freedesktop.systemd1.Job";

/// The properties of an object in one interface.
pub(super) struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    pub(super) async fn of(
        connection: &Connection,
        path: &OwnedObjectPath,
        interface: &'static str,
    ) -> zbus::Result<Self> {
        let properties = zbus::fdo::PropertiesProxy::builder(connection)
            .destination("org.freedesktop.systemd1")
            .path(path)
            .build()
            .await?;
        let interface = InterfaceName::from_static_str(interface)?;
        Ok(Self(properties.get_all(interface).await?.into_iter().collect()))
    }

    /// Takes a property; the default where this systemd has none of that name and type.
    pub(super) fn take<T: TryFrom<OwnedVariant> + Default>(&mut self, name: &str) -> T {
        self.0
            .remove(name)
            .and_then(|value| T::try_from(value).ok())
            .unwrap_or_default()
    }
}

/// Returns how a unit is.
pub(super) async fn observe(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    unit: &UnitName,
) -> zbus::Result<Observation> {
    let path = manager.load_unit(unit.as_str()).await?;
    let mut properties = Properties::of(connection, &path, UNIT).await?;
    let mut service = Properties::of(connection, &path, SERVICE).await?;
    let environment: Vec<String> = service.take("Environment");
    let main_pid: u32 = service.take("MainPID");
    Ok(Observation {
        load: properties.take("LoadState"),
        active: properties.take("ActiveState"),
        sub: properties.take("SubState"),
        invocation: hex(&properties.take::<Vec<u8>>("InvocationID")),
        restarts: service.take("NRestarts"),
        oneshot: service.take::<String>("Type") == "oneshot",
        result: service.take("Result"),
        status: service.take("ExecMainStatus"),
        // Of several assignments the last one holds.
        configured: environment
            .iter()
            .rev()
            .find_map(|variable| tag_in(variable.as_bytes())),
        running: running_tag(main_pid),
    })
}

/// Returns whether a unit follows a target.
pub(super) async fn is_part_of(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    (unit, target): (&UnitName, &str),
) -> zbus::Result<bool> {
    let path = manager.load_unit(unit.as_str()).await?;
    let mut properties = Properties::of(connection, &path, UNIT).await?;
    Ok(properties
        .take::<Vec<String>>("PartOf")
        .iter()
        .any(|other| other == target))
}

/// Returns those of a target, what follows it, and further units that are up, each once.
pub(super) async fn up(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    (target, further): (&str, Vec<String>),
) -> zbus::Result<Vec<String>> {
    let path = manager.load_unit(target).await?;
    let followers: Vec<String> = Properties::of(connection, &path, UNIT).await?.take("ConsistsOf");
    let all: BTreeSet<String> = further
        .into_iter()
        .chain(followers)
        .chain([target.to_owned()])
        .collect();
    let mut up = Vec::new();
    for unit in all {
        let path = manager.load_unit(&unit).await?;
        let active: String = Properties::of(connection, &path, UNIT).await?.take("ActiveState");
        if !["inactive", "failed"].contains(&active.as_str()) {
            up.push(unit);
        }
    }
    Ok(up)
}

/// Returns the units of an app that run or were meant to, each once, under systemd's own name for it.
pub(super) async fn capture(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    app: &App,
) -> zbus::Result<Vec<CapturedUnit>> {
    let mut captured = BTreeMap::new();
    for (declared, unit) in &app.units {
        if unit.restart == Some(Restart::None) {
            continue;
        }
        let tagged = !matches!(unit.kind, UnitKind::Environment);
        for name in instances(manager, declared).await? {
            let path = manager.load_unit(&name).await?;
            let mut properties = Properties::of(connection, &path, UNIT).await?;
            let service_type: String = Properties::of(connection, &path, SERVICE).await?.take("Type");
            if unit.restart.is_none() && service_type == "oneshot" {
                continue;
            }
            let Some(running) = is_wanted(connection, &mut properties).await? else {
                continue;
            };
            // An alias leads to another name; one that isn't a unit's can't be ours.
            let Ok(unit) = properties.take::<String>("Id").parse::<UnitName>() else {
                continue;
            };
            let invocation = hex(&properties.take::<Vec<u8>>("InvocationID"));
            let entry = CapturedUnit {
                unit: unit.clone(),
                invocation,
                running,
                tagged,
            };
            captured.insert(unit, entry);
        }
    }
    Ok(captured.into_values().collect())
}

/// Returns the unit, or of a template the instances that systemd knows.
pub(super) async fn instances(manager: &ManagerProxy<'static>, unit: &UnitName) -> zbus::Result<Vec<String>> {
    if !unit.is_template() {
        return Ok(vec![unit.to_string()]);
    }
    let pattern = unit.as_str().replacen("@.", "@*.", 1);
    let listed = manager.list_units_by_patterns(&[], &[&pattern]).await?;
    Ok(listed.into_iter().map(|unit| unit.0).collect())
}

/// Returns whether the unit runs (`Some(true)`), should (`Some(false)`: it failed, or its start is under way), or
/// neither.
async fn is_wanted(connection: &Connection, unit: &mut Properties) -> zbus::Result<Option<bool>> {
    if unit.take::<String>("LoadState") != "loaded" {
        return Ok(None);
    }
    let active: String = unit.take("ActiveState");
    let sub: String = unit.take("SubState");
    Ok(match active.as_str() {
        "active" | "reloading" | "refreshing" => Some(true),
        "activating" => Some(!sub.starts_with("auto-restart")),
        "failed" => Some(false),
        _ => {
            let (id, job): (u32, OwnedObjectPath) = match unit.0.remove("Job") {
                Some(job) => job.try_into()?,
                None => return Ok(None),
            };
            if id == 0 {
                return Ok(None);
            }
            // A job may end while it is looked at; then it is no reason to start anything.
            match Properties::of(connection, &job, JOB).await {
                Ok(mut job) => (job.take::<String>("JobType") != "stop").then_some(false),
                Err(_) => None,
            }
        }
    })
}

fn running_tag(main_pid: u32) -> Option<String> {
    if main_pid == 0 {
        return None;
    }
    // The process may be gone by now; then the unit's state tells.
    let environment = fs::read(format!("/proc/{main_pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(tag_in)
}

fn tag_in(variable: &[u8]) -> Option<String> {
    let tag = variable.strip_prefix(b"VENVD_TAG=")?;
    Some(String::from_utf8_lossy(tag).into_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_environments() {
        assert_eq!(tag_in(b"VENVD_TAG=29.2.0").as_deref(), Some("29.2.0"));
        assert_eq!(tag_in(b"XVENVD_TAG=1"), None);
        assert_eq!(running_tag(0), None);
        assert_eq!(hex(&[0, 171]), "00ab");
    }
}
