//! A unit as somebody reads it: us, or systemd.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};
use venvd_unit::{
    Effective, Unit, UnitFiles, UnitId,
    command::{Command as Parsed, Privilege},
    dropins,
    effective::{self, EXEC_KEYS},
    specifier,
};

/// What one reader has to say of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// `LoadState=`: `loaded`, `masked`, `not-found`, or what is wrong.
    pub load: String,
    /// The name under which systemd lists it.
    pub id: String,
    /// All of its names.
    pub names: BTreeSet<String>,
    /// Its file.
    pub fragment: String,
    /// Its drop-ins, in the order in which they apply.
    pub dropins: Vec<String>,
    /// For services: what they run, and how.
    pub service: Option<Service>,
}

/// What is compared of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `Type=`
    pub kind: String,
    /// The commands of each Exec list that has any.
    pub lists: BTreeMap<String, Vec<Command>>,
    /// `Environment=`, as `NAME=value`.
    pub environment: Vec<String>,
    /// `EnvironmentFile=`, with its `-`.
    pub environment_files: Vec<String>,
}

/// One command of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program.
    pub path: String,
    /// All words, from `argv[0]` on.
    pub argv: Vec<String>,
    /// What its prefixes mean, in systemd's words: `ignore-failure` …
    pub flags: BTreeSet<String>,
}

/// Reads units below a root as `venvd-unit` does; specifiers stay as they are.
#[must_use]
pub fn ours<'a>(root: &Path, names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Reading> {
    let files = UnitFiles::scan(root);
    let read = |name: &str| match UnitId::parse(name) {
        Ok(id) => read(&files, &id),
        Err(error) => Reading {
            load: error.to_string(),
            ..Reading::default()
        },
    };
    names.into_iter().map(|name| (name.to_owned(), read(name))).collect()
}

fn read(files: &UnitFiles, name: &UnitId) -> Reading {
    let found = files.find(name);
    let mut reading = Reading {
        id: found.id.to_string(),
        names: found.names.iter().map(ToString::to_string).collect(),
        ..Reading::default()
    };
    let (list, _) = dropins::list(files, &found);
    reading.dropins = list.iter().map(|file| file.path.display().to_string()).collect();
    match effective::load(files, name) {
        Unit::Absent => reading.load = "not-found".to_owned(),
        Unit::Masked(file) => {
            reading.load = "masked".to_owned();
            // 252 lists them, 257 does not; they say nothing.
            reading.dropins.clear();
            reading.fragment = file.display().to_string();
        }
        Unit::Broken(trouble) => reading.load = trouble.to_string(),
        Unit::Loaded(unit) => {
            reading.load = "loaded".to_owned();
            reading.fragment = found.fragment.iter().map(|path| path.display().to_string()).collect();
            reading.service = (found.id.kind() == "service").then(|| Service::of(&unit));
            if reading
                .service
                .as_ref()
                .is_some_and(|service| service.does_nothing(&unit))
            {
                reading.load = "bad-setting".to_owned();
                reading.service = None;
            }
        }
    }
    reading
}

impl Service {
    /// Whether systemd refuses it as a whole, since there is nothing that it would do (`service_verify()`). Nothing of
    /// venvd hangs on that: what such a unit lacks may be just what a definition's `exec` gives it.
    fn does_nothing(&self, unit: &Effective) -> bool {
        let has = |list: &str| self.lists.contains_key(list);
        let has_action = unit
            .last("Unit", "SuccessAction")
            .is_some_and(|action| !matches!(action, "" | "none"));
        !has("ExecStart") && !has("ExecStop") && !has_action
    }

    fn of(unit: &Effective) -> Self {
        let mut lists = BTreeMap::new();
        for key in EXEC_KEYS {
            let parsed = unit.commands(key).into_iter().flat_map(|(_, line)| &line.commands);
            let commands: Vec<_> = parsed.map(Command::of).collect();
            if !commands.is_empty() {
                lists.insert(key.to_owned(), commands);
            }
        }
        let environment = unit.environment().into_iter();
        Self {
            kind: unit.service_type().to_owned(),
            lists,
            environment: environment.map(|(name, value)| format!("{name}={value}")).collect(),
            environment_files: unit
                .environment_files()
                .iter()
                .map(|entry| entry.value().to_owned())
                .collect(),
        }
    }

    /// Returns the first command of `ExecStart=`.
    #[must_use]
    pub fn main(&self) -> Option<&Command> {
        self.lists.get("ExecStart")?.first()
    }
}

impl Command {
    fn of(parsed: &Parsed) -> Self {
        let program = Some(&parsed.program).filter(|_| !parsed.prefixes.argv0);
        let mut flags = BTreeSet::new();
        for (set, flag) in [
            (parsed.prefixes.ignore_failure, "ignore-failure"),
            (parsed.prefixes.no_variables, "no-env-expand"),
            (parsed.prefixes.shell, "via-shell"),
            (parsed.prefixes.privilege == Privilege::Full, "privileged"),
            (parsed.prefixes.privilege == Privilege::NoUser, "no-setuid"),
            (parsed.prefixes.privilege == Privilege::Ambient, "ambient"),
        ] {
            if set {
                flags.insert(flag.to_owned());
            }
        }
        Self {
            path: parsed.program.clone(),
            argv: program.into_iter().chain(&parsed.arguments).cloned().collect(),
            flags,
        }
    }
}

impl Reading {
    /// Expands the specifiers in it, `system` being those that are not a matter of the unit's name.
    ///
    /// # Panics
    /// When one is unknown: a unit with such a one is not loaded.
    #[must_use]
    pub fn expand(mut self, system: &BTreeMap<char, String>) -> Self {
        let Ok(id) = UnitId::parse(&self.id) else { return self };
        let expand = |text: &mut String| match specifier::expand_with(text, &id, |letter| system.get(&letter).cloned())
        {
            Ok(Some(expanded)) => *text = expanded,
            Ok(None) => panic!("{id}: what the specifiers in {text:?} stand for is not known here"),
            Err(error) => panic!("{id}: {text:?}: {error}"),
        };
        if let Some(service) = &mut self.service {
            let commands = service.lists.values_mut().flatten();
            let words = commands.flat_map(|command| std::iter::once(&mut command.path).chain(&mut command.argv));
            words.for_each(expand);
            service.environment.iter_mut().for_each(expand);
            service.environment_files.iter_mut().for_each(expand);
        }
        self
    }
}
