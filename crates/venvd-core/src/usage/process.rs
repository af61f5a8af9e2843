//! What `/proc` tells of one process: proc(5).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Tag};

use super::members;
use super::place::{Places, View};
use super::{Trace, of};

/// Variables that say where somebody was, not what they use.
const HISTORY: [&str; 4] = ["PWD", "OLDPWD", "_", "SUDO_COMMAND"];

/// `/var/lib/venvd/venvs/nova/1/bin/python /var/lib/venvd/venvs/nova/1/bin/nova-api …`
const PROGRAM_AND_SCRIPT: usize = 2;

/// What is known of a process.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) parent: u32,
    /// The service in whose cgroup it is.
    pub(super) unit: Option<String>,
    /// The venvs it uses, each with the surest trace.
    pub(super) traces: BTreeMap<VenvPath, Trace>,
    /// `VENVD_TAG` of its environment.
    pub(super) tag: Option<Tag>,
    /// Whether it runs a Python, or has one mapped.
    pub(super) python: bool,
    /// Whether its environment is readable, as it was given: not written over with a title.
    pub(super) has_environment: bool,
}

impl Process {
    pub(super) fn uses_one_of(&self, app: &AppName) -> bool {
        self.traces.keys().any(|venv| venv.name().app() == app)
    }
}

/// What a look at a process gave.
#[derive(Debug)]
pub(super) enum Look {
    /// It has ended, or is no process but a thread of the kernel.
    Gone,
    /// All was seen.
    Seen(Process),
    /// Something was not shown.
    Blind(Process),
}

struct Looker<'a> {
    directory: PathBuf,
    places: &'a Places,
    view: View,
    process: Process,
    blind: bool,
}

/// Looks at a process.
pub(super) fn look(proc: &Path, pid: u32, places: &Places) -> Look {
    let directory = of(proc, pid);
    // These two anybody may read; without them it is gone.
    let (Ok(stat), Ok(cgroup)) = (
        fs::read(directory.join("stat")),
        fs::read_to_string(directory.join("cgroup")),
    ) else {
        return if directory.join("stat").exists() {
            Look::Blind(Process::default())
        } else {
            Look::Gone
        };
    };
    let (name, state, parent) = parse_stat(&String::from_utf8_lossy(&stat));
    // What has ended and was not waited for holds nothing any more.
    if matches!(state, 'Z' | 'X') {
        return Look::Gone;
    }
    let mut looker = Looker {
        places,
        view: places.view(proc, pid, fs::read_link(directory.join("root")).ok().as_deref()),
        directory,
        process: Process {
            name,
            parent,
            unit: members::service(&cgroup, places.scope()),
            ..Process::default()
        },
        blind: false,
    };
    looker.links();
    looker.descriptors();
    looker.mappings();
    looker.arguments();
    looker.environment();
    if looker.blind && looker.directory.join("stat").exists() {
        Look::Blind(looker.process)
    } else {
        Look::Seen(looker.process)
    }
}

/// Looks at what a process runs, and at nothing else: what it was told to work on says nothing of that.
pub(super) fn runs(proc: &Path, pid: u32, places: &Places) -> BTreeMap<VenvPath, Trace> {
    let directory = of(proc, pid);
    let root = fs::read_link(directory.join("root")).ok();
    let mut looker = Looker {
        places,
        view: places.view(proc, pid, root.as_deref()),
        directory,
        process: Process::default(),
        blind: false,
    };
    let executable = fs::read_link(looker.directory.join("exe"));
    if let Some(executable) = looker.known(executable) {
        looker.trace(executable.as_os_str().as_bytes(), Trace::Executable);
    }
    looker.mappings();
    let arguments = fs::read(looker.directory.join("cmdline"));
    let arguments = looker.known(arguments).unwrap_or_default();
    for word in arguments.split(|byte| *byte == 0).take(PROGRAM_AND_SCRIPT) {
        looker.trace(word, Trace::Arguments);
    }
    looker.process.traces
}

impl Looker<'_> {
    fn links(&mut self) {
        for (link, trace) in [
            ("exe", Trace::Executable),
            ("root", Trace::Root),
            ("cwd", Trace::WorkingDirectory),
        ] {
            let target = fs::read_link(self.directory.join(link));
            if let Some(target) = self.known(target) {
                self.process.python |= link == "exe" && is_python(target.as_os_str().as_bytes());
                self.trace(target.as_os_str().as_bytes(), trace);
            }
        }
    }

    fn descriptors(&mut self) {
        let directory = self.directory.join("fd");
        let entries = fs::read_dir(&directory);
        for entry in self.known(entries).into_iter().flatten() {
            let target = entry.and_then(|entry| fs::read_link(entry.path()));
            if let Some(target) = self.known(target) {
                self.trace(target.as_os_str().as_bytes(), Trace::OpenFile);
            }
        }
    }

    fn mappings(&mut self) {
        let maps = fs::read(self.directory.join("maps"));
        let maps = self.known(maps).unwrap_or_default();
        let mut before: &[u8] = b"";
        for line in maps.split(|byte| *byte == b'\n') {
            // No field before the path has a slash.
            let path = line.iter().position(|byte| *byte == b'/');
            let Some(path) = path.and_then(|start| line.get(start..)).filter(|path| *path != before) else {
                continue;
            };
            self.process.python |= is_python(path);
            self.trace(path, Trace::Mapping);
            before = path;
        }
    }

    fn arguments(&mut self) {
        let arguments = fs::read(self.directory.join("cmdline"));
        let arguments = self.known(arguments).unwrap_or_default();
        for word in arguments.split(|byte| *byte == 0) {
            self.trace(word, Trace::Arguments);
            // --virtualenv=/var/lib/venvd/venvs/nova/1
            if let Some(equals) = word.iter().position(|byte| *byte == b'=') {
                self.trace(word.get(equals + 1..).unwrap_or_default(), Trace::Arguments);
            }
        }
    }

    fn environment(&mut self) {
        let environment = fs::read(self.directory.join("environ"));
        let environment = self.known(environment).unwrap_or_default();
        for variable in environment.split(|byte| *byte == 0) {
            let Some(equals) = variable.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            let (name, value) = variable.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            // Whatever a service manager or login starts has one.
            self.process.has_environment |= name == b"PATH";
            if name == b"VENVD_TAG" {
                self.process.tag = std::str::from_utf8(value).ok().and_then(|tag| tag.parse().ok());
            }
            if HISTORY.iter().any(|history| history.as_bytes() == name) {
                continue;
            }
            for path in value.split(|byte| *byte == b':') {
                self.trace(path, Trace::Environment);
            }
        }
    }

    fn trace(&mut self, path: &[u8], trace: Trace) {
        if !self.places.may_be(path) {
            return;
        }
        if let Some(venv) = self.places.venv(path, &mut self.view) {
            let surest = self.process.traces.entry(venv).or_insert(trace);
            *surest = trace.min(*surest);
        }
    }

    /// What has gone was closed, or its process ended: it says nothing. Anything else is kept from us.
    fn known<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let gone = [Errno::ENOENT, Errno::ESRCH].map(|errno| Some(errno as i32));
                self.blind |= !gone.contains(&error.raw_os_error());
                None
            }
        }
    }
}

/// Returns name, state and parent. The name may hold anything, also `)`.
fn parse_stat(stat: &str) -> (String, char, u32) {
    let name = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(')'))
        .map(|(name, _)| name);
    let mut rest = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or("")
        .split_ascii_whitespace();
    let state = rest.next().and_then(|state| state.chars().next()).unwrap_or('?');
    let parent = rest.next().and_then(|parent| parent.parse().ok()).unwrap_or(0);
    (name.unwrap_or("?").to_owned(), state, parent)
}

/// `/usr/bin/python3.11`, `libpython3.11.so.1.0` of a server that embeds it.
fn is_python(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.starts_with(b"python") || name.starts_with(b"libpython") || name.starts_with(b"pypy")
}
