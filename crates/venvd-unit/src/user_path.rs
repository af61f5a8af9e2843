//! The search path of a user's manager: the second table of systemd.unit(5), `user_dirs()` in systemd's `path-lookup.c`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What replaces the path, see systemd(1).
const OVERRIDE: &str = "SYSTEMD_UNIT_PATH";

/// Where the vendor's units are, behind whatever `XDG_DATA_DIRS` says.
const VENDOR: [&str; 4] = ["/usr/local/lib", "/usr/local/share", "/usr/lib", "/usr/share"];

/// The directories of a user's units as paths of the host, highest priority first; the generators' own are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserDirectories {
    /// Those whose units hide generated ones: what the user or an administrator wrote.
    pub before_generated: Vec<PathBuf>,
    /// Those whose units are hidden by generated ones: what came with packages.
    pub after_generated: Vec<PathBuf>,
}

impl UserDirectories {
    /// Returns those for this environment of the user's manager.
    ///
    /// A variable that must be absolute and is not counts as unset, as the XDG specification has it.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(given) = variable(OVERRIDE).filter(|given| !given.is_empty()) else {
            return usual(variable);
        };
        let mut directories = absolute_entries(&given);
        let mut after_generated = Vec::new();
        // An empty last entry stands for the usual ones.
        if given.as_encoded_bytes().ends_with(b":") {
            let usual = usual(variable);
            directories.extend(usual.before_generated);
            after_generated = usual.after_generated;
        }
        Self::unique(directories, after_generated)
    }

    /// Returns all of them.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        [self.before_generated.as_slice(), &self.after_generated].concat()
    }

    /// Returns all of them with those of generators, of which `generated` is the one that most write to.
    #[must_use]
    pub fn with_generated(&self, generated: &Path) -> Vec<PathBuf> {
        let mut directories = self.before_generated.clone();
        let transient = directories.iter().position(|path| path.ends_with("systemd/transient"));
        directories.insert(
            transient.map_or(0, |index| index + 1),
            generated.with_extension("early"),
        );
        directories.push(generated.to_owned());
        directories.extend(self.after_generated.iter().cloned());
        directories.push(generated.with_extension("late"));
        directories
    }

    /// Keeps the first of equal ones, spelled without what means nothing.
    fn unique(before: Vec<PathBuf>, after: Vec<PathBuf>) -> Self {
        let mut seen = Vec::new();
        let mut keep = |directories: Vec<PathBuf>| -> Vec<PathBuf> {
            let mut kept = Vec::new();
            for directory in directories {
                let directory: PathBuf = directory.components().collect();
                if !seen.contains(&directory) {
                    seen.push(directory.clone());
                    kept.push(directory);
                }
            }
            kept
        };
        Self {
            before_generated: keep(before),
            after_generated: keep(after),
        }
    }
}

fn usual(variable: impl Fn(&str) -> Option<OsString>) -> UserDirectories {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("HOME");
    let below_home = |name: &str, default: &str| absolute(name).or_else(|| Some(home.as_ref()?.join(default)));
    let list = |name: &str, default: &[&str]| match variable(name) {
        Some(list) => absolute_entries(&list),
        None => default.iter().map(PathBuf::from).collect(),
    };
    let (config, data) = (
        below_home("XDG_CONFIG_HOME", ".config"),
        below_home("XDG_DATA_HOME", ".local/share"),
    );
    let runtime = absolute("XDG_RUNTIME_DIR");
    let below = |base: Option<&PathBuf>, name: &str| base.map(|base| base.join("systemd").join(name));
    let mut before: Vec<Option<PathBuf>> = vec![
        below(config.as_ref(), "user.control"),
        below(runtime.as_ref(), "user.control"),
        below(runtime.as_ref(), "transient"),
        below(config.as_ref(), "user"),
    ];
    let lists = |bases: Vec<PathBuf>| bases.into_iter().map(|base| below(Some(&base), "user"));
    before.extend(lists(list("XDG_CONFIG_DIRS", &["/etc/xdg"])));
    before.push(Some("/etc/systemd/user".into()));
    before.push(below(runtime.as_ref(), "user"));
    before.push(Some("/run/systemd/user".into()));
    let mut after = vec![below(data.as_ref(), "user")];
    after.extend(lists(list("XDG_DATA_DIRS", &["/usr/local/share", "/usr/share"])));
    after.extend(lists(VENDOR.map(PathBuf::from).into()));
    let known = |directories: Vec<Option<PathBuf>>| directories.into_iter().flatten().collect();
    UserDirectories::unique(known(before), known(after))
}

fn absolute_entries(list: &OsString) -> Vec<PathBuf> {
    std::env::split_paths(list).filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn directories(variables: Variables<'_>) -> UserDirectories {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        UserDirectories::new(|name| find(name).map(|(_, value)| OsString::from(value)))
    }

    fn ours(variables: Variables<'_>) -> Vec<PathBuf> {
        directories(variables).all()
    }

    #[test]
    fn the_path_of_a_plain_user() {
        let alice = [("HOME", "/home/alice"), ("XDG_RUNTIME_DIR", "/run/user/1000")];
        let got = ours(&alice);
        let want = [
            "/home/alice/.config/systemd/user.control",
            "/run/user/1000/systemd/user.control",
            "/run/user/1000/systemd/transient",
            "/home/alice/.config/systemd/user",
            "/etc/xdg/systemd/user",
            "/etc/systemd/user",
            "/run/user/1000/systemd/user",
            "/run/systemd/user",
            "/home/alice/.local/share/systemd/user",
            "/usr/local/share/systemd/user",
            "/usr/share/systemd/user",
            "/usr/local/lib/systemd/user",
            "/usr/lib/systemd/user",
        ];
        assert_eq!(got, want.map(PathBuf::from));
        assert_eq!(directories(&alice).before_generated, got[..8]);
    }

    /// `systemd-analyze --user unit-paths` needs no manager: it asks the very function that the manager asks.
    #[test]
    fn systemd_says_the_same() {
        let home = ("HOME", "/h");
        let cases: [Variables<'_>; 8] = [
            &[home],
            &[home, ("XDG_RUNTIME_DIR", "/run/user/7")],
            &[home, ("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "/d/")],
            &[home, ("XDG_CONFIG_DIRS", "/a::/b/:/a"), ("XDG_DATA_DIRS", "")],
            &[home, ("XDG_CONFIG_DIRS", ""), ("XDG_DATA_DIRS", "/usr/lib:/usr/share")],
            &[home, ("XDG_DATA_HOME", "/usr/share"), ("XDG_RUNTIME_DIR", "/r")],
            &[home, ("SYSTEMD_UNIT_PATH", "/x:/y")],
            &[home, ("SYSTEMD_UNIT_PATH", "/x:"), ("XDG_RUNTIME_DIR", "/r")],
        ];
        for variables in cases {
            let output = Command::new("systemd-analyze")
                .args(["--user", "unit-paths"])
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .envs(variables.iter().copied())
                .output();
            let Ok(output) = output else {
                eprintln!("systemd-analyze is missing: systemd's own path is not compared");
                return;
            };
            let said = String::from_utf8(output.stdout).unwrap();
            let runtime = variables.iter().find(|(name, _)| *name == "XDG_RUNTIME_DIR");
            if let (Some((_, runtime)), false) = (runtime, said.starts_with("/x")) {
                let generated = Path::new(runtime).join("systemd/generator");
                let want: Vec<PathBuf> = said.lines().map(PathBuf::from).collect();
                assert_eq!(directories(variables).with_generated(&generated), want, "{variables:?}");
            }
            let generators = |line: &&str| !line.contains("/systemd/generator");
            let want: Vec<PathBuf> = said.lines().filter(generators).map(PathBuf::from).collect();
            assert_eq!(ours(variables), want, "{variables:?}");
        }
    }
}
