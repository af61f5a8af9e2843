//! The part of systemd's D-Bus interface that venvd uses, see org.freedesktop.systemd1(5).

#![expect(clippy::too_many_arguments, reason = "a method has those of its D-Bus signature")]

use zbus::{OwnedObjectPath, Variant, proxy};

/// A unit in `ListUnitsByPatterns`.
pub(super) type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// A job in `EnqueueUnitJob`: id, job, unit, the unit's path, type.
pub(super) type AffectedJob = (u32, OwnedObjectPath, String, OwnedObjectPath, String);

/// The answer of `EnqueueUnitJob`: the job asked for, and all others of its transaction.
pub(super) type Enqueued = (u32, OwnedObjectPath, String, OwnedObjectPath, String, Vec<AffectedJob>);

/// A job in `ListJobs`: id, unit, type, state, job, the unit's path.
pub(super) type ListedJob = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);

/// A property of a transient unit, and its value.
pub(super) type Setting<'a> = (&'static str, Variant<'a>);

/// A further unit of `StartTransientUnit`, with its properties.
pub(super) type Auxiliary<'a> = (&'static str, &'a [Setting<'a>]);

#[proxy(
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    interface = "org.freedesktop.systemd1.Manager"
)]
pub(crate) trait Manager {
    /// Asks for signals.
    fn subscribe(&self) -> zbus::Result<()>;
    /// Runs the generators and reads all units anew; answers when that is done.
    fn reload(&self) -> zbus::Result<()>;
    /// Forgets that a unit failed, and how often it was started.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    /// Returns a unit's object, reading its file if it wasn't in memory.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Returns the loaded units whose name matches.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// Returns units by their names, reading the files of those that weren't in memory.
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;
    /// Returns the jobs that have not ended.
    fn list_jobs(&self) -> zbus::Result<Vec<ListedJob>>;
    /// Starts one transaction.
    fn enqueue_unit_job(&self, name: &str, job_type: &str, mode: &str) -> zbus::Result<Enqueued>;
    /// Makes a unit that exists only until it ends, and starts it.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[Setting<'_>],
        auxiliary: &[Auxiliary<'_>],
    ) -> zbus::Result<OwnedObjectPath>;
    /// Gives up a unit that was held with `AddRef`.
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    /// A job was made.
    #[zbus(signal)]
    fn job_new(&self, id: u32, job: OwnedObjectPath, unit: String) -> zbus::Result<()>;
    /// A job has ended.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}
