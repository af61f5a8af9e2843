//! Which venvs are used by which processes: one pass over `/proc` for all venvs.
//!
//! A venv's Python is a link to the host's, so `/proc/PID/exe` hardly ever says which venv runs. What does: mapped
//! extension modules, arguments, `VIRTUAL_ENV`, working directory, root, open files. Some programs write their title over
//! arguments and environment (setproctitle); for those the cgroup of an app's unit counts, and what is known of their
//! parents. That holds too for processes that outlived their unit (`KillMode=process`, systemd.kill(5)): they stay in
//! its cgroup.
//!
//! In doubt a venv is used. What could not be looked into is told ([`Usage::blind`]), and nothing may be removed then.

mod members;
mod place;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, Scope, VenvName};
use venvd_fs::IoContext;

use crate::error::Error;
use members::Members;
use place::Places;
use process::Process;

/// The process that all others descend from.
const INIT: u32 = 1;

/// A process that uses a venv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The process.
    pub pid: u32,
    /// Its short name.
    pub name: String,
    /// The unit in whose cgroup it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// By what it is known.
    pub by: Trace,
    /// Whether its `VENVD_TAG` is that venv's: it was started as a service from it.
    #[serde(skip)]
    tagged: bool,
}

/// By what a process is known to use a venv, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trace {
    /// Its executable is in it.
    Executable,
    /// Its root directory is in it.
    Root,
    /// It has mapped a file of it.
    Mapping,
    /// It was started with its path.
    Arguments,
    /// It has a file or directory of it open.
    OpenFile,
    /// It works in it.
    WorkingDirectory,
    /// Its environment names it.
    Environment,
    /// A process that started it uses it, and nothing says otherwise.
    Parent,
    /// It runs Python in a unit of the app, and hides from which venv: it could be any.
    Unit,
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Executable => "its executable",
            Self::Root => "its root directory",
            Self::Mapping => "a mapped file",
            Self::Arguments => "its arguments",
            Self::OpenFile => "an open file",
            Self::WorkingDirectory => "its working directory",
            Self::Environment => "its environment",
            Self::Parent => "the process that started it",
            Self::Unit => "it runs Python and hides from which venv, so it could be this one",
        })
    }
}

impl fmt::Display for Use {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.pid)?;
        if let Some(unit) = &self.unit {
            write!(formatter, " of {unit}")?;
        }
        write!(formatter, " [{}]", self.by)
    }
}

/// Which venvs are used, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    by_venv: BTreeMap<VenvPath, Vec<Use>>,
    /// Processes that could not be looked into, `name (pid)` each: they may use anything.
    pub blind: Vec<String>,
    /// Apps whose units are not known, since their definition can't be read, and why.
    pub unknown: BTreeMap<AppName, String>,
    members: Members,
}

impl Usage {
    /// Looks at all processes of this host but the caller.
    ///
    /// # Errors
    /// When `/proc` is not there, or does not show even the caller.
    pub fn scan(layout: &Layout, venvs: &[VenvPath]) -> Result<Self, Error> {
        Self::scan_below(Path::new("/proc"), layout, venvs)
    }

    pub(crate) fn scan_below(proc: &Path, layout: &Layout, venvs: &[VenvPath]) -> Result<Self, Error> {
        let own = std::process::id();
        let places = Places::new(layout, proc, own);
        let mut usage = Self::default();
        let mut processes = BTreeMap::new();
        let mut pids = pids(proc, own)?;
        if layout.scope() == Scope::User {
            pids.retain(|pid| is_of(&of(proc, *pid), layout.owners().user()));
        }
        let found: Vec<(u32, process::Look)> = pids
            .into_par_iter()
            .map(|pid| (pid, process::look(proc, pid, &places)))
            .collect();
        let apps: BTreeSet<&AppName> = venvs.iter().map(|venv| venv.name().app()).collect();
        let members = Members::of(layout, apps);
        for (pid, look) in found {
            match look {
                process::Look::Gone => {}
                process::Look::Seen(process) => drop(processes.insert(pid, process)),
                // Some sandboxes hide it even from root: it belongs to who made them, and runs from no venv of theirs.
                process::Look::Blind(process) if pid == INIT => drop(processes.insert(pid, process)),
                process::Look::Blind(process) => {
                    // A user's process that hides from that user has rights that he has not: it is (sd-pam), or an agent
                    // with secrets. Only of a service of the app it would be odd.
                    let of_app = members.apps_of(process.unit.as_deref()).next().is_some();
                    if layout.scope() == Scope::System || of_app {
                        usage.blind.push(format!("{} ({pid})", process.name));
                    }
                    processes.insert(pid, process);
                }
            }
        }
        for (pid, process) in &processes {
            for (venv, by) in &process.traces {
                usage.add(venv, (*pid, process), *by);
            }
            for app in members.apps_of(process.unit.as_deref()) {
                for (venv, by) in guess(layout, venvs, (app, process), &processes) {
                    usage.add(&venv, (*pid, process), by);
                }
            }
        }
        usage.unknown.clone_from(&members.unknown);
        usage.members = members;
        Ok(usage)
    }

    /// Returns the processes that use a venv, by number.
    #[must_use]
    pub fn of(&self, venv: &VenvPath) -> &[Use] {
        self.by_venv.get(venv).map_or(&[], Vec::as_slice)
    }

    /// Returns those that run from a venv: not who merely works in it or has a file of it open, nor who was given a PATH
    /// that leads there behind another, as sudo gives while a venv is leaving.
    pub fn runners_of(&self, venv: &VenvPath) -> impl Iterator<Item = &Use> {
        self.of(venv).iter().filter(|used| match used.by {
            Trace::OpenFile | Trace::WorkingDirectory => false,
            Trace::Environment => used.tagged,
            _ => true,
        })
    }

    /// Returns those of them that are in a unit of its app.
    pub fn members_of<'a>(&'a self, venv: &'a VenvPath) -> impl Iterator<Item = &'a Use> {
        let app = venv.name().app();
        self.runners_of(venv)
            .filter(move |used| self.members.apps_of(used.unit.as_deref()).any(|name| name == app))
    }

    fn add(&mut self, venv: &VenvPath, (pid, process): (u32, &Process), by: Trace) {
        self.by_venv.entry(venv.clone()).or_default().push(Use {
            pid,
            name: process.name.clone(),
            unit: process.unit.clone(),
            by,
            tagged: process.tag.as_ref() == Some(venv.name().tag()),
        });
    }
}

/// Returns the venvs that a process runs by what is plain to see, each with the surest trace: its executable, what it has
/// mapped, and the program and script that it was started with. None says nothing: Python reads its modules and closes them.
#[must_use]
pub fn run_by(layout: &Layout, pid: u32) -> BTreeMap<VenvPath, Trace> {
    let proc = Path::new("/proc");
    process::runs(proc, pid, &Places::new(layout, proc, std::process::id()))
}

/// Refuses to go on without the right to look into other processes: what can't be seen would look unused.
///
/// # Errors
/// When the caller has no `CAP_SYS_PTRACE` (capabilities(7): also what `hidepid=` of proc(5) lets through).
pub(crate) fn may_look(layout: &Layout) -> Result<(), Error> {
    if layout.scope() == Scope::User {
        // Only his own processes run from his venvs, and into those he may look.
        return Ok(());
    }
    const SYS_PTRACE: u32 = 19;
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).at("read", path)?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    if effective >> SYS_PTRACE & 1 == 1 {
        Ok(())
    } else {
        Err(Error::MayNotLook)
    }
}

fn pids(proc: &Path, own: u32) -> Result<Vec<u32>, Error> {
    let mut pids = Vec::new();
    for entry in fs::read_dir(proc).at("list", proc)? {
        let name = entry.at("list", proc)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    // A chroot without a /proc, or that of another pid namespace.
    if !pids.contains(&own) {
        return Err(Error::NoProc { path: proc.to_owned() });
    }
    pids.retain(|pid| *pid != own);
    pids.sort_unstable();
    Ok(pids)
}

/// Returns whether a process is a user's: of one that holds a secret (prctl(2), `PR_SET_DUMPABLE`) the directory is
/// root's, proc(5), and it is no service of an app.
fn is_of(directory: &Path, user: u32) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.uid() == user)
}

/// Returns the venvs that a member of an app's unit could run from, when it leaves no trace of one itself.
fn guess(
    layout: &Layout,
    venvs: &[VenvPath],
    (app, process): (&AppName, &Process),
    processes: &BTreeMap<u32, Process>,
) -> Vec<(VenvPath, Trace)> {
    if process.uses_one_of(app) {
        return Vec::new();
    }
    if let Some(tag) = &process.tag {
        let name = VenvName::new(app.clone(), tag.clone()).ok();
        return name
            .and_then(|name| VenvPath::find(layout, &name))
            .map(|venv| vec![(venv, Trace::Environment)])
            .unwrap_or_default();
    }
    // Without Python there is nothing of a venv to be imported; and an environment that was not overwritten and names
    // no venv is that of somebody who was started without one.
    if !process.python || process.has_environment {
        return Vec::new();
    }
    let mut ancestor = process;
    // A parent has no reason to come again, but `/proc` was not read in one moment.
    for _ in 0..processes.len() {
        match processes.get(&ancestor.parent) {
            Some(parent) if parent.unit == process.unit => ancestor = parent,
            _ => break,
        }
        let of_parent: Vec<_> = ancestor.traces.keys().filter(|venv| venv.name().app() == app).collect();
        if !of_parent.is_empty() {
            return of_parent
                .into_iter()
                .map(|venv| (venv.clone(), Trace::Parent))
                .collect();
        }
    }
    let of_app = venvs.iter().filter(|venv| venv.name().app() == app);
    of_app.map(|venv| (venv.clone(), Trace::Unit)).collect()
}

/// Returns a path of a process's directory.
fn of(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string())
}

#[cfg(test)]
mod tests;
