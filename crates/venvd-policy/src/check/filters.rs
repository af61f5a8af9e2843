//! rootwrap filters: is the program there, is it the venv's, and can the venv's interpreter be killed?

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ini::{self, Entry};
use super::{Finding, Subject};
use crate::rootwrap::conf::Conf;
use crate::sudoers::system;

/// As `oslo_rootwrap.filters`: those whose first argument is a program.
const WITH_PROGRAM: [&str; 7] = [
    "CommandFilter",
    "RegExpFilter",
    "PathFilter",
    "EnvFilter",
    "IpFilter",
    "IpNetnsExecFilter",
    "ChainingRegExpFilter",
];

/// A filter and its file.
#[derive(Debug, Clone)]
struct Filter {
    file: PathBuf,
    entry: Entry,
}

impl Filter {
    fn place(&self) -> String {
        format!("{}:{} ({})", self.file.display(), self.entry.line, self.entry.name)
    }

    fn class(&self) -> &str {
        self.entry.parts.first().map_or("", String::as_str)
    }

    fn part(&self, index: usize) -> &str {
        self.entry.parts.get(index).map_or("", String::as_str)
    }

    /// As `EnvFilter.__init__`: with `env A= B= program`, the program is what comes after the variables.
    fn program(&self) -> &str {
        if self.class() == "EnvFilter" && self.part(1).contains("env") {
            let behind = self.entry.parts.iter().skip(3).find(|part| !part.contains('='));
            return behind.map_or(self.part(1), String::as_str);
        }
        self.part(1)
    }
}

pub(super) fn check(subject: Subject<'_>, conf: &Conf<'_>) -> Vec<Finding> {
    let (filters, mut findings) = read(subject, conf);
    let directories = program_directories(subject, conf);
    for filter in &filters {
        findings.extend(one(subject, filter, &directories));
    }
    findings.extend(kill_filters(subject, &filters));
    findings
}

/// Reads all filter files in rootwrap's directories.
fn read(subject: Subject<'_>, conf: &Conf<'_>) -> (Vec<Filter>, Vec<Finding>) {
    let (mut filters, mut findings) = (Vec::new(), Vec::new());
    for directory in conf.filters_path() {
        let entries = fs::read_dir(subject.layout.on_disk(directory));
        let mut names: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        for name in names
            .into_iter()
            .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        {
            let file = Path::new(directory).join(name);
            match fs::read(subject.layout.on_disk(&file)) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let of_file = |entry| Filter {
                        file: file.clone(),
                        entry,
                    };
                    filters.extend(ini::filters(&text).into_iter().map(of_file));
                }
                // As rootwrap: what is no file is skipped.
                Err(_) if subject.layout.on_disk(&file).is_dir() => {}
                Err(error) => findings.push(Finding::error("unreadable", format!("{}: {error}", file.display()))),
            }
        }
    }
    (filters, findings)
}

/// Returns where rootwrap looks for programs: the venv first, as the policy has it.
fn program_directories(subject: Subject<'_>, conf: &Conf<'_>) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = subject.venv.iter().map(|venv| venv.path().join("bin")).collect();
    match conf.exec_dirs() {
        Some(entries) => directories.extend(entries.into_iter().map(PathBuf::from)),
        None => {
            let user = subject.app.user.as_ref();
            let path = user.and_then(|user| system::secure_path(subject.layout, user).ok());
            directories.extend(
                path.iter()
                    .flat_map(|path| &path.directories)
                    .map(|path| path.as_str().into()),
            );
        }
    }
    directories
}

fn one(subject: Subject<'_>, filter: &Filter, directories: &[PathBuf]) -> Option<Finding> {
    let class = filter.class();
    if ["KillFilter", "ReadFileFilter"].contains(&class) {
        return None;
    }
    if !WITH_PROGRAM.contains(&class) {
        let message = format!("{}: rootwrap knows no {class:?} and skips it", filter.place());
        return Some(Finding::warning("filter-unknown-class", message));
    }
    let program = filter.program();
    let there = |path: &Path| is_executable(&subject.layout.on_disk(path));
    if !program.starts_with('/') {
        let found = directories.iter().any(|directory| there(&directory.join(program)));
        return (!found).then(|| {
            let message = format!(
                "{}: {program} is in none of the exec_dirs, nor in the venv",
                filter.place()
            );
            Finding::warning("filter-without-program", message)
        });
    }
    let path = Path::new(program);
    let ours = subject
        .venv
        .map(|venv| venv.path().join("bin").join(path.file_name().unwrap_or_default()));
    match ours.filter(|ours| there(ours) && *ours != path) {
        Some(ours) => {
            let message = format!(
                "{}: {program} is run, though the venv has its own {}; name it without a path",
                filter.place(),
                ours.display()
            );
            Some(Finding::error("filter-outside-venv", message))
        }
        None => (!there(path)).then(|| {
            let message = format!("{}: {program} is not there", filter.place());
            Finding::warning("filter-without-program", message)
        }),
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Finds processes of the venv's interpreter that rootwrap would not kill: `KillFilter` compares with `/proc/PID/exe`,
/// which is never the venv's link. Filters with the same user and signals stand in for each other.
fn kill_filters(subject: Subject<'_>, filters: &[Filter]) -> Vec<Finding> {
    let python = subject.venv.map(|venv| venv.path().join("bin/python"));
    let Some(interpreter) = python.and_then(|python| subject.layout.trusted(&python).ok()) else {
        return Vec::new();
    };
    let is_python = |filter: &&Filter| {
        let name = Path::new(filter.part(2))
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let version = name.strip_prefix("python");
        filter.class() == "KillFilter"
            && version.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    let mut groups: BTreeMap<(&str, &[String]), Vec<&Filter>> = BTreeMap::new();
    for filter in filters.iter().filter(is_python) {
        let signals = filter.entry.parts.get(3..).unwrap_or_default();
        groups.entry((filter.part(1), signals)).or_default().push(filter);
    }
    let name = interpreter
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let fits = |filter: &&Filter| filter.part(2) == name || Path::new(filter.part(2)) == interpreter;
    let mut findings = Vec::new();
    for ((user, signals), filters) in groups {
        if filters.iter().any(fits) {
            continue;
        }
        let Some(first) = filters.first() else { continue };
        let named: Vec<&str> = filters.iter().map(|filter| filter.part(2)).collect();
        let signals: String = signals.iter().map(|signal| format!(", {signal}")).collect();
        let message = format!(
            "{}: {} is not the venv's interpreter {}, so its processes can't be killed; add `KillFilter, {user}, {}{signals}`",
            first.place(),
            named.join(", "),
            interpreter.display(),
            interpreter.display()
        );
        findings.push(Finding::error("kill-filter", message));
    }
    findings
}
