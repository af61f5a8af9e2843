use std::fs;
use std::os::unix::fs::PermissionsExt;

use venvd_fs::Root;

use super::*;

struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    /// A host with nova:2 committed, for python 3.13, and nova:1 before it, for python 3.11.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let host = Self { directory, layout };
        host.link(Link::Committed, "nova:2", "3.13");
        host.link(Link::Previous, "nova:1", "3.11");
        host
    }

    fn link(&self, link: Link, venv: &str, minor: &str) {
        let venv = VenvPath::local(&self.layout, venv.parse().unwrap());
        let digits = minor.replace('.', "");
        let record = Record {
            venv: venv.name().clone(),
            interpreter: format!("/usr/bin/python{minor}").into(),
            minor: minor.to_owned(),
            soabi: format!("cpython-{digits}-x86_64-linux-gnu"),
            version: format!("{minor}.2"),
            programs: Vec::new(),
        };
        record.write(&link.record(&self.layout, venv.name().app())).unwrap();
        links::set(&self.layout, link, venv.name().app(), Some(&venv)).unwrap();
    }

    fn file(&self, path: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn look(&self) -> (Option<String>, String) {
        let found = of_links(&self.layout, &"nova".parse().unwrap()).unwrap();
        let venv = found.venv.as_ref().map(|venv| venv.name().to_string());
        (venv, found.fallen_back().unwrap_or_default())
    }

    fn venv(&self) -> Option<String> {
        self.look().0
    }
}

const NEW: Option<&str> = Some("nova:2");
const OLD: Option<&str> = Some("nova:1");

#[test]
fn the_committed_venv_while_its_interpreter_is_there() {
    let host = Host::new();
    host.file("usr/bin/python3.13");
    assert_eq!(host.look(), (NEW.map(str::to_owned), String::new()));
    host.file("usr/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so");
    host.file("usr/lib/python3.13/lib-dynload/_ssl.cpython-313d-x86_64-linux-gnu.so");
    assert_eq!(host.venv().as_deref(), NEW);
}

#[test]
fn the_previous_venv_where_only_its_interpreter_is_there() {
    let host = Host::new();
    host.file("usr/bin/python3.11");
    let (venv, why) = host.look();
    assert_eq!(venv.as_deref(), OLD);
    assert!(why.contains("/usr/bin/python3.13 is not there"), "{why}");
    // There, but no program.
    let path = host.directory.path().join("usr/bin/python3.13");
    fs::write(&path, "").unwrap();
    assert_eq!(host.venv().as_deref(), OLD);
    // A link to another version.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/usr/bin/python3.11", &path).unwrap();
    let (venv, why) = host.look();
    assert_eq!(venv.as_deref(), OLD);
    assert!(why.contains("is python 3.11 now, and it was built for 3.13"), "{why}");
    // The same version for another machine.
    fs::remove_file(&path).unwrap();
    host.file("usr/bin/python3.13");
    host.file("usr/lib/python3.13/lib-dynload/_ssl.cpython-313-aarch64-linux-gnu.so");
    let (venv, why) = host.look();
    assert_eq!(venv.as_deref(), OLD);
    assert!(why.contains("SOABI cpython-313-aarch64-linux-gnu"), "{why}");
}

#[test]
fn the_distribution_where_nothing_fits() {
    let host = Host::new();
    fs::create_dir_all(host.directory.path().join("usr/bin")).unwrap();
    let (venv, why) = host.look();
    assert_eq!(venv, None);
    assert!(why.contains("nova:1 can't run either"), "{why}");
    // The previous venv is taken only when it is known to fit.
    host.file("usr/bin/python3.11");
    let record = Link::Previous.record(&host.layout, &"nova".parse().unwrap());
    fs::remove_file(record).unwrap();
    let (venv, why) = host.look();
    assert_eq!(venv, None);
    assert!(why.contains("of the previous venv nova:1 nothing is known"), "{why}");
    host.link(Link::Previous, "nova:2", "3.11");
    assert!(host.look().1.contains("there is no previous venv"));
}

#[test]
fn what_can_not_be_known_is_not_held_against_it() {
    let host = Host::new();
    let record = Link::Committed.record(&host.layout, &"nova".parse().unwrap());
    let text = fs::read_to_string(&record).unwrap();
    for elsewhere in ["/opt/python/bin/python3.13", "/usr/local/bin/python3.13"] {
        fs::write(&record, text.replace("/usr/bin/python3.13", elsewhere)).unwrap();
        assert_eq!(host.venv().as_deref(), NEW, "{elsewhere}");
    }
    fs::create_dir_all(host.directory.path().join("usr/local/bin")).unwrap();
    assert_eq!(host.venv(), None, "/usr/local is mounted, and it is not there");
    for other in [text.replace("nova:2", "nova:3"), "{".to_owned()] {
        fs::write(&record, other).unwrap();
        assert_eq!(host.venv().as_deref(), NEW, "a record of another venv says nothing");
    }
}

#[test]
fn no_venv_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let found = of_links(&layout, &"nova".parse().unwrap()).unwrap();
    assert!(matches!(found.why, Why::NoVenv) && found.venv.is_none());
}

#[test]
fn a_revoked_venv_is_never_in_force() {
    let host = Host::new();
    host.file("usr/bin/python3.13");
    host.file("usr/bin/python3.11");
    let look = |revoked: &[&str]| {
        for tag in revoked {
            host.file(&format!("etc/venvd/revoked/nova/{tag}"));
        }
        let found = host.look();
        let _ = fs::remove_dir_all(host.directory.path().join("etc/venvd/revoked"));
        found
    };
    assert_eq!(look(&["1", "3"]).0.as_deref(), NEW, "it is not the one in force");
    let (venv, why) = look(&["2"]);
    assert_eq!(venv.as_deref(), OLD);
    assert!(
        why.contains("nova:2 can't run: it is revoked; the previous venv"),
        "{why}"
    );
    assert!(why.contains("`venvctl activate nova:TAG`"), "{why}");
    let (venv, why) = look(&["1", "2"]);
    assert_eq!(venv, None);
    assert!(why.contains("nova:1 can't run either: it is revoked"), "{why}");
    // Nor does it stand in for one whose interpreter has gone.
    fs::remove_file(host.directory.path().join("usr/bin/python3.13")).unwrap();
    assert_eq!(look(&[]).0.as_deref(), OLD);
    assert_eq!(look(&["1"]).0, None);
    // Also where nothing else is known of it.
    fs::remove_file(Link::Committed.record(&host.layout, &"nova".parse().unwrap())).unwrap();
    assert_eq!(look(&["2"]).0.as_deref(), OLD);
}
