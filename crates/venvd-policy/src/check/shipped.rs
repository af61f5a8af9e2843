//! Configuration inside the venv (`<venv>/etc/…`): does `/etc` have it, and the same?

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{Finding, Subject};
use crate::rootwrap::conf::Conf;

pub(super) fn check(subject: Subject<'_>, conf: Option<&Conf<'_>>) -> Vec<Finding> {
    let Some(venv) = subject.venv else { return Vec::new() };
    let top = subject.layout.on_disk(venv.path()).join("etc");
    let mut findings = Vec::new();
    for entry in WalkDir::new(&top).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                if let Ok(relative) = entry.path().strip_prefix(&top) {
                    findings.extend(one(subject, conf, entry.path(), relative));
                }
            }
            Ok(_) => {}
            // Most venvs have no such directory.
            Err(error) if error.depth() == 0 => {}
            Err(error) => findings.push(Finding::unreadable(&error)),
        }
    }
    findings
}

/// How a file in `/etc` compares with the venv's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Copy {
    Same,
    Differs,
    Missing,
}

fn one(subject: Subject<'_>, conf: Option<&Conf<'_>>, file: &Path, relative: &Path) -> Option<Finding> {
    let Ok(shipped) = fs::read(file) else {
        return Some(Finding::error(
            "unreadable",
            format!("{} can't be read", file.display()),
        ));
    };
    let is_filter = file.extension().is_some_and(|extension| extension == "filters");
    let places = places(conf.filter(|_| is_filter), relative);
    let compare = |place: &PathBuf| match fs::read(subject.layout.on_disk(place)) {
        Ok(bytes) if same(subject, &shipped, &bytes) => Copy::Same,
        Ok(_) => Copy::Differs,
        Err(_) => Copy::Missing,
    };
    let best = places.iter().map(|place| (compare(place), place)).min()?;
    let inside = subject.layout.root().on_host(file);
    match best {
        (Copy::Same, _) => None,
        (Copy::Differs, place) => {
            let message = format!(
                "{} differs from {}, which this version of {} comes with; `diff -u` the two, and take over what is meant",
                place.display(),
                inside.display(),
                subject.app.name
            );
            Some(Finding::warning("config-differs", message))
        }
        (Copy::Missing, place) if is_filter => {
            let message = format!(
                "the filters {} are in no directory of filters_path, so rootwrap refuses what they would allow; install \
                 them as {}",
                inside.display(),
                place.display()
            );
            Some(Finding::error("filters-missing", message))
        }
        (Copy::Missing, place) => {
            let message = format!(
                "{} is not there; the venv comes with {}",
                place.display(),
                inside.display()
            );
            Some(Finding::warning("config-missing", message))
        }
    }
}

/// Returns where a file may be expected: filters in any directory that rootwrap reads, all else by its own path in `/etc`.
fn places(conf: Option<&Conf<'_>>, relative: &Path) -> Vec<PathBuf> {
    let name = relative.file_name().unwrap_or_default();
    match conf {
        Some(conf) => conf
            .filters_path()
            .iter()
            .map(|directory| Path::new(directory).join(name))
            .collect(),
        None => vec![Path::new("/etc").join(relative)],
    }
}

/// Compares files; a `rootwrap.conf` without what venvd put into it.
fn same(subject: Subject<'_>, shipped: &[u8], installed: &[u8]) -> bool {
    let without = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        Some(Conf::parse(text).ok()?.with_front(&subject.app.name, &[]))
    };
    shipped == installed || without(installed).is_some_and(|text| text.as_bytes() == shipped)
}
