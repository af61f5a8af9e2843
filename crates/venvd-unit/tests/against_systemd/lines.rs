//! One directory, each unit with at most one drop-in: what lines mean.

use std::fs;

use crate::oracle::systemds;
use crate::ours;
use crate::random::{Random, units};

/// Specifiers that the name decides. Elsewhere only `%i`: of a unit with aliases, systemd expands the others for the name
/// that it came by first.
const OF_NAME: [&str; 9] = ["%i", "%I", "%n", "%N", "%p", "%P", "%j", "%J", "%f"];

fn name(number: usize) -> String {
    let kind = [".service", r"-x\x2dy.service", "@a-b.service", r"@\x2e-\q.service"][number % 4];
    format!("u{number}{kind}")
}

fn file(random: &mut Random) -> Vec<u8> {
    let mut bytes = random.file();
    let other = random.of(&OF_NAME).as_bytes();
    for at in 1..bytes.len() {
        if bytes[at - 1..=at] == *b"%i" {
            bytes[at - 1..=at].copy_from_slice(other);
        }
    }
    bytes
}

#[test]
fn both_read_the_same() {
    let root = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(root.path()).unwrap();
    let mut random = Random::new();
    let names: Vec<_> = (0..units()).map(name).collect();
    for name in &names {
        fs::write(directory.join(name), file(&mut random)).unwrap();
        if random.once_in(2) {
            let dropin = directory.join(format!("{name}.d/x.conf"));
            fs::create_dir_all(dropin.parent().unwrap()).unwrap();
            fs::write(dropin, file(&mut random)).unwrap();
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
