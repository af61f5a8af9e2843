//! A unit's drop-ins: which directories count, and in what order their files apply.
//!
//! Follows `unit_file_find_dropin_paths()` of systemd's `dropin.c` and `conf_files_list_strv()`: the files of all
//! directories are sorted *together* by name; of files with one name the first directory's is taken.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::chase::{Last, below, chase};
use crate::name::UnitId;
use crate::search_path::{Found, UnitFiles, Unreadable};

/// One drop-in file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIn {
    /// Its path on the host.
    pub path: PathBuf,
    /// Where it is on disk, unless it is a link itself.
    pub(crate) on_disk: PathBuf,
}

impl DropIn {
    /// Returns the name that decides when it applies.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// Returns the drop-ins of a unit in the order in which they apply, and the directories that could not be read.
///
/// A mask (a link to `/dev/null`) is among them: it hides the files of its name and has no text.
#[must_use]
pub fn list(files: &UnitFiles, unit: &Found) -> (Vec<DropIn>, Vec<Unreadable>) {
    let mut by_name = BTreeMap::new();
    let mut unreadable = Vec::new();
    let mut seen = HashSet::new();
    for directory in directories(files, unit) {
        let read = chase(files.root(), &directory, Last::Follow).and_then(|resolved| {
            let on_disk = below(files.root(), &resolved);
            let names = if seen.insert(resolved) {
                read_names(&on_disk)?
            } else {
                Vec::new()
            };
            Ok((on_disk, names))
        });
        match read {
            Ok((on_disk, names)) => {
                for name in names {
                    let (path, on_disk) = (directory.join(&name), on_disk.join(&name));
                    by_name.entry(name).or_insert(DropIn { path, on_disk });
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => unreadable.push(Unreadable {
                path: directory,
                source,
            }),
        }
    }
    (by_name.into_values().collect(), unreadable)
}

/// Returns the names of the `.conf` files of a directory, but for hidden ones (`hidden_or_backup_file()`).
fn read_names(on_disk: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(on_disk)? {
        let name = entry?.file_name();
        let bytes = name.as_bytes();
        if bytes.ends_with(b".conf") && !bytes.starts_with(b".") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns the unit's drop-in directories that exist, highest priority first, as the host names them.
///
/// For each directory of the search path in turn (so that `/etc` beats `/usr` whatever the name), the names of the
/// unit from the most to the least specific; then the same for its aliases; last those of the type, `service.d`.
fn directories(files: &UnitFiles, unit: &Found) -> Vec<PathBuf> {
    let aliases = unit.names.iter().filter(|name| **name != unit.id);
    let mut all = Vec::new();
    let mut add = |names: &[&str]| {
        let mut found: Vec<(usize, &str)> = Vec::new();
        for name in names {
            found.extend(files.dropin_directories(name).iter().map(|base| (*base, *name)));
        }
        // Stable: within a directory the names keep their order.
        found.sort_by_key(|(base, _)| *base);
        all.extend(
            found
                .iter()
                .filter_map(|(base, name)| Some(files.directories().get(*base)?.join(format!("{name}.d")))),
        );
    };
    for name in std::iter::once(&unit.id).chain(aliases) {
        let names = names_with_dropins(name);
        add(&names.iter().map(UnitId::as_str).collect::<Vec<_>>());
    }
    add(&[unit.id.kind()]);
    all
}

/// `unit_file_find_dirs()`: the unit, its template, and the same for each prefix that ends with a dash.
fn names_with_dropins(name: &UnitId) -> Vec<UnitId> {
    let mut names = vec![name.clone()];
    names.extend(name.template().iter().flat_map(names_with_dropins));
    names.extend(name.shorter().iter().flat_map(names_with_dropins));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::Tree;

    fn paths(tree: &Tree, name: &str) -> Vec<String> {
        let files = UnitFiles::scan(tree.root());
        let (dropins, unreadable) = list(&files, &files.find(&UnitId::parse(name).unwrap()));
        assert!(unreadable.is_empty());
        dropins.iter().map(|d| d.path.display().to_string()).collect()
    }

    #[test]
    fn files_sort_by_name_over_all_directories() {
        let tree = Tree::new();
        tree.file("usr/lib/systemd/system/a.service", "x");
        for path in [
            "usr/lib/systemd/system/a.service.d/50-b.conf",
            "usr/lib/systemd/system/a.service.d/10-a.conf",
            "usr/lib/systemd/system/a.service.d/README",
            "usr/lib/systemd/system/a.service.d/.#x.conf",
            "etc/systemd/system/a.service.d/20-c.conf",
            "etc/systemd/system/a.service.d/50-b.conf",
            "run/systemd/system/a.service.d/override.conf",
            "usr/lib/systemd/system/service.d/30-all.conf",
            "run/systemd/generator/a.service.d/zz-venvd.conf",
        ] {
            tree.file(path, "x");
        }
        assert_eq!(
            paths(&tree, "a.service"),
            [
                "/usr/lib/systemd/system/a.service.d/10-a.conf",
                "/etc/systemd/system/a.service.d/20-c.conf",
                "/usr/lib/systemd/system/service.d/30-all.conf",
                "/etc/systemd/system/a.service.d/50-b.conf",
                "/run/systemd/system/a.service.d/override.conf",
            ]
        );
    }

    #[test]
    fn every_name_of_the_unit_counts() {
        let tree = Tree::new();
        tree.file("usr/lib/systemd/system/foo-bar@.service", "x");
        tree.link("usr/lib/systemd/system/alias@.service", "foo-bar@.service");
        let directories = [
            "foo-bar@i.service.d",
            "foo-bar@.service.d",
            "foo-@i.service.d",
            "foo-@.service.d",
            "foo-.service.d",
            "alias@i.service.d",
            "alias@.service.d",
            "service.d",
        ];
        for (number, directory) in directories.iter().enumerate() {
            tree.file(&format!("etc/systemd/system/{directory}/{number}.conf"), "x");
            tree.file(&format!("etc/systemd/system/{directory}/same.conf"), "x");
        }
        let got = paths(&tree, "foo-bar@i.service");
        let want: Vec<_> = directories
            .iter()
            .enumerate()
            .map(|(number, directory)| format!("/etc/systemd/system/{directory}/{number}.conf"))
            .chain(["/etc/systemd/system/foo-bar@i.service.d/same.conf".to_owned()])
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn the_directory_of_the_search_path_counts_more_than_the_name() {
        let tree = Tree::new();
        tree.file("usr/lib/systemd/system/foo-bar.service", "x");
        tree.file("usr/lib/systemd/system/foo-bar.service.d/a.conf", "x");
        tree.file("etc/systemd/system/foo-.service.d/a.conf", "x");
        // service.d comes last, wherever it is.
        tree.file("etc/systemd/system.control/service.d/a.conf", "x");
        assert_eq!(
            paths(&tree, "foo-bar.service"),
            ["/etc/systemd/system/foo-.service.d/a.conf"]
        );
    }

    #[test]
    fn a_dropin_of_an_alias_applies() {
        let tree = Tree::new();
        tree.file("usr/lib/systemd/system/a.service", "x");
        tree.link("etc/systemd/system/b.service", "/usr/lib/systemd/system/a.service");
        tree.file("etc/systemd/system/b.service.d/x.conf", "x");
        assert_eq!(paths(&tree, "a.service"), ["/etc/systemd/system/b.service.d/x.conf"]);
    }
}
