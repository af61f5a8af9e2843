//! What a unit gives the processes it starts, for `--unit`: variables, umask, working directory, limits.
//!
//! Read as the caller, before root becomes somebody else: systemd reads these files as root too, and hands what is in
//! them to the unit's user. So root reads them on the word of files that are root's alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, User};
use venvd_app::Layout;
use venvd_fs::chain::{self, Owners};
use venvd_unit::effective::{self, Effective};
use venvd_unit::limit::{Limit, Resource};
use venvd_unit::search_path::directories_with_generated;
use venvd_unit::{Unit, UnitFiles, UnitId, WorkingDirectory, environment, specifier};

use crate::environment::Variables;

pub(crate) use problem::Problem;

mod problem;
mod system;

/// More than any environment file has.
const LARGEST: u64 = 1024 * 1024;

/// What a unit says, read once.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) umask: Option<Mode>,
    pub(crate) directory: Option<Directory>,
    pub(crate) limits: Vec<(Resource, Limit)>,
    /// In their order: a later one replaces an earlier one.
    variables: Vec<(String, String)>,
    unset: Vec<String>,
}

/// Where the unit's processes start.
#[derive(Debug)]
pub(crate) struct Directory {
    /// `None` is the user's home.
    pub(crate) path: Option<PathBuf>,
    pub(crate) may_be_missing: bool,
}

/// Reads what `name` says, for a process of `user`.
pub(crate) fn read(layout: &Layout, name: &UnitId, user: Uid) -> Result<Settings, Problem> {
    if name.is_template() {
        return Err(Problem::Template);
    }
    let files = UnitFiles::scan_directories(layout.root().directory(), &directories_with_generated());
    let unit = match effective::load(&files, name) {
        Unit::Absent => return Err(Problem::Absent),
        Unit::Masked(path) => return Err(Problem::Masked { path }),
        Unit::Broken(trouble) => return Err(trouble.into()),
        Unit::Loaded(unit) => unit,
    };
    // Systemd goes on without what it does not understand, and so do we; but it is not kept from reading a file.
    if let Some(trouble) = unit.troubles.iter().find(|trouble| trouble.line == 0) {
        return Err(trouble.clone().into());
    }
    let paths: BTreeSet<&Path> = unit.entries().iter().map(|entry| &*entry.path).collect();
    for path in unit.found.fragment.as_deref().into_iter().chain(paths) {
        layout.trusted(path).map_err(Problem::Unsafe)?;
    }
    Ok(Settings {
        umask: unit.umask().map(Mode::from_bits_truncate),
        directory: directory(&unit)?,
        limits: unit.limits(),
        variables: variables(layout, &unit, user)?,
        unset: unit.unset_environment(),
    })
}

impl Settings {
    /// Puts the unit's variables over those that are there, and takes away what it does not want.
    ///
    /// Nothing is cleaned: what an administrator gave the service, `PYTHON*` included, its commands get too.
    pub(crate) fn apply_to(&self, variables: &mut Variables) {
        for (name, value) in &self.variables {
            variables.insert(name.into(), value.into());
        }
        for word in &self.unset {
            match word.split_once('=') {
                Some((name, value))
                    if variables
                        .get(OsStr::new(name))
                        .is_some_and(|is| is.to_str() == Some(value)) =>
                {
                    variables.remove(OsStr::new(name));
                }
                Some(_) => {}
                None => drop(variables.remove(OsStr::new(word))),
            }
        }
    }
}

/// The order is systemd's: PATH by `ExecSearchPath=`, `Environment=`, the files (`exec_child()`).
fn variables(layout: &Layout, unit: &Effective, user: Uid) -> Result<Vec<(String, String)>, Problem> {
    let mut variables = Vec::new();
    let search: Vec<String> = unit
        .exec_search_path()
        .into_iter()
        .map(|path| expand(unit, "ExecSearchPath", path))
        .collect::<Result<_, _>>()?;
    if !search.is_empty() {
        variables.push(("PATH".to_owned(), search.join(":")));
    }
    for (name, value) in unit.environment() {
        variables.push((name, expand(unit, "Environment", &value)?));
    }
    for entry in unit.environment_files() {
        let text = expand(unit, "EnvironmentFile", entry.value())?;
        let (pattern, may_be_missing) = match text.strip_prefix('-') {
            Some(pattern) => (pattern, true),
            None => (text.as_str(), false),
        };
        for path in matching(layout, pattern, may_be_missing)? {
            let owners = owners(unit, user);
            let bytes = match read_file(layout, &path, owners) {
                Ok(bytes) => bytes,
                // A `-` is for what is not there; what is there and closed to the caller would be missed.
                Err(Problem::File { source, .. }) if may_be_missing && source.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            match environment::in_file(&bytes) {
                Ok(found) => variables.extend(found.into_iter().map(|variable| (variable.name, variable.value))),
                Err(_) if may_be_missing => {}
                Err(source) => return Err(Problem::BadFile { path, source }),
            }
        }
    }
    Ok(variables)
}

/// Returns who may own the environment files of a unit; `None` where that does not matter, since its own processes, which
/// run as this user, get what is in them anyway.
fn owners(unit: &Effective, user: Uid) -> Option<Owners> {
    let own = unit.last("Service", "User").filter(|name| !name.is_empty())?;
    let uid = match own.parse() {
        Ok(uid) => Some(Uid::from_raw(uid)),
        Err(_) => User::from_name(own).ok().flatten().map(|found| found.uid),
    };
    if uid == Some(user) {
        None
    } else {
        Some(Owners::root_and(user.as_raw()))
    }
}

/// `EnvironmentFile=` is a glob(7) pattern.
fn matching(layout: &Layout, pattern: &str, may_be_missing: bool) -> Result<Vec<PathBuf>, Problem> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let bad = || Problem::Pattern(pattern.to_owned());
    let options = glob::MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..glob::MatchOptions::new()
    };
    // For glob(3), `**` is nothing special.
    let mut plain = layout.on_disk(pattern).to_string_lossy().into_owned();
    while plain.contains("**") {
        plain = plain.replace("**", "*");
    }
    // What can't be listed has no matches, as for glob(3) without GLOB_ERR.
    let found = glob::glob_with(&plain, options).map_err(|_| bad())?.flatten();
    let found: Vec<PathBuf> = found.map(|path| layout.root().on_host(&path)).collect();
    if found.is_empty() && !may_be_missing {
        return Err(bad());
    }
    Ok(found)
}

/// Reads a regular file and nothing else: opening a device or a pipe may do something, or wait for ever.
fn read_file(layout: &Layout, path: &Path, owners: Option<Owners>) -> Result<Vec<u8>, Problem> {
    let failed = |source| Problem::File {
        path: path.to_owned(),
        source,
    };
    if !path.is_absolute() {
        return Err(failed(io::Error::other("it is no absolute path")));
    }
    if let Some(owners) = owners {
        match chain::check(layout.root(), owners, path) {
            Ok(_) => {}
            // Said better below.
            Err(chain::Error::Io(_)) => {}
            Err(source) => return Err(Problem::Foreign(source)),
        }
    }
    let read = || {
        let place = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(layout.on_disk(path))?;
        if !place.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        // The one that was looked at, whatever the path leads to by now: proc_pid_fd(5).
        File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))?
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    };
    read().map_err(failed)
}

fn directory(unit: &Effective) -> Result<Option<Directory>, Problem> {
    let Some((directory, may_be_missing)) = unit.working_directory() else {
        return Ok(None);
    };
    let path = match directory {
        WorkingDirectory::Home => None,
        WorkingDirectory::Path(path) => Some(expand(unit, "WorkingDirectory", path)?.into()),
    };
    Ok(Some(Directory { path, may_be_missing }))
}

fn expand(unit: &Effective, key: &'static str, text: &str) -> Result<String, Problem> {
    let problem = || Problem::Specifier {
        key,
        text: text.to_owned(),
    };
    specifier::expand_with(text, &unit.found.id, system::specifier)
        .ok()
        .flatten()
        .ok_or_else(problem)
}

/// Reads the name of a unit as systemctl(1) does: without a suffix it is a service.
pub(crate) fn name(text: &str) -> Result<UnitId, String> {
    let name = if text.contains('.') {
        UnitId::parse(text)
    } else {
        UnitId::parse(&format!("{text}.service"))
    }
    .map_err(|error| error.to_string())?;
    if name.kind() == "service" {
        Ok(name)
    } else {
        Err(format!("{text:?} is no service"))
    }
}
