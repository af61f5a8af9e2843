use std::collections::HashMap;

use venvd_app::AppName;
use zbus::{OwnedObjectPath, Variant, proxy};

/// The name that venvd owns on the system bus.
pub const BUS_NAME: &str = "org.venvd1";
/// Where its manager object lies.
pub const MANAGER_PATH: &str = "/org/venvd1";
/// The manager's interface.
pub const INTERFACE: &str = "org.venvd1.Manager";
/// The interface of an app's object.
pub const APP_INTERFACE: &str = "org.venvd1.App";
/// The interface of a job's object.
pub const JOB_INTERFACE: &str = "org.venvd1.Job";
/// What the paths of all jobs begin with, as a match rule has it (`path_namespace`).
pub const JOBS_PATH: &str = "/org/venvd1/job";

const JOB_PREFIX: &str = "/org/venvd1/job/";
const APP_PREFIX: &str = "/org/venvd1/app/";

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

/// Returns the object path of an app: `/org/venvd1/app/<name>`, escaped as sd-bus does it (`bus_label_escape`).
#[must_use]
pub fn app_path(app: &AppName) -> String {
    let mut path = APP_PREFIX.to_owned();
    // A name begins with a letter, so no digit has to be escaped for being the first.
    for byte in app.as_str().bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// venvd's manager. Root may call everything, for others polkit decides; a caller may be asked for a password.
///
/// Names that can't be (`Nova`, `a/b`) are answered by `org.freedesktop.DBus.Error.InvalidArgs`, who may not ask by
/// `AccessDenied`; all else is a job, also when it is refused at once.
#[proxy(
    default_service = "org.venvd1",
    default_path = "/org/venvd1",
    interface = "org.venvd1.Manager"
)]
pub trait Manager {
    /// Asks for a venv to be in force. Options: `cause` (string `dbus` or `apply`); booleans `revoke` (the rights of the
    /// venv before end first), `at-next-restart` (no unit is restarted), `force` (also one that failed before).
    #[zbus(allow_interactive_auth)]
    fn activate(&self, app: &str, tag: &str, options: HashMap<&str, Variant<'_>>) -> zbus::Result<OwnedObjectPath>;

    /// The same for venvs of several apps, as pairs of app and tag: together, or not at all.
    #[zbus(allow_interactive_auth)]
    fn activate_many(
        &self,
        venvs: &[(&str, &str)],
        options: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<OwnedObjectPath>;

    /// Asks for the venv that was in force before.
    #[zbus(allow_interactive_auth)]
    fn rollback(&self, app: &str) -> zbus::Result<OwnedObjectPath>;

    /// Makes units, sudoers and rootwrap of an app follow its venv.
    #[zbus(allow_interactive_auth)]
    fn enable(&self, app: &str) -> zbus::Result<OwnedObjectPath>;

    /// Puts units, sudoers and rootwrap of an app back to what the distribution made them.
    #[zbus(allow_interactive_auth)]
    fn disable(&self, app: &str) -> zbus::Result<OwnedObjectPath>;

    /// Returns the names of the apps that are defined, and their objects.
    fn list_apps(&self) -> zbus::Result<Vec<(String, OwnedObjectPath)>>;

    /// Returns the jobs that are open, and those that ended lately: number, object, [`Stage`](crate::Stage), and how it
    /// ended.
    fn list_jobs(&self) -> zbus::Result<Vec<(u32, OwnedObjectPath, String, String)>>;

    /// Returns what would be done, as the JSON of a [`Plan`](crate::plan::Plan); nothing is changed. `verb` is `activate`,
    /// `rollback`, `enable` or `disable`; but for the first, tags are empty. The options are those of `activate`.
    fn plan(&self, verb: &str, venvs: &[(&str, &str)], options: HashMap<&str, Variant<'_>>) -> zbus::Result<String>;

    /// Returns a job's [`JobReport`](crate::JobReport) as JSON, open or ended.
    fn get_job(&self, id: u32) -> zbus::Result<String>;

    /// A job was begun, or waits for the one before it.
    #[zbus(signal)]
    fn job_new(&self, id: u32, job: OwnedObjectPath, app: String) -> zbus::Result<()>;

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
    fn app_paths_are_escaped_as_sd_bus_does_it() {
        for (app, path) in [
            ("nova", "/org/venvd1/app/nova"),
            ("nova-cell_2", "/org/venvd1/app/nova_2dcell_5f2"),
        ] {
            assert_eq!(app_path(&app.parse().unwrap()), path);
        }
    }

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
