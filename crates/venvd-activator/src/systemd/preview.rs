//! What the generator will make of units, before anything is changed: it is asked itself, so that there is one answer.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use venvd_app::{AppName, Layout, Record, Scope, UnitName};

/// Where the generator is, seen from the directory of this program (`/usr/lib/venvd`).
const GENERATOR: &str = "../systemd/system-generators/venvd-generator";
/// How the generator's reason begins where our drop-in is masked by name: the administrator's way to keep a unit out.
const SWITCHED_OFF: &str = "switched off";
const REPORT: &str = "venvd-report.json";

/// What became of the units, or would become of them.
///
/// The report is for people first, so whatever is not as expected in it counts as nothing said.
#[derive(Debug, Default)]
pub(super) struct Report(Value);

impl Report {
    /// Reads what the generator wrote when systemd read its units last.
    pub(super) fn of_last_reload(layout: &Layout) -> Self {
        let text = std::fs::read(layout.generated().join(REPORT)).unwrap_or_default();
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Asks what would become of them with these venvs in force.
    ///
    /// # Errors
    /// When it can't be asked.
    pub(super) fn with(scope: Scope, records: &[Record]) -> Result<Self, String> {
        let generator = generator()?;
        let mut command = Command::new(&generator);
        if scope == Scope::User {
            command.env("SYSTEMD_SCOPE", "user");
        }
        let failed = |error: std::io::Error| format!("cannot run {generator:?}: {error}");
        let mut child = command
            .arg("--preview")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let text = serde_json::to_vec(records).map_err(|error| error.to_string())?;
        // One that ends early says so by its status.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(&text)));
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            return Err(format!("{generator:?} failed ({})", output.status));
        }
        serde_json::from_slice(&output.stdout)
            .map(Self)
            .map_err(|error| format!("{generator:?} wrote what is no report: {error}"))
    }

    /// Returns why the generator leaves a unit as it is, unless an administrator told it to.
    pub(super) fn skipped(&self, app: &AppName, unit: &UnitName) -> Option<String> {
        let reason = self.reason(app, unit)?;
        (!reason.starts_with(SWITCHED_OFF)).then(|| reason.to_owned())
    }

    /// Returns whether an administrator told the generator to leave a unit as it is.
    pub(super) fn is_switched_off(&self, app: &AppName, unit: &UnitName) -> bool {
        self.reason(app, unit)
            .is_some_and(|reason| reason.starts_with(SWITCHED_OFF))
    }

    /// Returns whether a program of the venv stops a unit.
    pub(super) fn has_own_stop(&self, app: &AppName, unit: &UnitName) -> bool {
        let found = self.unit(app, unit).and_then(|unit| unit.get("own_stop"));
        found == Some(&Value::Bool(true))
    }

    fn reason(&self, app: &AppName, unit: &UnitName) -> Option<&str> {
        self.unit(app, unit)?.get("reason")?.as_str()
    }

    fn unit(&self, app: &AppName, unit: &UnitName) -> Option<&Value> {
        let units = self.0.get("apps")?.get(app.as_str())?.get("units")?;
        units
            .get(unit.as_str())
            .or_else(|| units.get(unit.template()?.as_str()))
    }
}

fn generator() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("it is not known where venvd lies: {error}"))?;
    Ok(program.parent().unwrap_or(&program).join(GENERATOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::{Root, atomic};

    #[test]
    fn reads_what_the_generator_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let (app, unit): (AppName, UnitName) = ("nova".parse().unwrap(), "a.service".parse().unwrap());
        assert_eq!(Report::of_last_reload(&layout).skipped(&app, &unit), None);
        let report = r#"{"apps": {"nova": {"state": "in-force", "units": {
            "a.service": {"state": "skipped", "reason": "no program"},
            "b@.service": {"state": "skipped", "reason": "of the template"},
            "c.service": {"state": "skipped", "reason": "switched off by /etc/x"},
            "d.service": {"state": "exec", "own_stop": true}}}}}"#;
        atomic::write(&layout.generated().join(REPORT), report.as_bytes(), 0o644).unwrap();
        let report = Report::of_last_reload(&layout);
        for (unit, expected) in [
            ("a.service", Some("no program")),
            ("b@1.service", Some("of the template")),
            ("c.service", None),
            ("d.service", None),
            ("e.service", None),
        ] {
            assert_eq!(
                report.skipped(&app, &unit.parse().unwrap()).as_deref(),
                expected,
                "{unit}"
            );
            assert_eq!(report.has_own_stop(&app, &unit.parse().unwrap()), unit == "d.service");
        }
    }
}
