//! Random search paths: files, masks, links, aliases, templates and drop-ins in several directories.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// Which names are asked for in one run. An alias of a unit that is there already would only be merged into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Names,
    Aliases,
}

/// Directories with units.
#[derive(Debug)]
pub(crate) struct Tree {
    _temporary: tempfile::TempDir,
    /// The search path; the last one is for what is generated.
    pub(crate) directories: Vec<PathBuf>,
    outside: PathBuf,
    families: usize,
}

/// Drop-ins' names, in no order.
const DROPINS: [&str; 9] = [
    ".hidden.conf",
    "\u{e4}.conf",
    "50-x.conf",
    "10-a.conf",
    "override.conf",
    "z.conf",
    "90.conf",
    "README",
    "x.conf~",
];

impl Tree {
    /// Makes about `units` units.
    pub(crate) fn random(random: &mut Random, units: usize) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(temporary.path()).unwrap();
        let tree = Self {
            _temporary: temporary,
            directories: ["etc", "run", "lib", "generated"].map(|name| base.join(name)).to_vec(),
            outside: base.join("outside"),
            families: units.div_ceil(5),
        };
        for directory in tree.directories.iter().chain([&tree.outside]) {
            fs::create_dir(directory).unwrap();
        }
        fs::create_dir(tree.directories[1].join("service.d")).unwrap();
        fs::write(
            tree.directories[1].join("service.d/30-all.conf"),
            "[Service]\nEnvironment=ALL=%i\n",
        )
        .unwrap();
        for number in 0..tree.families {
            tree.family(number, random);
        }
        tree
    }

    /// Returns the names to ask for.
    pub(crate) fn names(&self, asked: Asked) -> Vec<String> {
        let stems: &[&str] = match asked {
            Asked::Names => &["a-b", "w@1", r"w@x-y\x2e", "w@2"],
            Asked::Aliases => &["al", "v@1", "s@3"],
        };
        (0..self.families)
            .flat_map(|number| stems.iter().map(move |stem| format!("t{number}-{stem}.service")))
            .collect()
    }

    fn family(&self, number: usize, random: &mut Random) {
        let name = |stem: &str| format!("t{number}-{stem}.service");
        for stem in ["a-b", "w@", "w@2"] {
            // Not every instance has a file of its own.
            if stem == "w@2" && !random.once_in(4) {
                continue;
            }
            self.unit(&name(stem), random);
        }
        for (alias, of) in [
            ("al", "a-b"),
            ("al2", "al"),
            ("v@", "w@"),
            ("s@3", "w@"),
            ("v@1", "w@1"),
            ("al", "w@1"),
        ] {
            if random.once_in(2) {
                self.alias(&name(alias), &name(of), random);
            }
        }
        for stem in ["a-b", "a-", "w@", "w@1", "w@2", r"w@x-y\x2e"] {
            self.dropins(&name(stem), "", random);
        }
        for stem in ["", "@1", "@", "-@1"] {
            self.dropins(&format!("t{number}-{stem}.service"), "", random);
        }
        // Which alias comes first is a matter of hashes in systemd: of each only names of its own.
        for (stem, own) in [("al", "k-"), ("v@", "l-"), ("s@3", "m-"), ("v@1", "n-")] {
            self.dropins(&name(stem), own, random);
        }
    }

    fn unit(&self, name: &str, random: &mut Random) {
        for directory in &self.directories[..3] {
            let path = directory.join(name);
            match random.below(24) {
                0..=11 => fs::write(path, random.unit()).unwrap(),
                12 => link("/dev/null", &path),
                13 => fs::write(path, "").unwrap(),
                14 | 15 => {
                    fs::write(self.outside.join(name), random.unit()).unwrap();
                    link(self.outside.join(name), &path);
                }
                16 => link(self.outside.join("nothing"), &path),
                // To itself, lower in the search path.
                17 => link(self.directories[2].join(name), &path),
                18 => link(format!("../lib/{name}"), &path),
                19 => fs::create_dir(path).unwrap(),
                _ => {}
            }
        }
    }

    fn alias(&self, alias: &str, of: &str, random: &mut Random) {
        let directory = &self.directories[random.below(3)];
        let path = directory.join(alias);
        if path.symlink_metadata().is_ok() {
            return;
        }
        let target = match random.below(8) {
            0 | 1 => PathBuf::from(of),
            2 => self.directories[random.below(3)].join(of),
            3 => Path::new("../lib").join(of),
            4 => Path::new("../nothing/../lib").join(of),
            5 => PathBuf::from(of.replace(".service", ".timer")),
            6 => self.directories[2].join("sub").join(of),
            _ => Path::new("./../etc/.").join(of),
        };
        link(target, &path);
    }

    fn dropins(&self, unit: &str, own: &str, random: &mut Random) {
        for directory in &self.directories[..3] {
            let path = directory.join(format!("{unit}.d"));
            match random.below(30) {
                0..=4 => self.fill(&path, own, random),
                5 => {
                    let real = self.outside.join(format!("{unit}.{}", random.below(1 << 30)));
                    self.fill(&real, own, random);
                    link(real, &path);
                }
                6 => link("a.service.d", &path),
                7 => fs::write(path, "[Service]\n").unwrap(),
                8 => link(self.outside.join("nothing"), &path),
                _ => {}
            }
        }
    }

    fn fill(&self, directory: &Path, own: &str, random: &mut Random) {
        fs::create_dir(directory).unwrap();
        for _ in 0..1 + random.below(3) {
            let name = format!("{own}{}", random.of(&DROPINS));
            // Of "ä" only one byte: a name that is no text.
            let bytes = name.bytes().filter(|byte| *byte != 0xc3);
            let path = directory.join(OsString::from_vec(bytes.collect()));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match random.below(12) {
                0 => link("/dev/null", &path),
                1 => fs::write(path, "").unwrap(),
                2 => link(self.outside.join("nothing"), &path),
                3 => fs::create_dir(path).unwrap(),
                _ => fs::write(path, random.file()).unwrap(),
            }
        }
    }

    /// Returns all that is there, for the message of a test that failed.
    pub(crate) fn show(&self, family: &str) -> String {
        let output = std::process::Command::new("sh")
            .args(["-c", r#"find . -path "*$0*" \( -type l -printf '%p -> %l\n' -o -type f -print -exec cat -A {} \; -o -print \)"#])
            .arg(family)
            .current_dir(self.directories[0].parent().unwrap())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn link(target: impl AsRef<Path>, path: &Path) {
    symlink(target, path).unwrap();
}
