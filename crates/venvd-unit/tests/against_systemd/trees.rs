//! Several directories: which files make up a unit, under which of its names.

use crate::oracle::systemds;
use crate::ours;
use crate::random::{Random, units};
use crate::tree::{Asked, Tree};

/// Units that one systemd is given at once.
const BATCH: usize = 500;

#[test]
fn both_find_the_same() {
    let systemds = systemds();
    let mut random = Random::new();
    let (mut loaded, mut asked) = (0, 0);
    for _ in 0..units().div_ceil(BATCH) {
        let tree = Tree::random(&mut random, BATCH);
        let files = ours::scan(&tree.directories);
        for systemd in &systemds {
            for names in [Asked::Names, Asked::Aliases] {
                let names = tree.names(names);
                let theirs = systemd.read(&tree.directories, &names);
                for name in &names {
                    let ours = ours::read(&files, name);
                    let theirs = theirs.get(name).filter(|unit| unit.loaded).cloned().unwrap_or_default();
                    let family = name.split_once('-').unwrap().0;
                    assert_eq!(
                        ours,
                        theirs,
                        "{} and {name}:\n{}",
                        systemd.version,
                        tree.show(&format!("{family}-"))
                    );
                    asked += 1;
                    loaded += usize::from(ours.loaded);
                }
            }
        }
    }
    assert!(loaded * 3 > asked, "too few units can be loaded: {loaded} of {asked}");
}
