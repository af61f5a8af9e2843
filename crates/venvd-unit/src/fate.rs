//! What becomes of each assignment of a unit: whether it has an effect in the end, and if not, which other one is why.
//!
//! What `systemctl cat` shows and leaves to the reader. Keys that this does not know count as having an effect.

use crate::effective::{Effective, Entry};
use crate::name::UnitId;

/// Settings with one value: the last assignment counts (systemd.unit(5), systemd.service(5), systemd.exec(5) …).
const SINGLE: &[&str] = &[
    "BusName",
    "CPUQuota",
    "CPUWeight",
    "CollectMode",
    "DefaultDependencies",
    "Description",
    "DynamicUser",
    "ExitType",
    "FailureAction",
    "Group",
    "GuessMainPID",
    "IOWeight",
    "IgnoreSIGPIPE",
    "JobTimeoutSec",
    "KillMode",
    "KillSignal",
    "LimitCORE",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "LimitNPROC",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "MemoryHigh",
    "MemoryLimit",
    "MemoryMax",
    "Nice",
    "NoNewPrivileges",
    "NotifyAccess",
    "OOMPolicy",
    "OOMScoreAdjust",
    "OnFailureJobMode",
    "PAMName",
    "PIDFile",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectSystem",
    "RefuseManualStart",
    "RefuseManualStop",
    "RemainAfterExit",
    "RemoveIPC",
    "Restart",
    "RestartSec",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RootDirectory",
    "RootDirectoryStartOnly",
    "RuntimeMaxSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "Slice",
    "SourcePath",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "StartLimitAction",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "StopWhenUnneeded",
    "SyslogIdentifier",
    "SyslogLevel",
    "TasksMax",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "UMask",
    "User",
    "WatchdogSec",
    "WorkingDirectory",
];

/// Lists that an empty assignment empties.
const LISTS: &[&str] = &[
    "AmbientCapabilities",
    "BindPaths",
    "BindReadOnlyPaths",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "Documentation",
    "Environment",
    "EnvironmentFile",
    "ExecCondition",
    "ExecReload",
    "ExecSearchPath",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "ExecStop",
    "ExecStopPost",
    "InaccessiblePaths",
    "IPAddressAllow",
    "IPAddressDeny",
    "LoadCredential",
    "LogExtraFields",
    "PassEnvironment",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RestrictAddressFamilies",
    "SetCredential",
    "SuccessExitStatus",
    "SupplementaryGroups",
    "SystemCallFilter",
    "UnsetEnvironment",
];

/// What becomes of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate<'a> {
    /// It has its effect, as far as is known.
    Counts,
    /// A later empty assignment emptied the list.
    Emptied(&'a Entry),
    /// The setting has one value, and this is a later one.
    Replaced(&'a Entry),
    /// All that it gives variables, later assignments give them anew: the first of those.
    Overridden(&'a Entry),
    /// Some of its variables get other values later: their names, and where.
    Partly(Vec<(String, &'a Entry)>),
}

impl<'a> Fate<'a> {
    /// Returns the assignment that takes the whole effect away.
    #[must_use]
    pub fn lost_to(&self) -> Option<&'a Entry> {
        match self {
            Self::Emptied(by) | Self::Replaced(by) | Self::Overridden(by) => Some(by),
            Self::Counts | Self::Partly(_) => None,
        }
    }
}

/// Returns every assignment of a unit, in order, with what becomes of it.
#[must_use]
pub fn fates(unit: &Effective) -> Vec<(&Entry, Fate<'_>)> {
    let entries = unit.entries();
    let each = entries.iter().enumerate();
    each.map(|(index, entry)| (entry, fate(entry, &entries[index + 1..], &unit.found.id)))
        .collect()
}

fn fate<'a>(entry: &'a Entry, later: &'a [Entry], id: &UnitId) -> Fate<'a> {
    let (section, key) = (&entry.assignment.section, entry.assignment.key.as_str());
    let mut same = later
        .iter()
        .filter(|other| other.assignment.section == *section && other.assignment.key == key);
    if SINGLE.contains(&key) {
        return same.next_back().map_or(Fate::Counts, Fate::Replaced);
    }
    // To empty what is empty has no effect either, but nobody takes it for one.
    if !LISTS.contains(&key) || entry.value().is_empty() {
        return Fate::Counts;
    }
    if let Some(reset) = same.clone().find(|other| other.value().is_empty()) {
        return Fate::Emptied(reset);
    }
    if key == "Environment" {
        return variables(entry, &same.collect::<Vec<_>>(), id);
    }
    Fate::Counts
}

fn variables<'a>(entry: &'a Entry, later: &[&'a Entry], id: &UnitId) -> Fate<'a> {
    let set: Vec<String> = entry.variables(id).into_iter().map(|(name, _)| name).collect();
    let again = |name: &String| {
        let mut sets = later
            .iter()
            .filter(|other| other.variables(id).iter().any(|(other, _)| other == name));
        sets.next_back().copied()
    };
    let overridden: Vec<(String, &Entry)> = set
        .iter()
        .filter_map(|name| Some((name.clone(), again(name)?)))
        .collect();
    match overridden.first() {
        None => Fate::Counts,
        Some((_, by)) if overridden.len() == set.len() => Fate::Overridden(by),
        Some(_) => Fate::Partly(overridden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::Tree;
    use crate::{Unit, UnitFiles, effective};

    fn told(unit: &str, dropin: &str) -> Vec<String> {
        let tree = Tree::new();
        tree.file("usr/lib/systemd/system/a.service", unit);
        tree.file("etc/systemd/system/a.service.d/x.conf", dropin);
        let files = UnitFiles::scan(tree.root());
        let Unit::Loaded(unit) = effective::load(&files, &UnitId::parse("a.service").unwrap()) else {
            panic!()
        };
        let line = |entry: &Entry| {
            let file = entry.path.file_name().unwrap().to_str().unwrap();
            format!("{file}:{}", entry.assignment.line)
        };
        fates(&unit)
            .into_iter()
            .filter_map(|(entry, fate)| {
                let said = match fate {
                    Fate::Counts => return None,
                    Fate::Emptied(by) => format!("emptied {}", line(by)),
                    Fate::Replaced(by) => format!("replaced {}", line(by)),
                    Fate::Overridden(by) => format!("overridden {}", line(by)),
                    Fate::Partly(names) => {
                        let names: Vec<_> = names.iter().map(|(name, by)| format!("{name} {}", line(by))).collect();
                        format!("partly {}", names.join(" "))
                    }
                };
                Some(format!("{} {said}", line(entry)))
            })
            .collect()
    }

    #[test]
    fn what_has_no_effect() {
        const UNIT: &str = "[Unit]\nAfter=b.service\n[Service]\nType=simple\nExecStart=/bin/a\nExecStartPre=/bin/p\n\
                            Environment=A=1 B=2\nEnvironment=C=3\n";
        for (dropin, want) in [
            (
                "[Service]\nExecStart=\nExecStart=/bin/b\n",
                &["a.service:5 emptied x.conf:2"][..],
            ),
            ("[Unit]\nExecStart=\nAfter=\n", &[]),
            ("[Service]\nExecStart=/bin/b\n", &[]),
            (
                "[Service]\nType=exec\nType=notify\n",
                &["a.service:4 replaced x.conf:3", "x.conf:2 replaced x.conf:3"],
            ),
            ("[Service]\nEnvironment=A=9\n", &["a.service:7 partly A x.conf:2"]),
            (
                "[Service]\nEnvironment=B=9 A=9 \"C=x y\"\n",
                &["a.service:7 overridden x.conf:2", "a.service:8 overridden x.conf:2"],
            ),
            (
                "[Service]\nEnvironment=\n",
                &["a.service:7 emptied x.conf:2", "a.service:8 emptied x.conf:2"],
            ),
            (
                "[Service]\nExecStart=\nExecStart=/bin/b\nExecStart=\n",
                &["a.service:5 emptied x.conf:2", "x.conf:3 emptied x.conf:4"],
            ),
        ] {
            assert_eq!(told(UNIT, dropin), want, "{dropin}");
        }
    }

    #[test]
    fn the_tables_are_sorted_and_disjoint() {
        assert!(SINGLE.is_sorted());
        assert!(LISTS.iter().all(|key| !SINGLE.contains(key)));
    }
}
