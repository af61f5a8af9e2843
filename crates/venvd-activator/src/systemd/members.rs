//! Which units an app has on this host, and how they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use futures_util::{StreamExt, TryStreamExt, stream};
use venvd_app::definition::{Restart, UnitKind};
use venvd_app::{App, UnitName};
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::proxies::{Listed, ManagerProxy};
use super::settle::Observation;
use crate::transaction::CapturedUnit;
use crate::units::LeftDown;

pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// The properties of an object in one interface.
pub(super) struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    pub(super) async fn of(
        connection: &Connection,
        path: &OwnedObjectPath,
        interface: &'static str,
    ) -> zbus::Result<Self> {
        let properties = properties(connection, path).await?;
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

async fn properties<'a>(connection: &Connection, path: &'a OwnedObjectPath) -> zbus::Result<PropertiesProxy<'a>> {
    PropertiesProxy::builder(connection)
        .destination("org.freedesktop.systemd1")
        .path(path)
        .build()
        .await
}

/// How many questions are under way at once. A bus lets a connection wait for 128 answers, `max_replies_per_connection`
/// of dbus-daemon(1).
const AT_ONCE: usize = 32;

/// Asks many things at once, and returns the answers in their order: a host may have hundreds of units, and most of the
/// time of a question is the way.
pub(super) async fn all<T>(questions: Vec<impl Future<Output = zbus::Result<T>>>) -> zbus::Result<Vec<T>> {
    stream::iter(questions).buffered(AT_ONCE).try_collect().await
}

/// Returns a property of a unit; the default where this systemd has none of that name and type.
pub(super) async fn property<T: TryFrom<OwnedVariant> + Default>(
    connection: &Connection,
    path: &OwnedObjectPath,
    (interface, name): (&'static str, &'static str),
) -> zbus::Result<T> {
    let properties = properties(connection, path).await?;
    let interface = InterfaceName::from_static_str(interface)?;
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
        main_pid,
        shown: BTreeMap::new(),
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
    let (mut seen, mut next) = (own.clone(), own.iter().cloned().collect::<Vec<_>>());
    while !next.is_empty() {
        let names: Vec<&str> = next.iter().map(String::as_str).collect();
        let listed = manager.list_units_by_names(&names).await?;
        let questions = listed.iter().map(|unit| Properties::of(connection, &unit.6, UNIT));
        next.clear();
        for mut properties in all(questions.collect()).await? {
            let dependents = DEPENDENTS
                .into_iter()
                .flat_map(|name| properties.take::<Vec<String>>(name));
            next.extend(dependents.filter(|unit| seen.insert(unit.clone())));
        }
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
    let mut declared = Vec::new();
    for (name, unit) in &app.units {
        if unit.restart != Some(Restart::None) {
            let instances = instances(manager, name).await?;
            declared.extend(instances.into_iter().map(|name| (name, unit)));
        }
    }
    let names: Vec<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
    // In the order of the names, each under its own: an alias leads to another.
    let listed = manager.list_units_by_names(&names).await?;
    let questions = declared.into_iter().zip(listed).map(|((_, unit), listed)| {
        let tagged = !matches!(unit.kind, UnitKind::Environment);
        capture_one(connection, (listed, unit.restart, tagged), left)
    });
    let captured = all(questions.collect()).await?.into_iter().flatten();
    let captured: BTreeMap<UnitName, CapturedUnit> = captured.map(|unit| (unit.unit.clone(), unit)).collect();
    Ok(captured.into_values().collect())
}

async fn capture_one(
    connection: &Connection,
    (listed, restart, tagged): (Listed, Option<Restart>, bool),
    left: &LeftDown,
) -> zbus::Result<Option<CapturedUnit>> {
    let path = &listed.6;
    // One that isn't a unit's name can't be ours.
    let Ok(unit) = listed.0.parse::<UnitName>() else {
        return Ok(None);
    };
    if listed.2 != "loaded" {
        return Ok(None);
    }
    if restart.is_none() && property::<String>(connection, path, (SERVICE, "Type")).await? == "oneshot" {
        return Ok(None);
    }
    if is_vital(&unit) {
        tracing::warn!("{unit} is left alone: without it no activation could go on");
        return Ok(None);
    }
    let was_left = left.units.contains(&unit) && {
        let down_since: u64 = property(connection, path, (UNIT, "InactiveEnterTimestamp")).await?;
        down_since / 1_000_000 <= left.since
    };
    let Some(running) = is_wanted(&listed).or(was_left.then_some(false)) else {
        return Ok(None);
    };
    let invocation: Vec<u8> = property(connection, path, (UNIT, "InvocationID")).await?;
    Ok(Some(CapturedUnit {
        unit,
        invocation: hex(&invocation),
        running,
        tagged,
        own_stop: false,
    }))
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
fn is_wanted(unit: &Listed) -> Option<bool> {
    let (active, sub, job, job_type) = (unit.3.as_str(), unit.4.as_str(), unit.7, unit.8.as_str());
    match active {
        "active" | "reloading" | "refreshing" => Some(true),
        "activating" => Some(!sub.starts_with("auto-restart")),
        "failed" => Some(false),
        _ => (job != 0 && job_type != "stop").then_some(false),
    }
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
