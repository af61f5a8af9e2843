//! The same lock gives the same venv, wherever, whenever and by whatever it is built.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Host;
use venvd_core::build::{Outcome, Silent};
use venvd_core::{Manifest, build};

/// Set in a run of this test that builds only: the root of its host.
const BUILDS: &str = "VENVD_TEST_BUILDS";

/// Where the installers of the tests' cache lie, and where an administrator puts one.
const UVS: &str = "/var/tmp/venvd/tools";

fn uv() -> Option<PathBuf> {
    let cached = fs::read_dir(UVS).into_iter().flatten().filter_map(Result::ok);
    let cached = cached.map(|entry| entry.path().join("bin/uv"));
    cached.chain(["/usr/local/bin/uv".into()]).find(|path| path.is_file())
}

/// What is in a tree: everything but the manifest's circumstances and the log.
fn entries(tree: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![tree.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .to_string_lossy()
                .into_owned()
                .into_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        let relative = path.strip_prefix(tree).unwrap().to_owned();
        if !relative.starts_with(".venvd") {
            found.insert(relative, (metadata.mode(), metadata.mtime(), content));
        }
    }
    found
}

#[test]
fn nothing_of_where_when_and_by_whom_is_left() {
    if let Some(root) = std::env::var_os(BUILDS) {
        let host = Host::at(Path::new(&root));
        let mut request = host.request(Some("1"));
        request.uv = std::env::var_os("VENVD_TEST_UV").map(PathBuf::from);
        if request.uv.is_some() {
            request.app.build.builder = venvd_app::definition::Builder::Uv;
        }
        build(&host.layout, &Default::default(), &request, &mut Silent).unwrap();
        return;
    }
    let one = Host::new();
    let deep = tempfile::Builder::new().prefix("another place ").tempdir().unwrap();
    let other = Host::at(deep.path());
    one.write(
        "/lock.txt",
        &(one.demo("1.0") + &one.wheel("more", "1", &[("more/x.py", "X = {'a', 'b', None}\n")])),
    );
    one.declare("lock = \"/lock.txt\"");
    for path in ["/lock.txt", "/etc/venvd/apps/demo.toml"] {
        other.write(path, &fs::read_to_string(one.path(path)).unwrap());
    }
    fs::create_dir(other.path("/wheels")).unwrap();
    for name in one.names("/wheels") {
        fs::copy(
            one.path(&format!("/wheels/{name}")),
            other.path(&format!("/wheels/{name}")),
        )
        .unwrap();
    }
    run(&one, "umask 022; export TZ=UTC LANG=C.UTF-8", None);
    run(
        &other,
        "umask 077; export TZ=Asia/Kathmandu LANG=tr_TR LC_ALL=de_DE.ISO-8859-1 PYTHONHASHSEED=7",
        uv(),
    );

    let venv = crate::support::local("demo:1");
    let trees = [&one, &other].map(|host| host.layout.on_disk(venv.path()));
    let [first, second] = trees.each_ref().map(|tree| Manifest::load(tree).unwrap());
    if uv().is_some() {
        assert_ne!(first.builder.name, second.builder.name);
    }
    let [left, right] = trees.each_ref().map(|tree| entries(tree));
    let differ: Vec<_> = left
        .iter()
        .filter(|(path, entry)| right.get(*path) != Some(entry))
        .collect();
    assert!(differ.is_empty() && left.len() == right.len(), "{differ:?}");
    assert_eq!(first.digest(), second.digest());
    assert!(left.values().all(|(_, time, _)| *time == 315_532_800));
    for name in ["INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"] {
        assert!(!left.keys().any(|path| path.ends_with(name)), "{name}");
    }
    let interpreter = venvd_core::Interpreter::probe(&first.python.interpreter).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let different = venvd_core::build::recompile(&trees[0], &first, &interpreter, scratch.path()).unwrap();
    assert_eq!(different, Vec::<String>::new());
}

/// Builds in a process of its own, with these circumstances.
fn run(host: &Host, circumstances: &str, uv: Option<PathBuf>) {
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            &format!("{circumstances}; exec \"$0\" --exact reproducible::nothing_of_where_when_and_by_whom_is_left"),
        ])
        .arg(std::env::current_exe().unwrap())
        .env(BUILDS, host.directory());
    if let Some(uv) = uv {
        command.env("VENVD_TEST_UV", uv);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn which_of_two_distributions_has_a_file_is_told() {
    let host = Host::new();
    let lock = host.wheel("aa", "1", &[("same.py", "A = 1\n"), ("both.py", "\n")])
        + &host.wheel("bb", "1", &[("same.py", "B = 1\n"), ("both.py", "\n")]);
    host.write("/lock.txt", &lock);
    host.declare("lock = \"/lock.txt\"");
    let venv = host.build(Some("1")).unwrap().venv;
    let manifest = Manifest::load(&host.layout.on_disk(venv.path())).unwrap();
    let contested: Vec<_> = manifest
        .contested
        .iter()
        .map(|file| file.path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(contested, ["same.py"]);
    assert_eq!(manifest.contested[0].distributions, ["aa", "bb"]);
    let tree = host.layout.on_disk(venv.path());
    assert_eq!(
        fs::read_to_string(tree.join(&manifest.contested[0].path)).unwrap(),
        "B = 1\n"
    );
    // pip installs in the order of the lock: now the other one comes last.
    host.write(
        "/lock.txt",
        &lock.lines().rev().map(|line| format!("{line}\n")).collect::<String>(),
    );
    let again = host.build(Some("2")).unwrap().venv;
    let tree = host.layout.on_disk(again.path());
    assert_eq!(
        fs::read_to_string(tree.join(&manifest.contested[0].path)).unwrap(),
        "B = 1\n"
    );
}

/// A module of Debian's python3-dbus or python3-apt, whichever this system has.
fn host_module() -> Option<&'static str> {
    let packages = Path::new("/usr/lib/python3/dist-packages");
    ["dbus", "apt"]
        .into_iter()
        .find(|name| packages.join(name).join("__init__.py").is_file())
}

#[test]
fn a_module_of_the_host_is_linked_and_imported() {
    let Some(name) = host_module() else { return };
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare(&format!("lock = \"/lock.txt\"\nhost-modules = [\"{name}\"]"));
    let built = host.build(Some("1")).unwrap();
    assert_eq!(built.outcome, Outcome::New);
    let tree = host.layout.on_disk(built.venv.path());
    let manifest = Manifest::load(&tree).unwrap();
    assert_eq!(manifest.host_modules.len(), 1);
    assert!(manifest.host_modules[0].links.len() > 1, "{:?}", manifest.host_modules);
    for link in &manifest.host_modules[0].links {
        assert!(tree.join(link).is_symlink() && tree.join(link).exists(), "{link}");
        assert!(manifest.links.iter().any(|sealed| sealed.path == *link));
    }
    let interpreter = venvd_core::Interpreter::probe(&manifest.python.interpreter).unwrap();
    assert_eq!(venvd_core::host_modules::check(&manifest, &interpreter).unwrap(), []);
    host.declare("lock = \"/lock.txt\"\nhost-modules = [\"no_such_module\"]");
    assert_eq!(host.build(Some("2")).unwrap_err().code(), "host-module");
    let mode = fs::metadata(&tree).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
}
