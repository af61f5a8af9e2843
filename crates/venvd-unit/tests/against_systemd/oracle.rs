//! What real systemds make of units.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A unit as somebody reads it; of one that can't be loaded only that.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) loaded: bool,
    pub(crate) names: Vec<String>,
    pub(crate) fragment: String,
    pub(crate) dropins: Vec<String>,
    /// The command lines by key, as `argv`.
    pub(crate) lists: BTreeMap<String, Vec<Vec<String>>>,
    pub(crate) environment: Vec<String>,
    pub(crate) search_path: String,
    pub(crate) kind: String,
}

/// A `systemd-analyze`: the host's, or another release's with its own loader and libraries.
#[derive(Debug)]
pub(crate) struct Systemd {
    pub(crate) version: String,
    command: Vec<PathBuf>,
}

impl Systemd {
    fn of(command: Vec<PathBuf>) -> Option<Self> {
        let mut systemd = Self {
            version: String::new(),
            command,
        };
        let output = systemd.command().arg("--version").output().ok()?;
        systemd.version = String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned();
        output.status.success().then_some(systemd)
    }

    fn of_root(root: &Path) -> Option<Self> {
        let inside = |path: &str| Some(root.join(path)).filter(|path| path.exists());
        let (loader, architecture) = [
            ("lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
            ("lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
        ]
        .into_iter()
        .find_map(|(loader, architecture)| Some((inside(loader)?, architecture)))?;
        let libraries = root.join("usr/lib").join(architecture);
        let path = format!("{0}:{0}/systemd", libraries.display());
        let program = inside("usr/bin/systemd-analyze")?;
        Self::of(vec![loader, "--library-path".into(), path.into(), program])
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        // As PID 1's; some of what it does depends on it.
        command
            .args(&self.command[1..])
            .current_dir("/")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Returns the units `names` as this systemd reads them in `directories`, by each of their names.
    pub(crate) fn read(&self, directories: &[PathBuf], names: &[String]) -> BTreeMap<String, Reading> {
        let path: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
        let output = self
            .command()
            .args(["verify", "--man=no", "--recursive-errors=no"])
            // The directory is added in front of the search path, where it is already.
            .args(names.iter().map(|name| directories[0].join(name)))
            .env("SYSTEMD_UNIT_PATH", path.join(":"))
            .env("SYSTEMD_LOG_LEVEL", "debug")
            .output()
            .unwrap();
        let readings = parse(&String::from_utf8_lossy(&output.stdout));
        assert!(
            !readings.is_empty(),
            "{} shows nothing: {}",
            self.version,
            String::from_utf8_lossy(&output.stderr)
        );
        readings
    }
}

/// Returns the systemds that can be asked, of each version one.
///
/// # Panics
/// When there are fewer than `VENVD_SYSTEMDS`.
pub(crate) fn systemds() -> Vec<Systemd> {
    let cache = std::env::var_os("VENVD_CACHE").map_or_else(|| PathBuf::from("/var/tmp/venvd"), PathBuf::from);
    let mut roots: Vec<_> = fs::read_dir(cache.join("roots"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    roots.sort();
    let host = Systemd::of(vec!["systemd-analyze".into()]);
    let mut all: Vec<Systemd> = Vec::new();
    for systemd in roots.iter().filter_map(|root| Systemd::of_root(root)).chain(host) {
        if all.iter().all(|other| other.version != systemd.version) {
            all.push(systemd);
        }
    }
    let versions: Vec<_> = all.iter().map(|systemd| systemd.version.as_str()).collect();
    eprintln!("asked: {versions:?}");
    let needed = std::env::var("VENVD_SYSTEMDS").map_or(0, |number| number.parse().unwrap());
    assert!(
        all.len() >= needed,
        "systemd-analyze of {needed} releases is needed, found {versions:?}; run `make test`, which fetches them"
    );
    all
}

fn parse(dump: &str) -> BTreeMap<String, Reading> {
    let mut units: Vec<Reading> = Vec::new();
    let mut list = String::new();
    for line in dump.lines().map(str::trim_start) {
        let header = ["-> ", "→ "].iter().find_map(|arrow| line.strip_prefix(arrow));
        if let Some(name) = header.and_then(|header| header.strip_prefix("Unit ")) {
            units.push(Reading {
                names: vec![name.trim_end_matches(':').to_owned()],
                ..Reading::default()
            });
        } else if let Some(name) = header {
            list = name.trim_end_matches(':').to_owned();
        }
        let (Some(unit), Some((key, value))) = (units.last_mut(), line.split_once(": ")) else {
            continue;
        };
        match key {
            "Alias" => unit.names.push(value.to_owned()),
            "Unit Load State" => unit.loaded = value == "loaded",
            "Fragment Path" => value.clone_into(&mut unit.fragment),
            "DropIn Path" => unit.dropins.push(value.to_owned()),
            "Environment" => unit.environment.push(value.to_owned()),
            "ExecSearchPath" => value.clone_into(&mut unit.search_path),
            "Type" => value.clone_into(&mut unit.kind),
            "Command Line" => unit.lists.entry(list.clone()).or_default().push(unquote(value)),
            _ => {}
        }
    }
    let mut by_name = BTreeMap::new();
    for unit in &mut units {
        unit.names.sort();
        if !unit.loaded {
            *unit = Reading {
                names: std::mem::take(&mut unit.names),
                ..Reading::default()
            };
        }
        by_name.extend(unit.names.iter().map(|name| (name.clone(), unit.clone())));
    }
    by_name
}

/// Takes apart what `quote_command_line()` put together: blanks between words, some of them in double quotes.
fn unquote(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            ('\\', Some(word)) if quoted => word.extend(characters.next().map(|c| match c {
                't' => '\t',
                'f' => '\u{c}',
                other => other,
            })),
            (' ', _) if !quoted => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words
}
