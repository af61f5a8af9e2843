//! What a unit says after all of its files: the value of each key as systemd has it in the end.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::command::{self, CommandLine};
use crate::contents;
use crate::dropins;
use crate::entry::Source;
use crate::fatal;
use crate::lexer::{self, Assignment, Skipped};
use crate::name::UnitId;
use crate::search_path::{Found, UnitFiles};

/// The keys of `[Service]` that hold command lines (systemd.service(5)).
pub const EXEC_KEYS: [&str; 7] = [
    "ExecCondition",
    "ExecStartPre",
    "ExecStart",
    "ExecStartPost",
    "ExecReload",
    "ExecStop",
    "ExecStopPost",
];

pub(crate) const SERVICE: &str = "Service";

pub use crate::entry::{Entry, Trouble};

/// A unit as its files leave it.
#[derive(Debug)]
pub enum Unit {
    /// There is no file of that name.
    Absent,
    /// Masked by this file, a link to `/dev/null` or an empty one.
    Masked(PathBuf),
    /// Systemd can't load it, and why.
    Broken(Trouble),
    /// It can be loaded.
    Loaded(Box<Effective>),
}

/// All assignments of a unit, its file's and its drop-ins', in the order in which they apply.
#[derive(Debug)]
pub struct Effective {
    /// The unit's file and names.
    pub found: Found,
    /// What systemd ignores in these files.
    pub troubles: Vec<Trouble>,
    /// For [`load_below`]: the file that has the drop-in's name already.
    pub namesake: Option<PathBuf>,
    /// For [`load_below`]: what the drop-ins that apply after it say.
    pub above: Vec<Entry>,
    entries: Vec<Entry>,
}

/// Reads a unit: its file and all of its drop-ins, without what generators made.
#[must_use]
pub fn load(files: &UnitFiles, name: &UnitId) -> Unit {
    read_unit(files, name, None)
}

/// Reads a unit as it is below a drop-in called `dropin`: what that drop-in changes, whether it exists or not.
///
/// What applies after it is in [`Effective::above`] and counts nowhere else.
#[must_use]
pub fn load_below(files: &UnitFiles, name: &UnitId, dropin: &str) -> Unit {
    read_unit(files, name, Some(dropin))
}

fn read_unit(files: &UnitFiles, name: &UnitId, below: Option<&str>) -> Unit {
    let found = files.find(name);
    let Some(fragment) = found.fragment.clone() else {
        return Unit::Absent;
    };
    let text = contents::read(files.root(), &fragment, files.on_disk(&fragment).as_deref());
    if text.as_ref().is_ok_and(Vec::is_empty) {
        return Unit::Masked(fragment);
    }
    let (list, unreadable) = dropins::list(files, &found);
    let mut unit = Effective {
        found,
        troubles: Vec::new(),
        namesake: None,
        above: Vec::new(),
        entries: Vec::new(),
    };
    if let Err(trouble) = unit.read(&fragment, text) {
        return Unit::Broken(trouble);
    }
    for directory in unreadable {
        let what = directory.source.to_string();
        unit.troubles.push(Trouble::of_file(&directory.path, what));
    }
    let mut kept = None;
    for dropin in list {
        let order = below.map_or(Ordering::Less, |name| dropin.name().cmp(OsStr::new(name)));
        if order == Ordering::Equal {
            unit.namesake = Some(dropin.path);
            continue;
        }
        if order == Ordering::Greater && kept.is_none() {
            kept = Some(unit.entries.len());
        }
        // What stands before the fault is in force, what stands after it is lost.
        let text = contents::read(files.root(), &dropin.path, Some(&dropin.on_disk));
        if let Err(trouble) = unit.read(&dropin.path, text) {
            unit.troubles.push(trouble);
        }
    }
    if let Some(kept) = kept {
        unit.above = unit.entries.split_off(kept);
    }
    Unit::Loaded(Box::new(unit))
}

/// Reads a text as if it were the whole of the unit `id`, whose file were `path`.
#[must_use]
pub fn of_text(id: &UnitId, path: &Path, text: &str) -> Effective {
    let mut unit = Effective {
        found: Found {
            fragment: Some(path.to_owned()),
            names: [id.clone()].into(),
            id: id.clone(),
        },
        troubles: Vec::new(),
        namesake: None,
        above: Vec::new(),
        entries: Vec::new(),
    };
    if let Err(trouble) = unit.read(path, Ok(text.as_bytes().to_vec())) {
        unit.troubles.push(trouble);
    }
    unit
}

impl Effective {
    /// Adds what a file says, up to the fault that it is an error to have.
    fn read(&mut self, path: &Path, text: io::Result<Vec<u8>>) -> Result<(), Trouble> {
        let source = Source {
            path: Arc::from(path),
            bytes: Arc::new(text.map_err(|error| Trouble::of_file(path, error.to_string()))?),
        };
        let text = lexer::parse(&source.bytes);
        let told = text.warnings.iter().filter(|skipped| self.knows_section_of(skipped));
        let told: Vec<_> = told
            .map(|skipped| source.trouble((skipped.at, 1), skipped.warning.to_string()))
            .collect();
        self.troubles.extend(told);
        for assignment in text.assignments {
            self.add(assignment, &source)?;
        }
        match text.fault {
            Some(fault) => Err(source.trouble((fault.at, 1), fault.reason.to_string())),
            None => Ok(()),
        }
    }

    fn add(&mut self, assignment: Assignment, source: &Source) -> Result<(), Trouble> {
        let id = &self.found.id;
        let commands = is_exec(&assignment).then(|| command::parse_for(&assignment.value, id));
        let disliked = fatal::check(&assignment, id);
        let entry = Entry {
            path: source.path.clone(),
            assignment,
            bytes: source.bytes.clone(),
            commands,
        };
        let fault = entry.commands.as_ref().and_then(|line| line.fault);
        let result = match (fault, disliked) {
            (Some(fault), _) => {
                let trouble = entry.trouble(fault.at..fault.end, fault.to_string());
                if fault.fatal {
                    Err(trouble)
                } else {
                    self.troubles.push(trouble);
                    Ok(())
                }
            }
            (None, Err(dislike)) => {
                let what = format!("{}=: {dislike}", entry.assignment.key);
                Err(entry.trouble(0..entry.value().len(), what))
            }
            (None, Ok(())) => Ok(()),
        };
        self.entries.push(entry);
        result
    }

    /// Returns whether systemd reads the section at all; it is silent about what stands in others.
    fn knows_section_of(&self, skipped: &Skipped) -> bool {
        skipped.section.as_ref().is_none_or(|section| {
            let kind = self.found.id.kind();
            section == "Unit" || section == "Install" || section.eq_ignore_ascii_case(kind)
        })
    }

    /// Returns every assignment of all files, in the order in which they apply.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns every assignment to a key, resets included.
    pub fn all<'a>(&'a self, section: &'a str, key: &'a str) -> impl DoubleEndedIterator<Item = &'a Entry> {
        self.entries
            .iter()
            // The key first: most differ in it, and nearly all are of one section.
            .filter(move |e| e.assignment.key == key && e.assignment.section == section)
    }

    /// Returns the last value of a key, as for settings that hold one value.
    #[must_use]
    pub fn last<'a>(&'a self, section: &'a str, key: &'a str) -> Option<&'a str> {
        self.all(section, key).next_back().map(Entry::value)
    }

    /// Returns the assignments to a list that are in force: those after the last empty one.
    #[must_use]
    pub fn list<'a>(&'a self, section: &'a str, key: &'a str) -> Vec<&'a Entry> {
        let mut list: Vec<_> = self
            .all(section, key)
            .rev()
            .take_while(|entry| !entry.value().is_empty())
            .collect();
        list.reverse();
        list
    }

    /// Returns the command lines of one of [`EXEC_KEYS`] that are in force.
    #[must_use]
    pub fn commands<'a>(&'a self, key: &'a str) -> Vec<(&'a Entry, &'a CommandLine)> {
        self.list(SERVICE, key)
            .into_iter()
            .filter_map(|entry| Some((entry, entry.commands()?)))
            .collect()
    }
}

fn is_exec(assignment: &Assignment) -> bool {
    assignment.section == SERVICE && EXEC_KEYS.contains(&assignment.key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::Tree;

    const UNIT: &str = "usr/lib/systemd/system/a.service";

    fn load_a(tree: &Tree) -> Unit {
        load(&UnitFiles::scan(tree.root()), &UnitId::parse("a.service").unwrap())
    }

    fn loaded(tree: &Tree) -> Box<Effective> {
        match load_a(tree) {
            Unit::Loaded(unit) => unit,
            other => panic!("{other:?}"),
        }
    }

    fn starts(unit: &Effective) -> Vec<&str> {
        unit.commands("ExecStart")
            .iter()
            .map(|(entry, _)| entry.value())
            .collect()
    }

    #[test]
    fn resets_and_appends_over_all_files() {
        let tree = Tree::new();
        tree.file(
            UNIT,
            "[Service]\nExecStart=/bin/a 1\nExecStart=/bin/a 2\nExecReload=/bin/r\n",
        );
        tree.file(
            "etc/systemd/system/a.service.d/50-x.conf",
            "[Service]\nExecStart=/bin/a 3\n",
        );
        assert_eq!(starts(&loaded(&tree)), ["/bin/a 1", "/bin/a 2", "/bin/a 3"]);
        tree.file(
            "etc/systemd/system/a.service.d/override.conf",
            "[Service]\nExecStart=\nExecStart=/bin/b\n",
        );
        let unit = loaded(&tree);
        assert_eq!(starts(&unit), ["/bin/b"]);
        let (entry, line) = &unit.commands("ExecStart")[0];
        assert_eq!(*entry.path, *Path::new("/etc/systemd/system/a.service.d/override.conf"));
        assert_eq!(
            (entry.assignment.line, line.commands[0].program.as_str()),
            (3, "/bin/b")
        );
        assert_eq!(unit.commands("ExecReload").len(), 1, "each list is reset alone");
    }

    #[test]
    fn absent_masked_and_broken() {
        let tree = Tree::new();
        assert!(matches!(load_a(&tree), Unit::Absent));
        tree.bytes(UNIT, b"[Unit]\nDescription=\xff\n");
        assert!(matches!(load_a(&tree), Unit::Broken(trouble) if trouble.line == 2));
        tree.file(UNIT, "[Service]\nExecStart=rel/x\n");
        assert!(matches!(load_a(&tree), Unit::Broken(trouble) if trouble.line == 2));
        tree.link("etc/systemd/system/a.service", "/dev/null");
        assert!(matches!(load_a(&tree), Unit::Masked(path) if path == Path::new("/etc/systemd/system/a.service")));
    }

    #[test]
    fn a_fault_in_a_dropin_loses_its_rest() {
        // Tried on 252 with `systemd-analyze verify`.
        for fault in [&b"X=\xff"[..], b"[bad", b"ExecStartPre=rel/x"] {
            let tree = Tree::new();
            tree.file(UNIT, "[Service]\nExecStart=/bin/a\n");
            let text = [&b"[Service]\nExecStart=/bin/b\n"[..], fault, b"\nExecStart=/bin/c\n"].concat();
            tree.bytes("etc/systemd/system/a.service.d/x.conf", &text);
            let unit = loaded(&tree);
            assert_eq!(starts(&unit), ["/bin/a", "/bin/b"], "{}", fault.escape_ascii());
            assert_eq!(unit.troubles.len(), 1);
            assert_eq!(unit.troubles[0].line, 3);
        }
    }

    #[test]
    fn a_masked_dropin_hides_the_one_below() {
        let tree = Tree::new();
        tree.file(UNIT, "[Service]\nExecStart=/bin/a\n");
        tree.file(
            "usr/lib/systemd/system/a.service.d/x.conf",
            "[Service]\nExecStart=/bin/b\n",
        );
        tree.link("etc/systemd/system/a.service.d/x.conf", "/dev/null");
        let unit = loaded(&tree);
        assert_eq!(starts(&unit), ["/bin/a"]);
        assert!(unit.troubles.is_empty());
    }

    #[test]
    fn below_a_dropin_is_what_applies_before_it() {
        let tree = Tree::new();
        tree.file(UNIT, "[Service]\nExecStart=/bin/a\n");
        tree.file(
            "etc/systemd/system/a.service.d/override.conf",
            "[Service]\nExecStart=/bin/b\n",
        );
        tree.file(
            "etc/systemd/system/a.service.d/zz-venvd.conf",
            "[Service]\nExecStart=/bin/c\n",
        );
        tree.file(
            "etc/systemd/system/a.service.d/zzz.conf",
            "[Service]\nExecStart=/bin/d\n",
        );
        let name = UnitId::parse("a.service").unwrap();
        let Unit::Loaded(unit) = load_below(&UnitFiles::scan(tree.root()), &name, "zz-venvd.conf") else {
            panic!()
        };
        assert_eq!(starts(&unit), ["/bin/a", "/bin/b"]);
        assert_eq!(unit.above.iter().map(Entry::value).collect::<Vec<_>>(), ["/bin/d"]);
        assert!(unit.namesake.is_some_and(|path| path.ends_with("zz-venvd.conf")));
    }
}
