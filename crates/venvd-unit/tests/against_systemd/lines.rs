//! One directory, each unit with at most one drop-in: what lines mean.

use std::fs;

use crate::oracle::systemds;
use crate::ours;
use crate::random::{Random, units};

#[test]
fn both_read_the_same() {
    let root = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(root.path()).unwrap();
    let mut random = Random::new();
    let names: Vec<_> = (0..units()).map(|number| format!("u{number}.service")).collect();
    for name in &names {
        fs::write(directory.join(name), random.file()).unwrap();
        if random.once_in(2) {
            let dropin = directory.join(format!("{name}.d/x.conf"));
            fs::create_dir_all(dropin.parent().unwrap()).unwrap();
            fs::write(dropin, random.file()).unwrap();
        }
    }
    let directories = [directory.clone()];
    let files = ours::scan(&directories);
    for systemd in systemds() {
        let theirs = systemd.read(&directories, &names);
        let mut commands = 0;
        for name in &names {
            let ours = ours::read(&files, name);
            let theirs = theirs.get(name).filter(|unit| unit.loaded).cloned().unwrap_or_default();
            let text = |path: String| {
                fs::read(directory.join(path))
                    .unwrap_or_default()
                    .escape_ascii()
                    .to_string()
            };
            assert_eq!(
                ours,
                theirs,
                "{} and {name}:\n{}\n--- drop-in\n{}",
                systemd.version,
                text(name.clone()).replace("\\n", "\n"),
                text(format!("{name}.d/x.conf")).replace("\\n", "\n"),
            );
            commands += ours.lists.values().flatten().count();
        }
        assert!(
            commands > names.len(),
            "the lines are too wild to say much: {commands} commands"
        );
    }
}
