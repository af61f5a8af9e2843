//! Memory that a machine's processes may use, and the kernel's killing of those that want more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

use super::Machine;

/// Where version 1 of control groups has its memory controller, cgroups(7).
const VERSION_1: &str = "/sys/fs/cgroup/memory";

/// A control group (version 1) of the host's: what the machine's init starts may use so much memory, all together. On
/// such a host systemd in the machine has no memory controller, so `MemoryMax=` does nothing. It ends with this value.
#[derive(Debug)]
pub struct MemoryLimit {
    parent: PathBuf,
    group: PathBuf,
}

impl MemoryLimit {
    /// Limits what `machine` starts from now on. A unit of its own can do that itself on hosts of version 2.
    ///
    /// # Errors
    /// When the host has no memory controller of version 1, or does not let us use it.
    pub fn of(machine: &Machine, bytes: u64) -> Result<Self> {
        let init = machine.init().context("the machine is switched off")?;
        let groups = fs::read_to_string("/proc/self/cgroup").context("can't read our control groups")?;
        let own = groups.lines().find_map(|line| line.split_once(":memory:"));
        let (_, own) = own.context("this host has no memory controller, neither of version 1 nor of version 2")?;
        let parent = Path::new(VERSION_1).join(own.trim_start_matches('/'));
        let group = parent.join(format!("venvd-tests-{}-{init}", process::id()));
        fs::create_dir(&group).with_context(|| format!("can't make {}", group.display()))?;
        let limit = Self { parent, group };
        limit.put("memory.limit_in_bytes", bytes)?;
        limit.put("cgroup.procs", init)?;
        Ok(limit)
    }

    fn put(&self, name: &str, value: impl ToString) -> Result<()> {
        let path = self.group.join(name);
        fs::write(&path, value.to_string()).with_context(|| format!("can't write {}", path.display()))
    }

    /// Returns how many processes the kernel has killed because of it.
    ///
    /// # Panics
    /// When the kernel does not say so.
    #[must_use]
    pub fn killed(&self) -> u32 {
        let path = self.group.join("memory.oom_control");
        let said = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let count = said.lines().find_map(|line| line.strip_prefix("oom_kill "));
        let count = count.and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("{}: {said}", path.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            // One that has ended meanwhile need not be moved.
            let _ended = fs::write(self.parent.join("cgroup.procs"), process);
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("{} is left: {error}", self.group.display());
        }
    }
}
