//! What links there are to be, and making them so.
//!
//! The answer is always for the whole host, so whoever asks mends what others left: a definition that has gone, another
//! directory in the settings, a power cut. On the way, links that go are removed first and new ones are made last,
//! with the table between: no link is there that the table does not know.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use venvd_fs::{IoContext, atomic};

use super::{PLACES, Problem, Table, is_ours};
use crate::cmdline::Switch;
use crate::in_force::{self, Switches};
use crate::name::{AppName, ProgramName};
use crate::scope::Scope;
use crate::search::{self, Declared};
use crate::{App, Layout};

/// What is to be changed, and what can't be as the definitions want it.
#[derive(Debug, Default)]
pub struct Plan {
    /// Links that go, on disk.
    remove: Vec<PathBuf>,
    /// The table, where it changes.
    table: Option<Table>,
    /// Links that come, on disk, and whose they are.
    make: Vec<(PathBuf, AppName)>,
    /// What is in the way of others.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Returns whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.table.is_none() && self.make.is_empty()
    }

    /// Makes it so, and returns what could not be done, or was not to be. One thing that fails hides no other.
    #[must_use]
    pub fn apply(self, layout: &Layout) -> Vec<Problem> {
        let mut problems = self.problems;
        let mut note = |result: Result<(), venvd_fs::Error>| match result {
            Ok(()) => true,
            Err(error) => {
                problems.push(error.into());
                false
            }
        };
        for link in self.remove.iter().filter(|link| is_ours(link)) {
            note(atomic::remove(link).map(drop));
        }
        let written = self.table.is_none_or(|table| note(write(layout, &table)));
        if written {
            let program = program(layout);
            for (link, _) in &self.make {
                note(make(program, link));
            }
        }
        problems
    }
}

/// Makes the links follow what is in force, and returns what stands in the way.
#[must_use]
pub fn follow(layout: &Layout) -> Vec<Problem> {
    plan(layout, None).apply(layout)
}

/// Checks that an app's commands could be exposed if it were in force; changes nothing.
///
/// # Errors
/// The first thing in the way.
pub fn check(layout: &Layout, app: &App) -> Result<(), Problem> {
    if app.expose.is_empty() {
        return Ok(());
    }
    let plan = plan(layout, Some(app));
    if let Some(problem) = plan
        .problems
        .into_iter()
        .find(|problem| problem.app().is_none_or(|whose| *whose == app.name))
    {
        return Err(problem);
    }
    for (link, _) in plan.make.iter().filter(|(_, whose)| *whose == app.name) {
        let directory = link.ancestors().skip(1).find(|directory| directory.is_dir());
        atomic::writable(directory.unwrap_or(link)).map_err(|source| Problem::ReadOnly {
            settings: layout.settings(),
            source,
        })?;
    }
    Ok(())
}

/// Compares what is in force, and `trying` as if it were, with what links there are; only reads.
#[must_use]
pub fn plan(layout: &Layout, trying: Option<&App>) -> Plan {
    if layout.scope() == Scope::User {
        return Plan::default();
    }
    // One that can't be understood is written anew.
    let present = Table::load(layout).ok();
    let old = present.clone().unwrap_or_default();
    let mut plan = Plan::default();
    let apps = exposing(layout, trying);
    let wanted = assign(&apps, &old, &mut plan.problems);
    let directory = match directory(layout, &old) {
        Ok(directory) => Some(directory),
        Err(_) if wanted.is_empty() => None,
        Err(problem) => {
            plan.problems.push(problem);
            None
        }
    };
    if let Some(directory) = &directory {
        links(layout, directory, &wanted, &mut plan);
    }
    let new = Table {
        directory: directory.unwrap_or_else(|| old.directory.clone()),
        commands: wanted
            .iter()
            .map(|(name, app)| ((*name).clone(), app.name.clone()))
            .collect(),
    };
    let gone = old
        .commands
        .keys()
        .filter(|name| old.directory != new.directory || !new.commands.contains_key(name));
    plan.remove = gone
        .map(|name| layout.on_disk(old.directory.join(name.as_str())))
        .filter(|link| is_ours(link))
        .collect();
    // Where nothing was ever exposed there is no table.
    let none = old.commands.is_empty() && new.commands.is_empty();
    plan.table = (present.as_ref() != Some(&new) && !(present.is_some() && none)).then_some(new);
    plan
}

/// Returns the apps that expose something now. As with units, the definition that was accepted last stands in for one
/// that is broken.
fn exposing(layout: &Layout, trying: Option<&App>) -> Vec<App> {
    let Declared {
        settings, apps, broken, ..
    } = search::load(layout);
    let switches = Switches {
        host: settings.enabled,
        kernel: Switch::of_this_boot(layout),
    };
    let accepted = broken
        .into_keys()
        // What is wrong with that one, too, is said where its units are looked at.
        .filter_map(|name| search::load_accepted(layout, &name).ok().flatten());
    apps.into_values()
        .chain(accepted)
        .filter(|app| trying.is_none_or(|trying| trying.name != app.name) && !app.expose.is_empty())
        .filter(|app| in_force::of_app(layout, app, &switches).is_ok_and(|found| found.venv.is_some()))
        .chain(trying.cloned())
        .collect()
}

/// Gives each command to one app: the one that has it, else the first.
fn assign<'a>(apps: &'a [App], old: &Table, problems: &mut Vec<Problem>) -> BTreeMap<&'a ProgramName, &'a App> {
    let mut wanted = BTreeMap::new();
    for app in apps {
        for name in &app.expose {
            let Some(&other) = wanted.get(name) else {
                wanted.insert(name, app);
                continue;
            };
            let (has, lacks): (&App, &App) = match old.commands.get(name) {
                Some(owner) if *owner == app.name => (app, other),
                _ => (other, app),
            };
            wanted.insert(name, has);
            problems.push(Problem::Twice {
                name: name.clone(),
                app: lacks.name.clone(),
                definition: lacks.source.clone(),
                other: has.name.clone(),
                others_definition: has.source.clone(),
            });
        }
    }
    wanted
}

/// Returns where the links belong, as a path of the host without links in it. Broken settings move nothing.
fn directory(layout: &Layout, old: &Table) -> Result<PathBuf, Problem> {
    let named = search::load_settings(layout).map_or_else(|_| old.directory.clone(), |found| found.commands_directory);
    let mut missing: Vec<OsString> = Vec::new();
    let mut present = named.as_path();
    // What is not there yet will be ours, so what it is made in has to be safe.
    while fs::symlink_metadata(layout.on_disk(present)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let (Some(name), Some(parent)) = (present.file_name(), present.parent()) else {
            break;
        };
        missing.push(name.to_owned());
        present = parent;
    }
    let real = layout.trusted(present).map_err(|source| Problem::Directory {
        directory: named.clone(),
        settings: layout.settings(),
        source,
    })?;
    Ok(missing.iter().rev().fold(real, |path, name| path.join(name)))
}

/// Finds the links that are to be made, and what is in their way.
fn links(layout: &Layout, directory: &Path, wanted: &BTreeMap<&ProgramName, &App>, plan: &mut Plan) {
    let program = Path::new(program(layout));
    for (name, app) in wanted {
        let link = directory.join(name.as_str());
        let on_disk = layout.on_disk(&link);
        match fs::symlink_metadata(&on_disk) {
            Ok(_) if is_ours(&on_disk) => {
                if fs::read_link(&on_disk).is_ok_and(|target| target != program) {
                    plan.make.push((on_disk, app.name.clone()));
                }
            }
            Ok(_) => plan.problems.push(Problem::Foreign {
                name: (*name).clone(),
                app: app.name.clone(),
                definition: app.source.clone(),
                link,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => plan.make.push((on_disk, app.name.clone())),
            Err(error) => plan.problems.push(Problem::Io(venvd_fs::Error {
                action: "look at",
                path: on_disk,
                source: error,
            })),
        }
    }
}

/// Returns what links lead to; also in an image that gets it later.
fn program(layout: &Layout) -> &'static str {
    let installed = PLACES.into_iter().find(|place| layout.on_disk(place).is_file());
    installed.unwrap_or(PLACES[0])
}

fn make(program: &str, link: &Path) -> Result<(), venvd_fs::Error> {
    if is_ours(link) {
        return atomic::symlink(Path::new(program), link).map(drop);
    }
    let directory = link.parent().unwrap_or(Path::new("/"));
    atomic::create_directories(directory, 0o755)?;
    // By no rename, which would go over what somebody has put there meanwhile.
    symlink(program, link).at("make the link", link)?;
    atomic::sync_directory(directory)
}

fn write(layout: &Layout, table: &Table) -> Result<(), venvd_fs::Error> {
    let path = layout.exposed_commands();
    if table.commands.is_empty() {
        return atomic::remove(&path).map(drop);
    }
    // Strings and maps of strings only: this can't fail, and an empty file would be refused by `load`.
    let text = serde_json::to_vec_pretty(table).unwrap_or_default();
    atomic::write(&path, &text, 0o644).map(drop)
}
