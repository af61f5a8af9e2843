use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{self, Host};
use venvd_app::links::{self, Link, VenvPath};
use venvd_core::build::{Outcome, Silent};
use venvd_core::list::list;
use venvd_core::remove::remove;
use venvd_core::{Manifest, build, preflight};

fn sealed(host: &Host, tag: &str) -> (VenvPath, Manifest) {
    let venv = crate::support::local(&format!("demo:{tag}"));
    let manifest = Manifest::load(&host.layout.on_disk(venv.path())).unwrap();
    (venv, manifest)
}

#[test]
fn a_lock_becomes_a_sealed_venv_once() {
    let host = Host::new();
    host.write("/lock.txt", &format!("# ours\n{}", host.demo("1.0")));
    host.declare("packages = [\"demo\"]\nlock = \"/lock.txt\"");
    let built = host.build(None).unwrap();
    assert_eq!(built.outcome, Outcome::New);
    let tag = built.venv.name().tag().to_string();
    assert!(tag.starts_with("1.0-") && tag.len() == 12, "{tag}");
    let (venv, manifest) = sealed(&host, &tag);

    let on_disk = host.layout.on_disk(venv.path());
    let script = fs::read_to_string(on_disk.join("bin/demo")).unwrap();
    assert!(
        script.starts_with(&format!("#!{}/bin/python\n", venv.path().display())),
        "{script}"
    );
    let tool = fs::read_to_string(on_disk.join("bin/demo-tool")).unwrap();
    assert!(
        tool.starts_with(&format!("#!{}/bin/python\n", venv.path().display())),
        "{tool}"
    );
    let programs: Vec<&str> = manifest.programs.iter().map(|program| program.as_str()).collect();
    assert_eq!(programs, ["demo", "demo-tool"]);
    let template = format!(
        "lib/python{}/site-packages/demo/templates/new.py",
        manifest.python.minor
    );
    assert_eq!(manifest.uncompiled, [template.as_str()]);
    assert_eq!(manifest.distributions.len(), 1);
    assert!(manifest.lock.text.starts_with("# ours\n"));
    for file in &manifest.files {
        let metadata = fs::symlink_metadata(on_disk.join(&file.path)).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.mode() & 0o7777),
            (0, file.mode),
            "{}",
            file.path
        );
        assert!(!file.path.ends_with("INSTALLER"), "{}", file.path);
    }
    let own: Vec<&str> = manifest
        .files
        .iter()
        .filter(|file| file.dist.is_none())
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(own, ["bin/activate", "pyvenv.cfg"]);
    assert_eq!(
        fs::read_to_string(host.path(&format!("/etc/venvd/locks/demo/{tag}.txt"))).unwrap(),
        manifest.lock.text
    );
    assert_eq!(host.names("/var/lib/venvd/staging"), Vec::<String>::new());

    // The wheels may be gone: nothing has to be done.
    fs::remove_dir_all(host.path("/wheels")).unwrap();
    let again = host.build(None).unwrap();
    assert_eq!((again.outcome, again.venv), (Outcome::AlreadyThere, venv));
}

#[test]
fn the_umask_of_the_administrator_has_no_say() {
    let output = Command::new("/bin/sh")
        .args([
            "-c",
            "umask 077; exec \"$0\" --exact sealing::a_lock_becomes_a_sealed_venv_once",
        ])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn equal_locks_give_equal_venvs() {
    let digest = || {
        let host = Host::new();
        host.write("/lock.txt", &host.demo("1.0"));
        host.declare("lock = \"/lock.txt\"");
        host.build(Some("1")).unwrap();
        sealed(&host, "1").1.digest()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn bytecode_is_canonical_and_believed_unchecked() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    host.build(Some("1")).unwrap();
    let (venv, manifest) = sealed(&host, "1");
    let bytecode = manifest.files.iter().find(|file| file.path.ends_with(".pyc")).unwrap();
    assert_eq!(bytecode.dist.as_deref(), Some("demo"));
    let content = fs::read(host.layout.on_disk(venv.path()).join(&bytecode.path)).unwrap();
    // PEP 552: the flags say "by hash, unchecked".
    assert_eq!(&content[4..8], [1, 0, 0, 0]);
    let canonical = format!(
        "/venv/lib/python{}/site-packages/demo/__init__.py",
        manifest.python.minor
    );
    assert!(
        content
            .windows(canonical.len())
            .any(|window| window == canonical.as_bytes())
    );
}

/// Runs a command as nobody in particular, with the host's `/var/lib/venvd` in its final place.
fn run_in_place(host: &Host, command: &str) -> String {
    let script = "set -e; mount --make-rprivate /; cd \"$1\"; mount --bind . /mnt; mount -t tmpfs tmpfs /var/lib; \
                  chmod 755 /var/lib; mkdir /var/lib/venvd; mount --bind /mnt /var/lib/venvd; \
                  exec setpriv --reuid 65000 --regid 65000 --clear-groups --no-new-privs -- sh -c \"cd /; $2\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(host.path("/var/lib/venvd"))
        .arg(command)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn programs_run_in_their_own_venv() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    host.build(Some("1")).unwrap();
    let venv = "/var/lib/venvd/venvs/demo/1";
    assert_eq!(
        run_in_place(&host, &format!("{venv}/bin/demo")),
        format!("1.0 {venv}\n")
    );
    assert_eq!(
        run_in_place(&host, &format!("{venv}/bin/demo-tool")),
        format!("1.0 {venv}\n")
    );
    let code = "import demo; print(demo.main.__code__.co_filename, demo.__cached__)";
    let output = run_in_place(&host, &format!("{venv}/bin/python3 -c '{code}'"));
    assert!(output.starts_with(&format!("{venv}/lib/python3")), "{output}");
}

#[test]
fn packages_and_constraints_make_a_lock_that_is_kept() {
    let host = Host::new();
    host.demo("1.0");
    host.demo("2.0");
    host.wheel("other", "1", &[("other.py", "")]);
    host.write("/constraints.txt", "demo==1.0\n");
    host.declare("packages = [\"demo\"]\nconstraints = [\"/constraints.txt\"]");
    let built = host.build(None).unwrap();
    let tag = built.venv.name().tag().to_string();
    assert!(tag.starts_with("1.0-"), "{tag}");

    // The newest is 2.0, but the lock is kept, also where the venv is gone.
    fs::remove_dir_all(host.path("/var/lib/venvd/venvs")).unwrap();
    assert_eq!(host.build(None).unwrap().venv, built.venv);
    assert_eq!(host.build(Some(&tag)).unwrap().outcome, Outcome::AlreadyThere);

    host.declare("packages = [\"demo\", \"other\"]\nconstraints = [\"/constraints.txt\"]");
    let error = host.build(Some(&tag)).unwrap_err();
    assert_eq!(error.code(), "other-lock");
    assert!(
        error.to_string().contains("`demo`, now it would be `demo, other`"),
        "{error}"
    );
    host.write("/constraints.txt", "demo==2.0\n");
    assert!(host.build(None).unwrap().venv.name().tag().as_str().starts_with("2.0-"));
}

#[test]
fn another_lock_under_a_tag_is_refused_and_named() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    host.build(Some("1")).unwrap();
    host.write("/lock.txt", &host.demo("2.0"));
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "other-lock");
    assert!(error.to_string().contains("demo was 1.0 and is 2.0 now"), "{error}");
    assert_eq!(sealed(&host, "1").1.distributions[0].version, "1.0");
}

#[test]
fn what_can_not_be_built_is_a_plain_error_and_leaves_nothing() {
    let host = Host::new();
    let line = host.demo("1.0");
    let wrong_hash = format!("demo==1.0 --hash=sha256:{}\n", "0".repeat(64));
    let given = "lock = \"/lock.txt\"";
    for (build, lock, code) in [
        (given, "demo==1.0\n", "lock-not-hashed"),
        (given, &wrong_hash, "missing-wheel"),
        (
            given,
            &format!("{line}absent==1 --hash=sha256:{}\n", "0".repeat(64)),
            "missing-wheel",
        ),
        (given, "-r /etc/passwd\n", "lock-invalid"),
        ("", "", "nothing-to-build"),
        ("lock = \"/absent.txt\"", "", "io"),
        (
            "lock = \"/lock.txt\"\npython = \"/usr/bin/python0\"",
            &line,
            "no-python",
        ),
        ("packages = [\"absent\"]", "", "lock-failed"),
    ] {
        host.write("/lock.txt", lock);
        host.declare(build);
        let error = host.build(Some("1")).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        host.assert_nothing_left();
    }
    let log = fs::read_to_string(host.path("/var/lib/venvd/staging/demo.log")).unwrap();
    assert!(log.contains("No matching distribution found for absent"), "{log}");
}

#[test]
fn a_network_that_is_gone_is_a_plain_error_that_shows_the_log() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    // Nothing listens on the discard port.
    host.write(
        "/etc/venvd/apps/demo.toml",
        "[build]\nbuilder = \"pip\"\nlock = \"/lock.txt\"\n[build.index]\nurl = \"http://127.0.0.1:9/simple\"\n",
    );
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "download-failed");
    let text = error.to_string();
    assert!(text.contains("No matching distribution found for demo==1.0"), "{text}");
    let log = host.path("/var/lib/venvd/staging/demo.log");
    assert!(text.contains(log.to_str().unwrap()) && log.exists(), "{text}");
    let mode = fs::metadata(&log).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it names the index, perhaps with a password");
    host.assert_nothing_left();
    // A local mirror that has everything is enough: no index is asked.
    host.write(
        "/etc/venvd/apps/demo.toml",
        "[build]\nbuilder = \"pip\"\nlock = \"/lock.txt\"\n[build.index]\nurl = \"http://127.0.0.1:9/simple\"\n\
         find-links = [\"/wheels\"]\n",
    );
    assert_eq!(host.build(Some("mirror")).unwrap().outcome, Outcome::New);
    // Offline means: what is there will do.
    host.declare("lock = \"/lock.txt\"");
    let mut request = host.request(Some("1"));
    request.offline = true;
    let built = build(&host.layout, &Default::default(), &request, &mut Silent).unwrap();
    assert_eq!(built.outcome, Outcome::New);
}

#[test]
fn nothing_of_a_package_runs() {
    let host = Host::new();
    let witness = host.path("/witness");
    let plant = format!("import os; open({:?}, 'a').write(str(os.getuid()))\n", witness);
    let line = host.wheel(
        "evil",
        "1",
        &[
            ("evil.pth", &plant),
            ("sitecustomize.py", &plant),
            ("usercustomize.py", &plant),
            ("compileall.py", &plant),
            ("pip.py", &plant),
            ("evil/__init__.py", &plant),
        ],
    );
    host.write("/lock.txt", &line);
    host.declare("lock = \"/lock.txt\"");
    // So that any user could leave its mark.
    fs::set_permissions(host.directory(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    fs::write(&witness, "").unwrap();
    fs::set_permissions(&witness, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let venv = host.build(Some("1")).unwrap().venv;
    preflight::check(&host.layout, &venv, &[]).unwrap();
    assert_eq!(fs::read_to_string(&witness).unwrap(), "");
}

#[test]
fn preflight_tells_what_is_wrong() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    host.build(Some("1")).unwrap();
    let venv = crate::support::local("demo:1");
    let directory = host.layout.on_disk(venv.path());
    let program = |name: &str| [name.parse().unwrap()];
    let code = |needed: &str| {
        preflight::check(&host.layout, &venv, &program(needed))
            .unwrap_err()
            .code()
    };
    preflight::check(&host.layout, &venv, &program("demo")).unwrap();
    preflight::check(&host.layout, &venv, &program("python")).unwrap();

    assert_eq!(code("absent"), "missing-program");
    let script = directory.join("bin/demo");
    fs::write(&script, "#!/usr/bin/python3\n").unwrap();
    assert_eq!(code("demo"), "missing-program");
    std::os::unix::fs::chown(&script, Some(65000), None).unwrap();
    assert_eq!(code("demo"), "unsafe-owner");
    let bin = directory.join("bin");
    for (mode, expected) in [(0o777, Some("unsafe-owner")), (0o755, None)] {
        fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let checked = preflight::check(&host.layout, &venv, &[]);
        assert_eq!(checked.err().map(|error| error.code()), expected);
    }

    let manifest = directory.join(venvd_core::manifest::PATH);
    let text = fs::read_to_string(&manifest).unwrap();
    let minor = sealed(&host, "1").1.python.minor;
    fs::write(
        &manifest,
        text.replace(&format!("\"minor\":\"{minor}\""), "\"minor\":\"3.9\""),
    )
    .unwrap();
    assert_eq!(code("demo"), "python-mismatch");
    fs::write(&manifest, text.replace("\"tag\":\"1\"", "\"tag\":\"2\"")).unwrap();
    assert_eq!(code("demo"), "renamed");
    fs::write(&manifest, "{").unwrap();
    assert_eq!(code("demo"), "not-sealed");
    assert_eq!(host.build(Some("1")).unwrap_err().code(), "not-sealed");
    fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o775)).unwrap();
    assert_eq!(code("demo"), "unsafe-owner");
    let absent = crate::support::local("demo:absent");
    assert_eq!(
        preflight::check(&host.layout, &absent, &[]).unwrap_err().code(),
        "no-such-venv"
    );
}

#[test]
fn a_venv_is_removed_only_when_nothing_needs_it() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    let venv = host.build(Some("1")).unwrap().venv;
    for link in [Link::Active, Link::Committed, Link::Previous] {
        links::set(&host.layout, link, venv.name().app(), Some(&venv)).unwrap();
        assert_eq!(
            remove(&host.layout, venv.name()).unwrap_err().code(),
            "linked",
            "{link:?}"
        );
        let listed = list(&host.layout, Some(venv.name().app())).unwrap();
        let flags = (listed[0].active, listed[0].committed, listed[0].previous);
        assert_eq!(
            flags,
            (link == Link::Active, link == Link::Committed, link == Link::Previous)
        );
        assert!(listed[0].sealed() && listed.len() == 1);
        links::set(&host.layout, link, venv.name().app(), None).unwrap();
    }
    host.write("/etc/venvd/pending/demo", "1\n");
    assert_eq!(remove(&host.layout, venv.name()).unwrap_err().code(), "pending");
    fs::remove_file(host.path("/etc/venvd/pending/demo")).unwrap();
    let directory = host.layout.on_disk(venv.path());
    let mut sleeper = Command::new("/bin/sleep")
        .arg("60")
        .current_dir(directory.join("bin"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let error = remove(&host.layout, venv.name()).unwrap_err();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(error.code(), "in-use");
    assert!(
        error.to_string().contains(&format!("sleep ({})", sleeper.id())),
        "{error}"
    );

    remove(&host.layout, venv.name()).unwrap();
    assert_eq!(host.names("/var/lib/venvd/venvs"), Vec::<String>::new());
    assert_eq!(host.names("/var/lib/venvd/staging"), Vec::<String>::new());
    assert_eq!(remove(&host.layout, venv.name()).unwrap_err().code(), "no-such-venv");
    assert!(list(&host.layout, None).unwrap().is_empty());
}

#[test]
fn builds_at_the_same_time_make_one_venv() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    let request = host.request(Some("1"));
    let layout = &host.layout;
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let build = || {
            build(layout, &Default::default(), &request, &mut Silent)
                .unwrap()
                .outcome
        };
        let threads = [scope.spawn(build), scope.spawn(build)];
        threads.map(|thread| thread.join().unwrap()).to_vec()
    });
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == Outcome::New).count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(host.names("/var/lib/venvd/staging"), Vec::<String>::new());
}

/// Set in the run of this test that is killed: the root of its host.
const KILLED: &str = "VENVD_TEST_KILLED";

#[test]
fn a_killed_build_leaves_nothing_running_and_nothing_in_the_way() {
    if let Some(root) = std::env::var_os(KILLED) {
        let host = Host::at(Path::new(&root));
        host.build(Some("1")).unwrap();
        return;
    }
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    let mut build = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sealing::a_killed_build_leaves_nothing_running_and_nothing_in_the_way",
        ])
        .env(KILLED, host.directory())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let venv = || {
        let build = format!("/var/lib/venvd/staging/{}", host.names("/var/lib/venvd/staging").pop()?);
        let mut phases = host.names(&build).into_iter();
        let phase = phases.rfind(|name| name.starts_with("install."))?;
        fs::metadata(host.path(&format!("{build}/{phase}/work/venv"))).ok()
    };
    let user = support::wait_for("the installer", || venv().map(|venv| venv.uid()));
    build.kill().unwrap();
    build.wait().unwrap();
    support::wait_for("the end of the installer", || {
        (!support::has_processes(user)).then_some(())
    });
    host.assert_unsealed();
    assert_eq!(host.build(Some("1")).unwrap().outcome, Outcome::New);
    assert_eq!(host.names("/var/lib/venvd/staging"), Vec::<String>::new());
}

/// Set in the run of this test that has a small file system.
const SMALL: &str = "VENVD_TEST_SMALL";

#[test]
fn no_space_is_a_plain_error_and_leaves_nothing() {
    if std::env::var_os(SMALL).is_some() {
        return with_little_space();
    }
    let directory = tempfile::tempdir().unwrap();
    // In a mount namespace of its own, so that nothing stays mounted however this ends.
    let script = "mount --make-rprivate / && mount -t tmpfs -o size=16m,mode=0755 tmpfs \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sealing::no_space_is_a_plain_error_and_leaves_nothing"])
        .env(SMALL, "1")
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn with_little_space() {
    let host = Host::new();
    assert!(host.directory().starts_with(std::env::var_os("TMPDIR").unwrap()));
    // Packed it is nothing, unpacked it does not fit: seen before anything is unpacked.
    let line = host.wheel("big", "1", &[("MANY", "300")]);
    host.write("/lock.txt", &line);
    host.declare("lock = \"/lock.txt\"");
    assert_no_space(&host, "about 37 MiB are needed");
    // The disk fills up while wheels are fetched.
    let huge = host.path("/wheels/huge-1-py3-none-any.whl");
    fs::write(&huge, vec![7; 6 << 20]).unwrap();
    host.fill_but(5 << 20);
    host.write(
        "/lock.txt",
        &format!("huge==1 --hash=sha256:{}\n", support::sha256(&huge)),
    );
    assert_no_space(&host, "cannot write");
    // Not even a beginning.
    host.fill_but(1 << 20);
    assert_no_space(&host, "about 4 MiB are needed");
}

fn assert_no_space(host: &Host, says: &str) {
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "no-space", "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(!Path::new(&host.path("/var/lib/venvd/venvs/demo")).exists());
    host.assert_nothing_left();
}
