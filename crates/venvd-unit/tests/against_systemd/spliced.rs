//! A splice changes the programs and nothing else: for us, and for systemd that reads the drop-in made of it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use venvd_unit::command::{Command, CommandLine, parse_for};
use venvd_unit::effective::{EXEC_KEYS, Effective, Unit, load_below};
use venvd_unit::splice::{PlainPath, splice};
use venvd_unit::{UnitFiles, UnitId, dropins};

use crate::oracle::{Reading, systemds};
use crate::ours;
use crate::random::{Random, units};
use crate::tree::{Asked, Tree};

const DROPIN: &str = "zz-venvd.conf";
const BATCH: usize = 500;

/// Where a command's program is afterwards: somewhere with a `%`, another one for each.
fn new_program(command: &Command) -> String {
    let name = command.program.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("/venv/50%/bin/{name}")
}

#[test]
fn only_programs_change() {
    let systemds = systemds();
    let mut random = Random::new();
    let (mut spliced, mut refused) = (0, 0);
    for _ in 0..units().div_ceil(BATCH) {
        let tree = Tree::random(&mut random, BATCH);
        let names = tree.names(Asked::Names);
        let files = ours::scan(&tree.directories);
        let generated = tree.directories.last().unwrap();
        let mut wanted = Vec::new();
        for name in &names {
            let id = UnitId::parse(name).unwrap();
            let Unit::Loaded(unit) = load_below(&files, &id, DROPIN) else {
                continue;
            };
            // Not what is known under another name, nor where other drop-ins have the last word.
            let last = dropins::list(&files, &unit.found).0.pop();
            if unit.found.id != id || last.is_some_and(|last| last.name() > OsStr::new(DROPIN)) {
                continue;
            }
            match drop_in(&unit) {
                Some(text) => {
                    let directory = generated.join(format!("{name}.d"));
                    fs::create_dir(&directory).unwrap();
                    fs::write(directory.join(DROPIN), text).unwrap();
                    wanted.push((name, expected(&files, &unit, &directory.join(DROPIN))));
                    spliced += 1;
                }
                None => refused += 1,
            }
        }
        for systemd in &systemds {
            let theirs = systemd.read(&tree.directories, &names);
            for (name, want) in &wanted {
                let family = name.split_once('-').unwrap().0;
                assert_eq!(
                    theirs.get(*name),
                    Some(want),
                    "{} and {name}:\n{}",
                    systemd.version,
                    tree.show(&format!("{family}-"))
                );
            }
        }
    }
    assert!(
        spliced > refused,
        "too few lines can be spliced: {refused} can't, {spliced} can"
    );
}

/// Returns the text of a drop-in that changes all programs, as the generator's.
fn drop_in(unit: &Effective) -> Option<String> {
    let mut text = String::from("[Service]\n");
    for key in EXEC_KEYS {
        let commands = unit.commands(key);
        if commands.is_empty() {
            continue;
        }
        text.push_str(&format!("{key}=\n"));
        for (entry, line) in commands {
            // Written again, it would end our drop-in too.
            if line.fault.is_some_and(|fault| fault.fatal) {
                return None;
            }
            let replace = |command: &Command| Some(PlainPath::new(&new_program(command)).unwrap());
            let new = splice(entry.value(), line, replace).ok()?;
            if let Some(new) = &new {
                assert_same(line, &parse_for(new, &unit.found.id));
            }
            let value = new.unwrap_or_else(|| entry.value().to_owned());
            text.push_str(&format!("{key}={value}\n"));
        }
    }
    Some(text)
}

/// What is read again is what was there, with other programs.
fn assert_same(old: &CommandLine, new: &CommandLine) {
    assert_eq!((new.fault, new.commands.len()), (None, old.commands.len()));
    for (old, new) in old.commands.iter().zip(&new.commands) {
        assert_eq!(new.program, new_program(old));
        assert_eq!((&new.arguments, new.prefixes), (&old.arguments, old.prefixes));
    }
}

/// What systemd has to read then.
fn expected(files: &UnitFiles, unit: &Effective, dropin: &Path) -> Reading {
    let mut want = ours::reading(files, unit);
    for (key, commands) in &mut want.lists {
        let old = unit.commands(key);
        for (words, command) in commands.iter_mut().zip(old.iter().flat_map(|(_, line)| &line.commands)) {
            if !command.prefixes.argv0 {
                words[0] = new_program(command);
            }
        }
    }
    want.dropins.push(dropin.display().to_string());
    want
}
