//! A host below a directory of its own, with apps, venvs and what sudo reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::{Layout, search};
use venvd_fs::Root;
use venvd_fs::atomic::Change;
use venvd_policy::Edited;

/// All apps here.
pub(crate) const APPS: [&str; 2] = ["backup", APP];
/// Whose policy is written.
pub(crate) const APP: &str = "cinder";
/// The user of all apps here.
pub(crate) const USER: &str = "cinder";
/// What sudo looks through behind the venvs; no file here says anything else.
pub(crate) const SYSTEM: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A rule of the administrator's.
pub(crate) const OTHER_RULE: (&str, &str) = ("operator", "/usr/bin/systemctl status");

/// The commands of an app.
pub(crate) fn commands(app: &str) -> [String; 2] {
    ["rootwrap", "rootwrap-daemon"].map(|program| format!("{app}-{program} /etc/{app}/rootwrap.conf"))
}

/// The directory of a venv's programs.
pub(crate) fn bin(app: &str, tag: &str) -> String {
    format!("/var/lib/venvd/venvs/{app}/{tag}/bin")
}

/// The directories in which the writer changes anything.
const WRITTEN: [&str; 3] = ["etc/sudoers.d", "etc/cinder", "etc/backup"];

/// The files of [`WRITTEN`], by their path below the root.
pub(crate) type State = BTreeMap<String, File>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) text: String,
}

/// A root with the apps cinder and backup of one user, each with a rootwrap.conf and the venvs 1 and 2.
pub(crate) struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let host = Self { directory, layout };
        // Relative, since sudo knows nothing of another root.
        host.put("etc/sudoers", "@includedir sudoers.d\n", 0o440);
        let (user, command) = OTHER_RULE;
        let rule = format!("{user} ALL=(root) NOPASSWD: NOSETENV: {command}\n");
        host.put("etc/sudoers.d/admin", rule, 0o440);
        for app in APPS {
            let commands = commands(app);
            let definition = format!(
                "enabled = true\nuser = {USER:?}\n[rootwrap]\nconfig = \"/etc/{app}/rootwrap.conf\"\n[sudo]\ncommands = {commands:?}\n"
            );
            host.put(&format!("etc/venvd/apps/{app}.toml"), &definition, 0o644);
            let conf = format!("# of {app}\n[DEFAULT]\nfilters_path=/etc/{app}/rootwrap.d\nexec_dirs=/sbin\n");
            host.put(&format!("etc/{app}/rootwrap.conf"), &conf, 0o640);
            for command in commands {
                let (program, _) = command.split_once(' ').unwrap();
                for tag in ["1", "2"] {
                    host.put(&format!("{}/{program}", bin(app, tag)), "#!/bin/sh\n", 0o755);
                }
            }
        }
        host
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.layout.on_disk(path)
    }

    fn put(&self, path: &str, text: impl AsRef<str>, mode: u32) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.as_ref()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Puts a venv in force, by its link.
    pub(crate) fn commit(&self, app: &str, tag: &str) {
        let link = self.at(&format!("etc/venvd/committed/{app}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(format!("/var/lib/venvd/venvs/{app}/{tag}"), link).unwrap();
    }

    /// Lets the policy of `app` admit exactly these venvs.
    pub(crate) fn write(&self, app: &str, tags: &[&str]) {
        write(self.root(), app, tags).unwrap();
    }

    /// Edits a file as an administrator would.
    pub(crate) fn edit(&self, path: &str) {
        let text = fs::read_to_string(self.at(path)).unwrap();
        self.put(path, format!("{text}# mine\n"), 0o440);
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self) -> State {
        let mut state = State::new();
        for directory in WRITTEN {
            for entry in fs::read_dir(self.at(directory)).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
                let text = fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned();
                state.insert(name, File { mode, text });
            }
        }
        state
    }

    /// Makes all that the writer changes as it was.
    pub(crate) fn restore(&self, state: &State) {
        let now = self.state();
        for path in now.keys().filter(|path| !state.contains_key(*path)) {
            fs::remove_file(self.at(path)).unwrap();
        }
        for (path, file) in state.iter().filter(|(path, file)| now.get(*path) != Some(file)) {
            self.put(path, &file.text, file.mode);
        }
    }
}

/// As [`Host::write`], for the process that is to be killed.
pub(crate) fn write(root: &Path, app: &str, tags: &[&str]) -> Result<Change, venvd_policy::Error> {
    let layout = Layout::new(Root::at(root));
    let admitted: Vec<VenvPath> = tags
        .iter()
        .map(|tag| VenvPath::local(&layout, format!("{app}:{tag}").parse().unwrap()))
        .collect();
    let app = search::load_app(&layout, &app.parse().unwrap()).unwrap();
    venvd_policy::write(&layout, &app, &admitted, Edited::SetAside)
}
