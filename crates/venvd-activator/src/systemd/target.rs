//! The runtime target that starts or stops a set of units.

use std::fs;
use std::path::PathBuf;

use venvd_app::Layout;
use venvd_fs::atomic;

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
    pub(super) fn starting(layout: &Layout, number: (u32, String), units: &[&str]) -> Result<Self, venvd_fs::Error> {
        let units = units.join(" ");
        Self::write(layout, number, &format!("Wants={units}\nAfter={units}"))
    }

    /// Writes one that stops units when it is stopped.
    pub(super) fn stopping(layout: &Layout, number: (u32, String), units: &[&str]) -> Result<Self, venvd_fs::Error> {
        Self::write(layout, number, &format!("PropagatesStopTo={}", units.join(" ")))
    }

    fn write(layout: &Layout, (transaction, number): (u32, String), settings: &str) -> Result<Self, venvd_fs::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn the_target_is_there_as_long_as_it_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let units = ["nova-api.service", "nova-worker.service"];
        let target = RuntimeTarget::starting(&layout, (7, "0".to_owned()), &units).unwrap();
        let path = directory.path().join("run/systemd/system").join(target.name());
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("Wants=nova-api.service nova-worker.service\nAfter=nova-api.service nova-worker.service\n"),
            "{text}"
        );
        let stopping = RuntimeTarget::stopping(&layout, (7, "1".to_owned()), &units).unwrap();
        let text = fs::read_to_string(&stopping.path).unwrap();
        assert!(
            text.contains("PropagatesStopTo=nova-api.service nova-worker.service\n"),
            "{text}"
        );
        drop(target);
        assert!(!path.exists());
    }
}
