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
use crate::units::LeftDown;

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

/// Returns a property of a unit; the default where this systemd has none of that name and type.
pub(super) async fn property<T: TryFrom<OwnedVariant> + Default>(
    connection: &Connection,
    path: &OwnedObjectPath,
    name: &'static str,
) -> zbus::Result<T> {
    let properties = zbus::fdo::PropertiesProxy::builder(connection)
        .destination("org.freedesktop.systemd1")
        .path(path)
        .build()
        .await?;
    let interface = InterfaceName::from_static_str(UNIT)?;
    let value = properties.get(interface, name).await?;
    Ok(T::try_from(value).unwrap_or_default())
}

/// Returns how a unit is.
pub(super) async fn observe(connection: &Connection, path: &OwnedObjectPath) -> zbus::Result<Observation> {
    let mut properties = Properties::of(connection, path, UNIT).await?;
    let mut service = Properties::of(connection, path, SERVICE).await?;
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

/// Returns those of the units that are up.
pub(super) async fn up(
    manager: &ManagerProxy<'static>,
    units: impl IntoIterator<Item = String>,
) -> zbus::Result<Vec<String>> {
    let units: BTreeSet<String> = units.into_iter().collect();
    let names: Vec<&str> = units.iter().map(String::as_str).collect();
    let listed = manager.list_units_by_names(&names).await?;
    let up = listed
        .into_iter()
        .filter(|unit| !["inactive", "failed"].contains(&unit.3.as_str()));
    Ok(up.map(|unit| unit.0).collect())
}

/// The properties that name the units which go down with one: systemd's `UNIT_ATOM_PROPAGATE_STOP`.
const DEPENDENTS: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];

/// Returns the units that go down with these and are none of them, and run.
///
/// Not targets: whatever one wants would be started with it, also what somebody has stopped.
pub(super) async fn dependents(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    units: impl IntoIterator<Item = String>,
) -> zbus::Result<Vec<UnitName>> {
    let own: BTreeSet<String> = units.into_iter().collect();
    let (mut seen, mut queue) = (own.clone(), own.iter().cloned().collect::<Vec<_>>());
    while let Some(unit) = queue.pop() {
        let path = manager.load_unit(&unit).await?;
        let mut properties = Properties::of(connection, &path, UNIT).await?;
        let next = DEPENDENTS
            .into_iter()
            .flat_map(|name| properties.take::<Vec<String>>(name));
        queue.extend(next.filter(|unit| seen.insert(unit.clone())).collect::<Vec<_>>());
    }
    let outside = seen.into_iter().filter(|unit| !own.contains(unit));
    let outside: Vec<UnitName> = outside.filter_map(|unit| unit.parse().ok()).collect();
    let names = outside
        .iter()
        .filter(|unit| unit.kind() != "target")
        .map(ToString::to_string);
    let up = up(manager, names).await?;
    Ok(outside
        .into_iter()
        .filter(|unit| up.contains(&unit.to_string()))
        .collect())
}

/// Returns whether a unit is one that no activation stops: systemd's own, the bus's, ours.
pub(super) fn is_vital(unit: &UnitName) -> bool {
    let name = unit.as_str();
    let buses = ["dbus.service", "dbus.socket", "dbus-broker.service"];
    buses.contains(&name)
        || ["systemd-", "venvd-", "venvd."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Returns the units of an app that run or were meant to, each once, under systemd's own name for it.
pub(super) async fn capture(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    (app, left): (&App, &LeftDown),
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
            if properties.take::<String>("LoadState") != "loaded" {
                continue;
            }
            let down_since: u64 = properties.take("InactiveEnterTimestamp");
            let wanted = is_wanted(connection, &mut properties).await?;
            // An alias leads to another name; one that isn't a unit's can't be ours.
            let Ok(unit) = properties.take::<String>("Id").parse::<UnitName>() else {
                continue;
            };
            if is_vital(&unit) {
                tracing::warn!("{unit} is left alone: without it no activation could go on");
                continue;
            }
            let was_left = left.units.contains(&unit) && down_since / 1_000_000 <= left.since;
            let Some(running) = wanted.or(was_left.then_some(false)) else {
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
    fn what_no_activation_stops() {
        for (unit, vital) in [
            ("dbus.service", true),
            ("dbus-broker.service", true),
            ("systemd-journald.service", true),
            ("venvd.service", true),
            ("dbusproxy.service", false),
            ("nova-api.service", false),
        ] {
            assert_eq!(is_vital(&unit.parse().unwrap()), vital, "{unit}");
        }
    }

    #[test]
    fn tags_of_environments() {
        assert_eq!(tag_in(b"VENVD_TAG=29.2.0").as_deref(), Some("29.2.0"));
        assert_eq!(tag_in(b"XVENVD_TAG=1"), None);
        assert_eq!(running_tag(0), None);
        assert_eq!(hex(&[0, 171]), "00ab");
    }
}
