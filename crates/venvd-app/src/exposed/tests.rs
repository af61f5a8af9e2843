use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use venvd_fs::Root;

use crate::App;
use crate::links::{self, Link, VenvPath};
use crate::search::load_app;

const NOVA: &str = "enabled = true\n[commands]\nexpose = [\"nova-manage\", \"nova-status\"]\n";

/// A host with one app that exposes two commands, and has a venv in force.
struct Host {
    _directory: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let host = Self {
            _directory: directory,
            layout,
        };
        host.write("/usr/bin/venv-activate", "");
        host.write("/usr/local/bin/mine", "mine");
        host.define("nova", NOVA);
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.layout.on_disk(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    /// Defines an app, and puts a venv of it in force.
    fn define(&self, app: &str, text: &str) {
        self.write(&format!("/etc/venvd/apps/{app}.toml"), text);
        let venv = VenvPath::local(&self.layout, format!("{app}:1").parse().unwrap());
        links::set(&self.layout, Link::Committed, venv.name().app(), Some(&venv)).unwrap();
    }

    fn follow(&self) -> Vec<String> {
        follow(&self.layout)
            .iter()
            .map(|problem| venvd_fs::report(problem))
            .collect()
    }

    /// Follows, with nothing in the way.
    fn followed(&self) {
        assert_eq!(self.follow(), [""; 0]);
        assert!(plan(&self.layout, None).is_empty(), "once is enough");
    }

    /// Returns the names of our links in a directory.
    fn links(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(PLACES[0])))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn app(&self, name: &str) -> App {
        load_app(&self.layout, &name.parse().unwrap()).unwrap()
    }

    /// Returns what stands against an app, or nothing.
    fn objection(&self, name: &str) -> String {
        check(&self.layout, &self.app(name)).map_or_else(|problem| venvd_fs::report(&problem), |()| String::new())
    }

    fn owner(&self, command: &str) -> Option<String> {
        let commands = Table::load(&self.layout).unwrap().commands;
        commands.get(&command.parse().unwrap()).map(ToString::to_string)
    }
}

const BIN: &str = "/usr/local/bin";
const BOTH: [&str; 2] = ["nova-manage", "nova-status"];
const NONE: [&str; 0] = [];

#[test]
fn links_follow_switches_definition_and_settings() {
    let host = Host::new();
    host.followed();
    assert_eq!(host.links(BIN), BOTH);
    assert_eq!(host.owner("nova-manage").as_deref(), Some("nova"));

    host.define(
        "nova",
        "enabled = true\n[commands]\nexpose = [\"nova-status\", \"nova-policy\"]\n",
    );
    host.followed();
    assert_eq!(host.links(BIN), ["nova-policy", "nova-status"]);
    host.define("nova", NOVA);

    for off in ["venvd.enabled=0", "venvd.enabled=glance"] {
        host.write("/proc/cmdline", off);
        host.followed();
        assert_eq!(host.links(BIN), NONE, "{off}");
        fs::remove_file(host.path("/proc/cmdline")).unwrap();
        host.followed();
        assert_eq!(host.links(BIN), BOTH, "{off}");
    }

    host.write("/etc/venvd/venvd.toml", "commands-directory = \"/opt/bin\"\n");
    host.followed();
    assert_eq!(
        (host.links(BIN), host.links("/opt/bin")),
        (vec![], BOTH.map(String::from).to_vec())
    );
    host.write("/etc/venvd/venvd.toml", "commands-directry = \"/srv\"\n");
    host.followed();
    assert_eq!(host.links("/opt/bin"), BOTH, "broken settings move nothing");
    fs::remove_file(host.path("/etc/venvd/venvd.toml")).unwrap();

    host.write("/etc/venvd/apps/nova.toml", &NOVA.replace("true", "false"));
    host.followed();
    assert_eq!((host.links(BIN), host.links("/opt/bin")), (vec![], vec![]));
    assert!(!host.layout.exposed_commands().exists(), "nothing of it is left");
    assert_eq!(fs::read_to_string(host.path("/usr/local/bin/mine")).unwrap(), "mine");
}

#[test]
fn without_a_venv_in_force_or_a_definition_there_is_nothing_to_type() {
    let host = Host::new();
    let committed = Link::Committed.path(&host.layout, &"nova".parse().unwrap());
    let target = fs::read_link(&committed).unwrap();
    host.followed();
    fs::remove_file(&committed).unwrap();
    host.followed();
    assert_eq!(host.links(BIN), NONE);
    symlink(target, &committed).unwrap();
    host.followed();
    assert_eq!(host.links(BIN), BOTH);
    fs::remove_file(host.path("/etc/venvd/apps/nova.toml")).unwrap();
    host.followed();
    assert_eq!(host.links(BIN), NONE);
}

#[test]
fn a_broken_definition_goes_on_with_the_accepted_one() {
    let host = Host::new();
    crate::search::accept(&host.layout, &"nova".parse().unwrap()).unwrap();
    host.write("/etc/venvd/apps/nova.toml", "enabld = true\n");
    host.followed();
    assert_eq!(host.links(BIN), BOTH);
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let host = Host::new();
    let elsewhere = host.path("/usr/local/bin/nova-manage");
    let foreign: [(&str, &dyn Fn()); 4] = [
        ("a file", &|| fs::write(&elsewhere, "theirs").unwrap()),
        ("a directory", &|| fs::create_dir(&elsewhere).unwrap()),
        ("a link", &|| symlink("/opt/nova/bin/nova-manage", &elsewhere).unwrap()),
        ("a link to a copy", &|| {
            symlink("/opt/venv-activate", &elsewhere).unwrap()
        }),
    ];
    for (what, put) in foreign {
        put();
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(&elsewhere).unwrap());
        let before = inode();
        let expected = "nova exposes nova-manage, but \"/usr/local/bin/nova-manage\" is there and is not venvd's";
        assert!(host.objection("nova").starts_with(expected), "{what}");
        assert!(host.follow()[0].starts_with(expected), "{what}");
        assert_eq!(host.links(BIN), ["nova-status"], "{what}");
        host.write("/etc/venvd/venvd.toml", "enabled = false\n");
        host.followed();
        assert_eq!((host.links(BIN), inode()), (vec![], before), "{what}");
        fs::remove_file(host.path("/etc/venvd/venvd.toml")).unwrap();
        if fs::remove_file(&elsewhere).is_err() {
            fs::remove_dir(&elsewhere).unwrap();
        }
    }
    host.followed();
    assert_eq!(host.links(BIN), BOTH);
}

#[test]
fn what_appears_between_plan_and_apply_is_not_touched_either() {
    let host = Host::new();
    let planned = plan(&host.layout, None);
    host.write("/usr/local/bin/nova-manage", "theirs");
    let problems = planned.apply(&host.layout);
    assert!(matches!(&problems[..], [Problem::Io(error)] if error.source.kind() == io::ErrorKind::AlreadyExists));
    assert_eq!(host.links(BIN), ["nova-status"], "the others are made all the same");
    assert_eq!(
        fs::read_to_string(host.path("/usr/local/bin/nova-manage")).unwrap(),
        "theirs"
    );
}

#[test]
fn a_command_belongs_to_one_app() {
    let host = Host::new();
    host.followed();
    let cell = "enabled = true\n[commands]\nexpose = [\"nova-manage\", \"cell-manage\"]\n";
    host.define("cell", cell);
    let refusal = host.objection("cell");
    assert!(
        refusal.starts_with(
            "cell (\"/etc/venvd/apps/cell.toml\") exposes nova-manage, but so does nova (\"/etc/venvd/apps/nova.toml\")"
        ),
        "{refusal}"
    );
    assert_eq!(host.objection("nova"), "", "who has it keeps it");
    assert_eq!(host.follow().len(), 1);
    assert_eq!(host.owner("nova-manage").as_deref(), Some("nova"));
    assert_eq!(host.links(BIN), ["cell-manage", "nova-manage", "nova-status"]);

    host.write("/etc/venvd/apps/nova.toml", &NOVA.replace("true", "false"));
    assert_eq!(host.objection("cell"), "", "of an app that is off it can be had");
    host.followed();
    assert_eq!(host.owner("nova-manage").as_deref(), Some("cell"));
    assert!(host.objection("nova").contains("cell"), "{}", host.objection("nova"));
}

#[test]
fn the_directory_must_be_roots_and_writable() {
    let host = Host::new();
    let bin = host.path(BIN);
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o775)).unwrap();
    for text in [host.objection("nova"), host.follow().concat()] {
        assert!(
            text.contains("`commands-directory` in \"/etc/venvd/venvd.toml\""),
            "{text}"
        );
        assert!(text.contains("chmod go-w"), "{text}");
    }
    assert_eq!(host.links(BIN), NONE);
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
    host.followed();
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o775)).unwrap();
    host.write("/etc/venvd/apps/nova.toml", &NOVA.replace("true", "false"));
    host.followed();
    assert_eq!(host.links(BIN), NONE, "what is ours goes from there all the same");
}

#[test]
fn links_follow_the_program_and_a_lost_table_is_written_anew() {
    let host = Host::new();
    host.followed();
    fs::rename(host.path(PLACES[0]), host.path(PLACES[1])).unwrap();
    host.followed();
    let target = fs::read_link(host.path("/usr/local/bin/nova-manage")).unwrap();
    assert_eq!(target, Path::new(PLACES[1]));
    for text in [
        "",
        "{\"directory\": \"/usr/local/bin\", \"commands\": {\"a/b\": \"nova\"}}",
    ] {
        host.write("/etc/venvd/commands.json", text);
        assert!(Table::load(&host.layout).is_err(), "{text}");
        host.followed();
        assert_eq!(host.owner("nova-manage").as_deref(), Some("nova"));
    }
    fs::set_permissions(host.layout.exposed_commands(), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(Table::load(&host.layout), Err(LoadError::Unsafe(_))));
}

#[test]
fn it_is_the_hosts_alone() {
    let host = Host::new();
    let user = crate::UserPlaces {
        config_home: "/home/alice/.config".into(),
        data_home: "/home/alice/.local/share".into(),
        runtime: "/run/user/0".into(),
        uid: 0,
    };
    let layout = Layout::user(Root::at(host.path("/")), &user);
    let apps = "/home/alice/.config/venvd/apps";
    host.write(&format!("{apps}/nova.toml"), NOVA);
    host.write(
        "/home/alice/.config/venvd/venvd.toml",
        "commands-directory = \"/home/alice/bin\"\n",
    );
    let refused = load_app(&layout, &"nova".parse().unwrap()).unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("{apps}/nova.toml:3:1: what everybody can type")),
        "{refused}"
    );
    let refused = crate::search::load_settings(&layout).unwrap_err().to_string();
    assert!(
        refused.contains("venvd.toml:1:1: no app of a user exposes commands"),
        "{refused}"
    );
    assert!(plan(&layout, None).is_empty());
    host.write(
        "/etc/venvd/apps/nova.toml",
        "[commands]\nexpose = [\"venv-activate\"]\n",
    );
    let refused = load_app(&host.layout, &"nova".parse().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("/etc/venvd/apps/nova.toml:2:1: venv-activate is what"),
        "{refused}"
    );
}
