//! What systemd itself gives every service: where it looks for programs, and the `PATH` that a unit need not set.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use venvd_app::Scope;
use venvd_unit::{UnitFiles, environment, lexer};

use crate::manager::Manager;

/// The directories of systemd's configuration, the strongest first (systemd-system.conf(5)).
const CONFIGURATION: [&str; 4] = [
    "/etc/systemd",
    "/run/systemd",
    "/usr/local/lib/systemd",
    "/usr/lib/systemd",
];

/// What systemd gives every service, as it is written in a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Defaults {
    /// Where it looks for a program without a path, if the unit does not say: compiled in.
    pub(crate) search: String,
    /// The `PATH` of a service that sets none.
    pub(crate) path: String,
    /// `ManagerEnvironment=`: the `PATH` of systemd itself, where that sets it.
    own_path: Option<String>,
    /// What systemd was started with, where it is the first process.
    started_with: Option<PathBuf>,
}

impl Defaults {
    /// Takes what the manager gave to us, as generators get what services do; where it did not start us, what its files
    /// below the root of `units` say, else what is compiled in.
    pub(crate) fn read(units: &UnitFiles, manager: &Manager) -> Self {
        let root = units.root();
        let search = compiled_path(root);
        let values = configured(units, manager.scope);
        let variable = |key: &str| {
            let values = values.iter().filter(|(name, _)| name == key);
            let variables = environment::assignments(values.map(|(_, value)| value.as_str()));
            let path = variables.into_iter().find(|(name, _)| name == "PATH");
            // Specifiers mean the same there as in a unit.
            path.map(|(_, value)| value)
        };
        let path = manager
            .path()
            .map(str::to_owned)
            .or_else(|| variable("DefaultEnvironment"))
            .unwrap_or_else(|| search.clone());
        Self {
            own_path: variable("ManagerEnvironment"),
            started_with: (manager.scope == Scope::System).then(|| root.join("proc/1/environ")),
            search,
            path,
        }
    }

    /// Returns the `PATH` of a service that asks for systemd's own (`PassEnvironment=`). Few do, so it is not looked up
    /// before: what the configuration sets, else what the kernel or a container's manager gave.
    pub(crate) fn own_path(&self) -> String {
        let given = || {
            let environment = fs::read(self.started_with.as_ref()?).ok()?;
            let mut words = environment.split(|byte| *byte == 0);
            let path = words.find_map(|word| word.strip_prefix(b"PATH="))?;
            Some(String::from_utf8_lossy(path).replace('%', "%%"))
        };
        let own = self.own_path.clone().or_else(given);
        own.unwrap_or_else(|| self.path.clone())
    }
}

/// `DEFAULT_PATH`. 252, built for a split `/usr`, adds `/sbin:/bin`; where those are links that changes nothing.
fn compiled_path(root: &Path) -> String {
    let merged = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
    let split = fs::symlink_metadata(root.join("bin")).is_ok_and(|data| data.is_dir());
    if split {
        format!("{merged}:/sbin:/bin")
    } else {
        merged.to_owned()
    }
}

/// Returns what the files say in `[Manager]`, in the order in which it applies. What can't be read says nothing.
fn configured(units: &UnitFiles, scope: Scope) -> Vec<(String, String)> {
    let conf = match scope {
        Scope::System => "system.conf",
        Scope::User => "user.conf",
    };
    let on_disk = |path: &Path| units.root().join(path.strip_prefix("/").unwrap_or(path));
    let main = CONFIGURATION.iter().map(|directory| Path::new(directory).join(conf));
    let mut files: Vec<PathBuf> = main.filter(|path| on_disk(path).is_file()).take(1).collect();
    let mut fragments = BTreeMap::new();
    for directory in CONFIGURATION {
        let directory = Path::new(directory).join(format!("{conf}.d"));
        for entry in fs::read_dir(on_disk(&directory)).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(".conf")
            {
                let path = directory.join(&name);
                fragments.entry(name).or_insert(path);
            }
        }
    }
    files.extend(fragments.into_values());
    let mut values = Vec::new();
    for path in files {
        let bytes = units.read(&path).unwrap_or_default();
        let assignments = lexer::parse(&bytes).assignments.into_iter();
        let manager = assignments.filter(|assignment| assignment.section == "Manager");
        values.extend(manager.map(|assignment| (assignment.key, assignment.value)));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    const MERGED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

    #[test]
    fn from_the_files_or_from_systemd() {
        let directory = tempfile::tempdir().unwrap();
        let read = |path: Option<&str>| {
            let variable = |name: &str| match name {
                "SYSTEMD_SCOPE" => path.map(|_| OsString::from("system")),
                "PATH" => Some(path.unwrap_or("/of/a/shell").into()),
                _ => None,
            };
            Defaults::read(
                &UnitFiles::scan_directories(directory.path(), &[]),
                &Manager::system(variable),
            )
        };
        let write = |path: &str, text: &str| {
            let path = directory.path().join(&path[1..]);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let defaults = read(None);
        assert_eq!((defaults.path.as_str(), defaults.own_path().as_str()), (MERGED, MERGED));
        write(
            "/usr/lib/systemd/system.conf",
            "[Manager]\nDefaultEnvironment=PATH=/never\n",
        );
        write(
            "/etc/systemd/system.conf",
            "[Manager]\nDefaultEnvironment=A=1 PATH=/a\nManagerEnvironment=PATH=/m\n[Other]\nDefaultEnvironment=PATH=/x\n",
        );
        assert_eq!(read(None).path, "/a");
        write(
            "/usr/lib/systemd/system.conf.d/60-x.conf",
            "[Manager]\nDefaultEnvironment=\"PATH=/b:/c d\"\n",
        );
        write(
            "/etc/systemd/system.conf.d/50-x.conf",
            "[Manager]\nDefaultEnvironment=\n",
        );
        let defaults = read(None);
        assert_eq!(
            (defaults.path.as_str(), defaults.own_path().as_str()),
            ("/b:/c d", "/m")
        );
        assert_eq!(
            defaults.search, MERGED,
            "programs are looked for in what is compiled in"
        );
        write("/proc/1/environ", "A=1\0PATH=/of/the/kernel\0");
        assert_eq!(read(None).own_path(), "/m", "what is configured is set later");
        // The same name in /etc.
        write("/etc/systemd/system.conf.d/60-x.conf", "");
        assert_eq!(read(None).path, MERGED, "50-x.conf reset what came before");
        write("/usr/share/x", "[Manager]\nDefaultEnvironment=PATH=/linked\n");
        let link = directory.path().join("etc/systemd/system.conf.d/70-x.conf");
        std::os::unix::fs::symlink("/usr/share/x", link).unwrap();
        assert_eq!(read(None).path, "/linked", "links are followed below the root");
        fs::remove_file(directory.path().join("etc/systemd/system.conf")).unwrap();
        assert_eq!(read(None).own_path(), "/of/the/kernel");
        assert_eq!(read(Some("/given%")).path, "/given%%");
        fs::create_dir(directory.path().join("bin")).unwrap();
        assert_eq!(read(None).search, format!("{MERGED}:/sbin:/bin"));
    }
}
