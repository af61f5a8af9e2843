use std::collections::HashMap;

use zbus::{OwnedObjectPath, Variant, proxy};

/// The name that venvd owns on the system bus.
pub const BUS_NAME: &str = "org.venvd1";
/// Where its manager object lies.
pub const MANAGER_PATH: &str = "/org/venvd1";
/// The manager's interface.
pub const INTERFACE: &str = "org.venvd1.Manager";

const JOB_PREFIX: &str = "/org/venvd1/job/";

/// Returns the object path of a job: `/org/venvd1/job/<id>`.
#[must_use]
pub fn job_path(id: u32) -> String {
    format!("{JOB_PREFIX}{id}")
}

/// Returns the number of the job that an object path names.
#[must_use]
pub fn job_id(path: &str) -> Option<u32> {
    path.strip_prefix(JOB_PREFIX)?.parse().ok()
}

/// venvd's manager. Only uid 0 may call what changes something.
///
/// Names that can't be (`Nova`, `a/b`) are answered by `org.freedesktop.DBus.Error.InvalidArgs`, other callers by
/// `AccessDenied`; all else is a job, also when it is refused at once.
#[proxy(
    default_service = "org.venvd1",
    default_path = "/org/venvd1",
    interface = "org.venvd1.Manager"
)]
pub trait Manager {
    /// Asks for a venv to be in force. Options: `cause` (string `dbus` or `apply`); booleans `revoke` (the rights of the
    /// venv before end first), `at-next-restart` (no unit is restarted), `force` (also one that failed before).
    fn activate(&self, app: &str, tag: &str, options: HashMap<&str, Variant<'_>>) -> zbus::Result<OwnedObjectPath>;

    /// The same for venvs of several apps, as pairs of app and tag: together, or not at all.
    fn activate_many(
        &self,
        venvs: &[(&str, &str)],
        options: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<OwnedObjectPath>;

    /// Asks for the venv that was in force before.
    fn rollback(&self, app: &str) -> zbus::Result<OwnedObjectPath>;

    /// Makes units, sudoers and rootwrap of an app follow its venv.
    fn enable(&self, app: &str) -> zbus::Result<OwnedObjectPath>;

    /// Puts units, sudoers and rootwrap of an app back to what the distribution made them.
    fn disable(&self, app: &str) -> zbus::Result<OwnedObjectPath>;

    /// Returns what would be done, as the JSON of a [`Plan`](crate::plan::Plan); nothing is changed. `verb` is `activate`,
    /// `rollback`, `enable` or `disable`; but for the first, tags are empty. The options are those of `activate`.
    fn plan(&self, verb: &str, venvs: &[(&str, &str)], options: HashMap<&str, Variant<'_>>) -> zbus::Result<String>;

    /// Returns a job's [`JobReport`](crate::JobReport) as JSON, open or ended.
    fn get_job(&self, id: u32) -> zbus::Result<String>;

    /// A job has ended; `result` is an [`Outcome`](crate::Outcome) as text.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, app: String, result: String) -> zbus::Result<()>;

    /// The version of venvd that runs.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_paths_and_numbers() {
        assert_eq!(job_path(7), "/org/venvd1/job/7");
        assert_eq!(job_id("/org/venvd1/job/7"), Some(7));
        for bad in [
            "/org/venvd1/job/",
            "/org/venvd1/job/x",
            "/org/venvd1",
            "7",
            "/org/venvd1/job/7/8",
        ] {
            assert_eq!(job_id(bad), None, "{bad}");
        }
    }
}
