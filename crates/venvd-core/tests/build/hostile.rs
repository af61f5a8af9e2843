// Packages, build backends and installers that try to get root, or to change what is sealed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use crate::support::{self, Host, sha256};
use venvd_app::Settings;
use venvd_app::definition::Builder;
use venvd_core::build::{Outcome, Silent};
use venvd_core::verify::{self, Options};
use venvd_core::{Manifest, build, manifest};

const ATTACK: &str = include_str!("hostile/attack.py");
const INSTALLER: &str = include_str!("hostile/installer.py");
const BACKEND: &str = include_str!("hostile/backend.py");

/// Returns the attack, with its mark in a place of the host that root alone can write to.
fn attack(host: &Host) -> String {
    format!("MARK = {:?}\n{ATTACK}", host.path("/mark").display().to_string())
}

fn has_mark(host: &Host) -> bool {
    host.path("/mark").exists()
}

/// Stands for whoever ran nothing.
const NOBODY: u32 = 65534;

/// Checks that nobody got root, that no process is left, and that the seal holds, now and a little later.
fn assert_unharmed(host: &Host, user: u32) {
    assert_ne!(user, 0);
    assert!(
        user == NOBODY || !support::has_processes(user),
        "a process of user {user} is left"
    );
    let venv = crate::support::local("demo:1");
    for _ in 0..2 {
        let report = verify::verify(&host.layout, &venv, Options::default(), &verify::Silent).unwrap();
        assert_eq!(report.findings, [], "the seal does not hold");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!has_mark(host), "{}", fs::read_to_string(host.path("/mark")).unwrap());
    for file in Manifest::load(&host.layout.on_disk(venv.path())).unwrap().files {
        let metadata = fs::symlink_metadata(host.layout.on_disk(venv.path()).join(&file.path)).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o6022), (0, 0), "{}", file.path);
    }
}

fn site(host: &Host, file: &str) -> String {
    let venv = host.path("/var/lib/venvd/venvs/demo/1");
    let minor = Manifest::load(&venv).unwrap().python.minor;
    fs::read_to_string(venv.join(format!("lib/python{minor}/site-packages/{file}"))).unwrap()
}

#[test]
fn code_that_python_runs_by_itself_is_sealed_and_not_run_by_root() {
    let host = Host::new();
    let evil = attack(&host);
    let line = host.wheel(
        "demo",
        "1.0",
        &[
            ("demo/__init__.py", "print('demo')\n"),
            ("evil.py", &evil),
            ("evil.pth", "import evil\n"),
            ("sitecustomize.py", "import evil\n"),
            ("usercustomize.py", "import evil\n"),
            // What root's interpreter would import by its first statement, were this in its way.
            ("compileall.py", "import evil\n"),
            (
                "demo-1.0.dist-info/entry_points.txt",
                "[console_scripts]\ndemo = demo:main\n",
            ),
        ],
    );
    host.write("/lock.txt", &line);
    host.declare("lock = \"/lock.txt\"");
    assert_eq!(host.build(Some("1")).unwrap().outcome, Outcome::New);
    assert_eq!(site(&host, "evil.pth"), "import evil\n");
    assert_unharmed(&host, NOBODY);
}

#[test]
fn a_process_that_survives_its_installer_changes_nothing() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    host.write("/uv", &format!("#!/usr/bin/python3 -I\n{}{INSTALLER}", attack(&host)));
    fs::set_permissions(host.path("/uv"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut request = host.request(Some("1"));
    request.uv = Some(host.path("/uv"));
    request.app.build.builder = Builder::Uv;
    build(&host.layout, &Settings::default(), &request, &mut Silent).unwrap();
    let log = fs::read_to_string(host.path("/var/lib/venvd/venvs/demo/1").join(manifest::LOG)).unwrap();
    let user = log.lines().find_map(|line| line.strip_prefix("survivor "));
    let user = user.unwrap_or_else(|| panic!("{log}")).parse().unwrap();
    assert_unharmed(&host, user);
    assert!(site(&host, "demo/__init__.py").starts_with("import sys\n"));
}

/// Makes a source distribution with the hostile backend.
fn source(host: &Host, leave: &str) {
    let directory = host.path("/source-1.0");
    fs::create_dir(&directory).unwrap();
    let project = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    let backend = format!("{}LEAVE = {leave:?}\n{BACKEND}", attack(host));
    let info = "Metadata-Version: 2.1\nName: source\nVersion: 1.0\n";
    for (file, text) in [
        ("pyproject.toml", project),
        ("backend.py", &backend),
        ("PKG-INFO", info),
    ] {
        host.write(&format!("/source-1.0/{file}"), text);
    }
    let status = Command::new("tar")
        .arg("-C")
        .arg(host.directory())
        .arg("-czf")
        .arg(host.path("/wheels/source-1.0.tar.gz"))
        .arg("source-1.0")
        .status()
        .unwrap();
    assert!(status.success());
    let hash = sha256(&host.path("/wheels/source-1.0.tar.gz"));
    host.write("/lock.txt", &format!("source==1.0 --hash=sha256:{hash}\n"));
    host.declare("packages = [\"source\"]\nlock = \"/lock.txt\"\nsdists = [\"source\"]");
}

#[test]
fn a_process_that_survives_its_build_backend_changes_nothing() {
    let host = Host::new();
    source(&host, "survivor");
    host.build(Some("1")).unwrap();
    let said = site(&host, "source.py");
    let user = said.trim().strip_prefix("USER = ").unwrap().parse().unwrap();
    assert_unharmed(&host, user);
}

#[test]
fn what_a_build_backend_leaves_besides_its_wheel_is_refused_or_left_alone() {
    for (leave, code) in [
        // It is no file, so nobody asks what it leads to.
        ("link", None),
        ("hard link", Some("hostile-tree")),
        ("setuid", Some("hostile-tree")),
    ] {
        let host = Host::new();
        source(&host, leave);
        let result = host.build(Some("1"));
        assert_eq!(result.as_ref().err().map(venvd_core::Error::code), code, "{leave}");
        match result {
            Ok(_) => assert_unharmed(&host, NOBODY),
            Err(_) => host.assert_nothing_left(),
        }
        assert!(!has_mark(&host), "{leave}");
    }
}
