//! The runtime target that starts a set of units, and what the generator says of units.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use venvd_app::{AppName, Layout, UnitName};
use venvd_fs::atomic;

const REPORT: &str = "venvd-report.json";

/// A target in `/run` that starts or stops a set of units in one transaction, gone when dropped.
///
/// Targets can't be transient units; but systemd finds a new file by itself, without a reload.
#[derive(Debug)]
pub(super) struct RuntimeTarget {
    name: String,
    path: PathBuf,
}

impl RuntimeTarget {
    /// Writes the target of this number of a transaction, which starts units when it is started.
    pub(super) fn starting(layout: &Layout, number: (u32, u32), units: &[&str]) -> Result<Self, venvd_fs::Error> {
        let units = units.join(" ");
        Self::write(layout, number, &format!("Wants={units}\nAfter={units}"))
    }

    /// Writes one that stops units when it is stopped.
    pub(super) fn stopping(layout: &Layout, number: (u32, u32), units: &[&str]) -> Result<Self, venvd_fs::Error> {
        Self::write(layout, number, &format!("PropagatesStopTo={}", units.join(" ")))
    }

    fn write(layout: &Layout, (transaction, number): (u32, u32), settings: &str) -> Result<Self, venvd_fs::Error> {
        let name = format!("venvd-txn-{transaction}-{number}.target");
        let path = layout.runtime_units().join(&name);
        let text = format!(
            "# Written by venvd for one activation, and removed with it\n[Unit]\n\
             Description=Units of activation {transaction} of venvd\nDefaultDependencies=no\n{settings}\n"
        );
        atomic::write(&path, text.as_bytes(), 0o644)?;
        Ok(Self { name, path })
    }

    /// Returns its unit name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for RuntimeTarget {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {:?}: {error}", self.path);
        }
    }
}

/// Returns why the generator left a unit as it was, unless an administrator told it to.
///
/// The report is for people first, so whatever is not as expected in it counts as nothing said.
pub(super) fn skipped(layout: &Layout, app: &AppName, unit: &UnitName) -> Option<String> {
    let text = fs::read(layout.generated().join(REPORT)).ok()?;
    let report: Value = serde_json::from_slice(&text).ok()?;
    let units = report.get("apps")?.get(app.as_str())?.get("units")?;
    let state = units
        .get(unit.as_str())
        .or_else(|| units.get(unit.template()?.as_str()))?;
    let reason = state.get("reason")?.as_str()?;
    // A drop-in of ours that is masked by name is the administrator's way to keep a unit out.
    (!reason.starts_with("switched off")).then(|| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn the_target_is_there_as_long_as_it_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let units = ["nova-api.service", "nova-worker.service"];
        let target = RuntimeTarget::starting(&layout, (7, 0), &units).unwrap();
        let path = directory.path().join("run/systemd/system").join(target.name());
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("Wants=nova-api.service nova-worker.service\nAfter=nova-api.service nova-worker.service\n"),
            "{text}"
        );
        let stopping = RuntimeTarget::stopping(&layout, (7, 1), &units).unwrap();
        let text = fs::read_to_string(&stopping.path).unwrap();
        assert!(
            text.contains("PropagatesStopTo=nova-api.service nova-worker.service\n"),
            "{text}"
        );
        drop(target);
        assert!(!path.exists());
    }

    #[test]
    fn reads_what_the_generator_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let (app, unit): (AppName, UnitName) = ("nova".parse().unwrap(), "a.service".parse().unwrap());
        assert_eq!(skipped(&layout, &app, &unit), None);
        let report = r#"{"apps": {"nova": {"state": "in-force", "units": {
            "a.service": {"state": "skipped", "reason": "no program"},
            "b@.service": {"state": "skipped", "reason": "of the template"},
            "c.service": {"state": "skipped", "reason": "switched off by /etc/x"},
            "d.service": {"state": "exec"}}}}}"#;
        atomic::write(&layout.generated().join(REPORT), report.as_bytes(), 0o644).unwrap();
        for (unit, expected) in [
            ("a.service", Some("no program")),
            ("b@1.service", Some("of the template")),
            ("c.service", None),
            ("d.service", None),
            ("e.service", None),
        ] {
            assert_eq!(
                skipped(&layout, &app, &unit.parse().unwrap()).as_deref(),
                expected,
                "{unit}"
            );
        }
    }
}
