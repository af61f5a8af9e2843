//! What must hold of the files at each moment between an old policy and a new one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::host::{APPS, File, Host, SYSTEM, State, USER, commands};
use crate::meaning::Meaning;

/// Whole states before and after a write, and what sudo makes of them.
pub(crate) struct Judge<'a> {
    host: &'a Host,
    pub(crate) old: State,
    pub(crate) new: State,
    pub(crate) old_meaning: Meaning,
    pub(crate) new_meaning: Meaning,
    passed: BTreeSet<Key>,
}

/// A state without what differs from run to run: the ends of temporary names, and what such a file holds, which may be
/// such a name.
pub(crate) type Key = Vec<(String, File)>;

pub(crate) fn key(state: &State) -> Key {
    let settled = |(path, file): (&String, &File)| match path.rsplit_once(".venvd-") {
        Some((name, _)) if path.contains("/.") => (
            name.to_owned(),
            File {
                text: String::new(),
                ..*file
            },
        ),
        _ => (path.clone(), file.clone()),
    };
    state.iter().map(settled).collect()
}

/// Reads all that sudo would read below the root of `host`, as it is now.
fn meaning(host: &Host) -> Meaning {
    Meaning::of(&host.at("etc/sudoers"))
}

impl<'a> Judge<'a> {
    /// The state of `host` is the old one; it is again when this returns.
    pub(crate) fn new(host: &'a Host, write: impl FnOnce()) -> Self {
        let (old, old_meaning) = (host.state(), meaning(host));
        write();
        let (new, new_meaning) = (host.state(), meaning(host));
        host.restore(&old);
        assert_eq!(host.state(), old);
        Self {
            host,
            old,
            new,
            old_meaning,
            new_meaning,
            passed: BTreeSet::new(),
        }
    }

    /// Checks the host as it is now; what passed once is not looked at again.
    pub(crate) fn check(&mut self, when: &str) -> Key {
        let state = self.host.state();
        let key = key(&state);
        if !self.passed.contains(&key) {
            self.files(&state, when);
            self.rules(when);
            self.passed.insert(key.clone());
        }
        key
    }

    /// Returns how many states there were.
    pub(crate) fn states(&self) -> usize {
        self.passed.len()
    }

    /// Each file that somebody reads is whole, with its mode: the old one or the new one. None goes for a moment.
    fn files(&self, state: &State, when: &str) {
        for (path, file) in state.iter().filter(|(path, _)| is_read(path)) {
            let known = [self.old.get(path), self.new.get(path)];
            assert!(known.contains(&Some(file)), "{when}: {path} is {file:#?}");
        }
        for path in self.old.keys().filter(|path| self.new.contains_key(*path)) {
            assert!(state.contains_key(path), "{when}: {path} is not there");
        }
        // What an administrator wrote into a file of ours.
        for (aside, kept) in self.new.iter().filter(|(path, _)| path.ends_with(".edited")) {
            let places = [state.get(aside), state.get(aside.trim_end_matches(".edited"))];
            let found = places.into_iter().flatten().any(|file| file == kept);
            assert!(found, "{when}: the text of {aside} is lost");
        }
    }

    /// All of it parses, grants nothing that neither grants, and all that both do.
    fn rules(&self, when: &str) {
        let said = Command::new("/usr/sbin/visudo")
            .args(["-c", "-f"])
            .arg(self.host.at("etc/sudoers"))
            .output()
            .unwrap();
        assert!(said.status.success(), "{when}: {said:?}");
        let (old, new) = (&self.old_meaning, &self.new_meaning);
        let now = meaning(self.host);
        let either = old.grants.union(&new.grants).cloned().collect();
        assert!(now.grants.is_subset(&either), "{when}: {now:#?}");
        let both: BTreeSet<_> = old.grants.intersection(&new.grants).cloned().collect();
        assert!(now.grants.is_superset(&both), "{when}: {now:#?}");
        assert!(now.paths == old.paths || now.paths == new.paths, "{when}: {now:#?}");
        for command in APPS.into_iter().flat_map(commands) {
            // Where old and new have no rule for it in common, there is a moment between one and the other.
            let stays = both
                .iter()
                .any(|(_, granted)| granted.ends_with(&format!("/{command}")));
            if stays && self.is_served(old, &command) && self.is_served(new, &command) {
                assert!(self.is_served(&now, &command), "{when}: sudo {command}\n{now:#?}");
            }
        }
    }

    /// Whether the user may call this by its bare name: what sudo finds first in `secure_path` is what a rule names.
    fn is_served(&self, meaning: &Meaning, command: &str) -> bool {
        let path = meaning.paths.iter().find(|(user, _)| user == USER);
        let path = path.map_or(SYSTEM, |(_, path)| path);
        let (program, _) = command.split_once(' ').unwrap();
        path.split(':')
            .find(|directory| self.host.at(&format!("{directory}/{program}")).exists())
            .is_some_and(|directory| {
                meaning
                    .grants
                    .contains(&(USER.to_owned(), format!("{directory}/{command}")))
            })
    }
}

/// sudo skips names with a dot and those that end in `~`, sudoers(5); rootwrap is told a name.
fn is_read(path: &str) -> bool {
    let name = Path::new(path).file_name().unwrap().to_str().unwrap();
    match path.starts_with("etc/sudoers.d/") {
        true => !name.contains('.') && !name.ends_with('~'),
        false => name == "rootwrap.conf",
    }
}
