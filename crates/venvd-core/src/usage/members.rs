//! Which cgroup belongs to which app.

use std::collections::{BTreeMap, BTreeSet};

use venvd_app::search::{self, LoadError};
use venvd_app::{AppName, Layout, Scope};

/// The units of apps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members {
    units: BTreeMap<AppName, BTreeSet<String>>,
    /// Apps whose units are not known, and why.
    pub(super) unknown: BTreeMap<AppName, String>,
}

impl Members {
    /// Reads the definitions of apps: as they are written, and as they were accepted last, since a unit that was taken
    /// out of a definition may still run.
    pub(super) fn of(layout: &Layout, apps: BTreeSet<&AppName>) -> Self {
        let mut members = Self::default();
        for app in apps {
            let written = search::load_app(layout, app);
            let accepted = search::load_accepted(layout, app);
            match (&written, &accepted) {
                // An app that nobody declares has no units.
                (Ok(_) | Err(LoadError::Unknown { .. }), _) | (_, Ok(Some(_))) => {}
                (Err(error), _) => drop(members.unknown.insert(app.clone(), venvd_fs::report(error))),
            }
            let units = written.into_iter().chain(accepted.into_iter().flatten());
            let units = units.flat_map(|app| app.units.into_keys().map(String::from).collect::<Vec<_>>());
            members.units.insert(app.clone(), units.collect());
        }
        members
    }

    /// Returns the apps that a unit belongs to; apache2.service may belong to several.
    pub(super) fn apps_of<'a>(&'a self, unit: Option<&'a str>) -> impl Iterator<Item = &'a AppName> {
        let template = unit.and_then(template);
        self.units
            .iter()
            .filter(move |(_, units)| {
                [unit, template.as_deref()]
                    .into_iter()
                    .flatten()
                    .any(|unit| units.contains(unit))
            })
            .map(|(app, _)| app)
    }
}

/// `a@.service` of `a@b.service`
fn template(unit: &str) -> Option<String> {
    let (prefix, rest) = unit.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{kind}"))
}

/// Returns the service in whose cgroup a process is, by `/proc/PID/cgroup`: cgroups(7).
///
/// The first unit on the way down counts: below a user's manager or a container are other systemds' units of the same
/// names. For a user's venvs it is the first one below that user's manager, which is `user@UID.service`.
pub(super) fn service(cgroup: &str, scope: Scope) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        // The unified hierarchy, or systemd's own where there are several.
        if !matches!(controllers, "" | "name=systemd") {
            return None;
        }
        let mut parts = path.split('/');
        if scope == Scope::User {
            parts.find(|part| part.starts_with("user@") && part.ends_with(".service"))?;
        }
        let unit = parts.find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
        // `cg_escape()`: systemd puts an underscore before what the kernel could take for a file of its own.
        let unit = unit.strip_prefix('_').unwrap_or(unit);
        unit.ends_with(".service").then(|| unit.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_service_of_a_cgroup_counts() {
        for (cgroup, unit) in [
            ("0::/system.slice/nova-api.service\n", Some("nova-api.service")),
            (
                "0::/system.slice/nova-api.service/sub/x.service\n",
                Some("nova-api.service"),
            ),
            (
                "0::/system.slice/system-nova\\x2dworker.slice/nova-worker@a.b.service\n",
                Some("nova-worker@a.b.service"),
            ),
            (
                "5:cpu:/x.service\n1:name=systemd:/system.slice/a.service\n0::/\n",
                Some("a.service"),
            ),
            ("0::/system.slice/_cpu.service\n", Some("cpu.service")),
            (
                "0::/user.slice/user-1.slice/user@1.service/app.slice/nova-api.service\n",
                Some("user@1.service"),
            ),
            (
                "0::/machine.slice/machine-x.scope/payload/system.slice/nova-api.service\n",
                None,
            ),
            ("0::/init.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(service(cgroup, Scope::System).as_deref(), unit, "{cgroup}");
        }
        for (cgroup, unit) in [
            (
                "0::/user.slice/user-1.slice/user@1.service/app.slice/nova-api.service\n",
                Some("nova-api.service"),
            ),
            ("0::/user.slice/user-1.slice/user@1.service/init.scope\n", None),
            ("0::/user.slice/user-1.slice/session-2.scope\n", None),
            ("0::/system.slice/nova-api.service\n", None),
        ] {
            assert_eq!(service(cgroup, Scope::User).as_deref(), unit, "{cgroup}");
        }
    }

    #[test]
    fn an_instance_belongs_to_its_template() {
        assert_eq!(template("a@b.c.service").as_deref(), Some("a@.service"));
        assert_eq!(template("a.service"), None);
    }
}
