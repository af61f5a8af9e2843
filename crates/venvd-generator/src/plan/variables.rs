//! The variables of a unit: its own `PATH`, and what has the last word over those that we set.

use std::path::Path;

use venvd_fs::beneath::read_inside;
use venvd_unit::effective::{Effective, Entry};
use venvd_unit::environment::{self, FileVariable};
use venvd_unit::specifier;

use super::defaults::Defaults;
use super::member::Member;

const SERVICE: &str = "Service";

/// What is mounted when generators run.
const EARLY: [&str; 3] = ["/etc/", "/usr/", "/run/"];

/// More than any file of variables has.
const LARGEST: u64 = 1024 * 1024;

/// What a unit would look for programs in, without us.
#[derive(Debug)]
pub(crate) struct Paths {
    /// Systemd itself, for a program without a path.
    pub(crate) search: String,
    /// The service, by its `PATH`.
    pub(crate) path: String,
}

impl Paths {
    /// Follows `exec_child()`: `Environment=`, then `PassEnvironment=`, then `ExecSearchPath=`, then what every service
    /// gets.
    pub(crate) fn of(unit: &Effective, defaults: &Defaults) -> Self {
        let own = unit.exec_search_path().join(":");
        let passed = unit
            .list(SERVICE, "PassEnvironment")
            .iter()
            .any(|entry| environment::words(entry.value()).iter().any(|word| word == "PATH"));
        let path = match unit.variable("PATH") {
            Some(path) => path,
            None if passed => defaults.own_path(),
            None if !own.is_empty() => own.clone(),
            None => defaults.path.clone(),
        };
        let search = if own.is_empty() { defaults.search.clone() } else { own };
        Self { search, path }
    }
}

/// Returns what takes variables that we set away again, or sets them to something else.
///
/// Those are the definition's, and if the member leads those that come with the venv.
pub(crate) fn overruled(unit: &Effective, (member, leads): (&Member<'_>, bool), root: &Path) -> Vec<String> {
    let mut ours: Vec<&str> = member.unit.environment.keys().map(|name| name.as_str()).collect();
    if leads {
        ours.extend(["VIRTUAL_ENV", "VENVD_TAG", "PATH"]);
    }
    let is_ours = |name: &str| ours.contains(&name);
    let mut said = Vec::new();
    let above = |key: &'static str| of_key(&unit.above, key);
    for entry in unit
        .list(SERVICE, "UnsetEnvironment")
        .into_iter()
        .chain(above("UnsetEnvironment"))
    {
        for name in environment::words(entry.value()).iter().filter(|name| is_ours(name)) {
            said.push(format!("{}: UnsetEnvironment= takes {name} away", place(entry)));
        }
    }
    for entry in above("Environment") {
        for (name, _) in entry.variables(&unit.found.id) {
            if is_ours(&name) {
                said.push(format!("{}: Environment= sets {name} after us", place(entry)));
            }
        }
        if entry.value().is_empty() {
            said.push(format!("{}: Environment= takes all variables away", place(entry)));
        }
    }
    for entry in unit.environment_files().into_iter().chain(above("EnvironmentFile")) {
        let Some((path, text)) = environment_file(unit, entry, root) else {
            continue;
        };
        // Of a file that systemd refuses nothing counts.
        for FileVariable { name, line, .. } in environment::in_file(&text).unwrap_or_default() {
            if is_ours(&name) {
                said.push(format!(
                    "{path}:{line}: sets {name}, and an EnvironmentFile= ({}) has the last word over it; take it out there",
                    place(entry)
                ));
            }
        }
    }
    said
}

/// Reads a file of `EnvironmentFile=`, where it is there when generators run. What can't be read now may be later, and
/// patterns that match several files are looked at by systemd only.
fn environment_file(unit: &Effective, entry: &Entry, root: &Path) -> Option<(String, Vec<u8>)> {
    let value = entry.value();
    let path = specifier::expand(value.strip_prefix('-').unwrap_or(value), &unit.found.id).ok()??;
    let (base, below) = EARLY.iter().find_map(|base| Some((base, path.strip_prefix(base)?)))?;
    // A service's own user may have put anything there: a pipe, a file without end, a link to what mounts itself on a
    // look, which PID 1 would have to do, and that waits for us.
    let text = read_inside(
        &root.join(base.trim_matches('/')),
        Path::new(below.trim_start_matches('/')),
        LARGEST,
    )
    .ok()?;
    Some((path, text))
}

fn of_key<'a>(entries: &'a [Entry], key: &'static str) -> impl Iterator<Item = &'a Entry> {
    entries
        .iter()
        .filter(move |entry| entry.assignment.section == SERVICE && entry.assignment.key == key)
}

fn place(entry: &Entry) -> String {
    format!("{}:{}", entry.path.display(), entry.assignment.line)
}
