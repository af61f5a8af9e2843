//! The machine itself, on both releases: what every other machine test takes for granted.
#![expect(
    clippy::unwrap_used,
    reason = "all of this file is tests, also the functions that both releases share"
)]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use venvd_tests::{Machine, MachineBuilder, Os, cache, locks, wheels};

/// Far more than a boot takes, so that a busy host fails no test.
const SOON: Duration = Duration::from_secs(30);

fn boot(os: Os) -> Machine {
    let begin = Instant::now();
    let machine = Machine::boot(os).unwrap();
    println!("{os} was up after {:?}", begin.elapsed());
    machine
}

/// Runs a check on both releases, one after the other: a machine is cheap, a test binary full of them is not.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod debian12 { $(#[test] fn $name() { super::$name(super::Os::Debian12); })* }
        mod debian13 { $(#[test] fn $name() { super::$name(super::Os::Debian13); })* }
    };
}

on_both! {
    boots_quickly_and_completely,
    runs_commands_as_root_and_as_a_user,
    copies_files_and_trees_both_ways,
    keeps_files_over_a_reboot_and_a_power_cut,
    mounts_its_late_var_after_the_generators,
    has_no_network_but_a_loopback,
    installs_locks_from_the_wheels,
    shows_units_and_processes,
    leaves_nothing_behind_when_dropped,
    leaves_nothing_behind_when_the_test_is_killed,
    shows_its_journal_when_the_test_panics,
}

fn boots_quickly_and_completely(os: Os) {
    // A root may have to be made first, which is not the boot that is measured.
    venvd_tests::roots::ensure(os).unwrap();
    let begin = Instant::now();
    let machine = boot(os);
    assert!(begin.elapsed() < SOON);
    assert_eq!(machine.wait_running(), [""; 0], "failed units");
    let release = machine.read("/etc/os-release");
    assert!(
        release.contains(&format!("VERSION_CODENAME={}", os.suite())),
        "{release}"
    );
    assert_eq!(machine.ok("cat /proc/1/comm"), "systemd");
    assert_eq!(machine.ok("stat -f -c %T /sys/fs/cgroup"), "cgroup2fs");
    assert_eq!(
        machine.ok("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'"),
        os.python()
    );
    machine.ok("uv --version && sudo -V && visudo -V && python3 -m venv /tmp/v");
    machine.ok(
        "busctl call org.freedesktop.PolicyKit1 /org/freedesktop/PolicyKit1/Authority org.freedesktop.DBus.Peer Ping",
    );
    assert_eq!(
        machine.run(&["sh", "-c", "command -v visudo-rs"]).success(),
        os == Os::Debian13
    );
}

fn runs_commands_as_root_and_as_a_user(os: Os) {
    let machine = boot(os);
    let output = machine.run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (output.status, output.stdout.as_str(), output.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    assert_eq!(machine.run(&["sh", "-c", "kill -TERM $$"]).status, 128 + 15);
    assert_eq!(machine.run(&["/nonexistent"]).status, 127);
    let big = vec![b'x'; 1 << 20];
    assert_eq!(machine.run_with_input(&["cat"], &big).stdout.len(), big.len());
    assert_eq!(
        machine.ok("id -u; pwd; grep ^0: /proc/self/cgroup"),
        "0\n/\n0::/init.scope"
    );
    assert_eq!(
        machine.ok("env | cut -d= -f1 | sort | tr '\\n' ' '"),
        "HOME LANG PATH PWD SYSTEMD_PAGER TERM "
    );

    machine.ok("useradd --system --create-home --home-dir /var/lib/nova --shell /usr/sbin/nologin nova");
    assert_eq!(machine.user_run("nova", &["id", "-un"]).stdout, "nova\n");
    assert!(!machine.user_run("nova", &["touch", "/etc/x"]).success());
    assert_eq!(
        machine.user_run("nova", &["sh", "-c", "echo $HOME"]).stdout,
        "/var/lib/nova\n"
    );
    machine.write(
        "/etc/sudoers.d/nova",
        "nova ALL=(root) NOPASSWD: /usr/bin/id -u\n",
        0o440,
    );
    assert_eq!(
        machine.user_run("nova", &["sudo", "-n", "/usr/bin/id", "-u"]).stdout,
        "0\n"
    );
    assert!(!machine.user_run("nova", &["sudo", "-n", "/usr/bin/id"]).success());
}

fn copies_files_and_trees_both_ways(os: Os) {
    let machine = boot(os);
    let host = tempfile::tempdir().unwrap();
    let program = host.path().join("tree/bin/program");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, b"#!/bin/sh\necho \xff ran\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", host.path().join("tree/link")).unwrap();

    machine.copy_in(&program, "/opt/new/place/program");
    assert_eq!(machine.ok("stat -c '%a %U' /opt/new/place/program"), "750 root");
    machine.copy_in(host.path().join("tree"), "/opt/tree");
    assert!(machine.ok("/opt/tree/bin/program").ends_with("ran"));
    assert_eq!(machine.ok("readlink /opt/tree/link"), "/etc/passwd");

    let out = host.path().join("out");
    machine.copy_out("/opt/tree", &out);
    assert_eq!(fs::read(out.join("bin/program")).unwrap(), fs::read(&program).unwrap());
    machine.copy_out("/opt/tree/bin/program", host.path().join("file"));
    assert_eq!(fs::read(host.path().join("file")).unwrap(), fs::read(&program).unwrap());

    // A link of the machine leads to the machine's files, never to the host's.
    machine.ok("ln -s /root/of-the-machine /opt/link");
    machine.write("/opt/link", "inside", 0o600);
    assert_eq!(machine.read("/root/of-the-machine"), "inside");
    assert!(!Path::new("/root/of-the-machine").exists());
}

fn keeps_files_over_a_reboot_and_a_power_cut(os: Os) {
    let mut machine = boot(os);
    machine.write("/var/lib/kept", "kept", 0o644);
    machine.write("/run/gone", "gone", 0o644);
    machine.ok("rm /etc/debian_version");
    let id = machine.read("/etc/machine-id");
    let first = machine.ok("cat /proc/sys/kernel/random/boot_id; journalctl -n1 -o cat >/dev/null");
    let begin = Instant::now();
    machine.reboot().unwrap();
    println!("{os} was up again after {:?}", begin.elapsed());
    assert_eq!(machine.wait_running(), [""; 0], "failed units");
    for after in ["a reboot", "a power cut", "a power-off"] {
        assert_eq!(machine.read("/var/lib/kept"), "kept", "after {after}");
        assert!(!machine.run(&["test", "-e", "/run/gone"]).success(), "after {after}");
        assert!(
            !machine.run(&["test", "-e", "/etc/debian_version"]).success(),
            "after {after}"
        );
        assert_eq!(machine.read("/etc/machine-id"), id, "after {after}");
        match after {
            "a reboot" => machine.kill().unwrap(),
            _ => machine.power_off().unwrap(),
        }
        machine.boot_again().unwrap();
    }
    assert!(!first.is_empty());
    let boots = machine.journalctl(&["--list-boots"]);
    assert_eq!(
        boots.lines().filter(|line| !line.contains("FIRST")).count(),
        5,
        "{boots}"
    );
}

fn mounts_its_late_var_after_the_generators(os: Os) {
    const GENERATOR: &str = "#!/bin/sh\nls -A /var/lib/venvd >/run/seen-by-generator 2>&1\n";
    let mut machine = MachineBuilder::new(os).late_var().boot().unwrap();
    machine.write("/etc/systemd/system-generators/probe", GENERATOR, 0o755);
    machine.write("/var/lib/venvd/file", "here", 0o644);
    machine.reboot().unwrap();
    assert_eq!(machine.read("/run/seen-by-generator"), "");
    assert_eq!(machine.read("/var/lib/venvd/file"), "here");
    assert_eq!(machine.unit_property("var-lib-venvd.mount", "ActiveState"), "active");
    assert_ne!(
        machine.ok("stat -c %d /var/lib"),
        machine.ok("stat -c %d /var/lib/venvd")
    );
    assert_eq!(machine.wait_running(), [""; 0], "failed units");
}

fn has_no_network_but_a_loopback(os: Os) {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("wheel"), "w").unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let machine = MachineBuilder::new(os)
        .bind_ro(shared.path(), "/srv/wheels")
        .boot()
        .unwrap();
    assert_eq!(machine.read("/srv/wheels/wheel"), "w");
    assert!(!machine.run(&["touch", "/srv/wheels/x"]).success());
    assert_eq!(machine.ok("ls /sys/class/net; ip route"), "lo");
    machine.ok(
        "python3 -m http.server --directory /srv/wheels --bind 127.0.0.1 8000 >/dev/null 2>&1 & \
                for i in 1 2 3 4 5 6 7 8 9; do curl -sf http://127.0.0.1:8000/wheel && exit; sleep 0.3; done; exit 1",
    );
}

fn installs_locks_from_the_wheels(os: Os) {
    let wheels = wheels::ensure(os).unwrap();
    let machine = MachineBuilder::new(os).bind_ro(wheels, wheels::GUEST).boot().unwrap();
    let from = format!(
        "--no-index --find-links {} --require-hashes --only-binary=:all:",
        wheels::GUEST
    );
    // The others need distributions that exist as source only: venvd builds those, uv with these options does not.
    for name in [locks::PLACEMENT, locks::CINDER, locks::ROOTWRAP].concat() {
        machine.copy_in(locks::path(name), &format!("/root/{name}.txt"));
        machine.ok(&format!(
            "uv venv --quiet --python /usr/bin/python3 /opt/{name} && \
             VIRTUAL_ENV=/opt/{name} uv pip install --quiet --offline --strict {from} -r /root/{name}.txt && \
             uv pip check --quiet --python /opt/{name}"
        ));
    }
    for (program, versions) in [("cinder-manage", locks::CINDER), ("placement-manage", locks::PLACEMENT)] {
        for name in versions {
            let said = machine.ok(&format!("/opt/{name}/bin/{program} --version"));
            assert_eq!(name.rsplit_once('-').unwrap().1, said, "{name}");
        }
    }
    let name = locks::ROOTWRAP[0];
    machine.ok(&format!(
        "python3 -m venv /opt/pip && /opt/pip/bin/pip install --quiet {from} -r /root/{name}.txt"
    ));
    // No configuration is there: that it says so is oslo.rootwrap itself speaking (its exit status for that is 97).
    assert_eq!(
        machine
            .run(&["/opt/pip/bin/oslo-rootwrap", "/nonexistent", "id"])
            .status,
        97
    );
}

fn shows_units_and_processes(os: Os) {
    let machine = boot(os);
    machine.write(
        "/etc/systemd/system/probe.service",
        "[Service]\nEnvironment=\"TWO=a b\"\nExecStart=sleep infinity\n",
        0o644,
    );
    assert_eq!(machine.main_pid("probe.service"), 0);
    machine.ok("systemctl daemon-reload; systemctl start probe; echo a-line-of-ours | systemd-cat");
    machine.wait_until(SOON, "the unit is active", |machine| {
        machine.unit_property("probe.service", "ActiveState") == "active"
    });
    let environment = machine.environ_of(machine.main_pid("probe.service"));
    assert_eq!(
        environment.get("TWO").map(String::as_str),
        Some("a b"),
        "{environment:?}"
    );
    assert!(machine.journal().contains("a-line-of-ours"));
    assert!(
        machine
            .journalctl(&["--unit=probe", "--output=cat"])
            .contains("Started probe.service")
    );
}

/// What must be gone with a machine: processes that name its directory, mounts, groups and the directory.
fn traces_of(dir: &Path) -> Vec<String> {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let mut traces: Vec<String> = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let command = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        traces.extend(command.contains(name).then_some(command));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    traces.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    let groups = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t cgroup2 x /sys/fs/cgroup; find /sys/fs/cgroup -name \"venvd-$1\"",
            "sh",
            name,
        ])
        .output()
        .unwrap();
    // find fails when a group goes while it looks; that it looked at all is what its errors must show.
    let said = String::from_utf8_lossy(&groups.stderr).into_owned();
    assert!(
        said.lines().all(|line| line.contains("No such file or directory")),
        "{groups:?}"
    );
    traces.extend(String::from_utf8_lossy(&groups.stdout).lines().map(str::to_owned));
    traces.extend(dir.exists().then(|| dir.display().to_string()));
    traces
}

fn leaves_nothing_behind_when_dropped(os: Os) {
    let machine = boot(os);
    let dir = machine.dir().to_owned();
    machine.ok("setsid sleep 1000 >/dev/null 2>&1 &");
    assert!(
        traces_of(&dir).len() >= 3,
        "the check sees nothing: {:?}",
        traces_of(&dir)
    );
    drop(machine);
    assert_eq!(traces_of(&dir), [""; 0]);
}

/// Set in a child process: what it must do with its machine, and where it tells which one that is.
const CHILD: &str = "VENVD_TEST_CHILD";

/// Runs the test `child` of this file in a process of its own, and gives it and the directory of its machine.
fn spawn_child(os: Os, told: &Path, logs: &Path) -> (std::process::Child, PathBuf) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("{os} {}", told.display()))
        .env("VENVD_TEST_LOGS", logs)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(told)
            && let Some(dir) = text.strip_suffix('\n')
        {
            return (child, PathBuf::from(dir));
        }
        assert!(begin.elapsed() < 2 * SOON, "the child booted no machine");
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the child ended: {status}: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Not a test of its own: boots a machine, says where, and waits for its end or panics.
#[test]
fn child() {
    let Ok(task) = env::var(CHILD) else { return };
    let (os, told) = task.split_once(' ').unwrap();
    let machine = Machine::boot(os.parse().unwrap()).unwrap();
    machine.ok("echo the-last-words-of-the-machine | systemd-cat; journalctl --sync");
    fs::write(told, format!("{}\n", machine.dir().display())).unwrap();
    if told.ends_with("sleep") {
        thread::sleep(Duration::from_secs(600));
    }
    machine.ok("echo why-it-failed; exit 9");
}

fn leaves_nothing_behind_when_the_test_is_killed(os: Os) {
    let temp = tempfile::tempdir().unwrap();
    for signal in [
        nix::sys::signal::SIGKILL,
        nix::sys::signal::SIGINT,
        nix::sys::signal::SIGTERM,
    ] {
        let told = temp.path().join(format!("{signal}-sleep"));
        let (mut child, dir) = spawn_child(os, &told, temp.path());
        assert!(traces_of(&dir).len() >= 3, "{:?}", traces_of(&dir));
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
        child.wait().unwrap();
        let begin = Instant::now();
        while !traces_of(&dir).is_empty() {
            assert!(begin.elapsed() < SOON, "after {signal}: {:?}", traces_of(&dir));
            thread::sleep(Duration::from_millis(50));
        }
        println!("after {signal}, all was gone within {:?}", begin.elapsed());
    }
}

fn shows_its_journal_when_the_test_panics(os: Os) {
    let temp = tempfile::tempdir().unwrap();
    let (child, dir) = spawn_child(os, &temp.path().join("panic"), temp.path());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [
        "the-last-words-of-the-machine",
        "why-it-failed",
        "exit status 9",
        "Reached target",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    let logs: Vec<_> = fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    let log = fs::read_to_string(&logs[0]).unwrap();
    assert!(log.contains("the-last-words-of-the-machine"), "{log}");
    assert_eq!(traces_of(&dir), [""; 0]);
}

#[test]
fn a_sweep_removes_the_dead_and_spares_the_living() {
    let machine = boot(Os::Debian12);
    let dead = cache::dir().unwrap().join("machines/m-of-a-lost-host");
    fs::create_dir_all(dead.join("upper")).unwrap();
    cache::sweep().unwrap();
    assert!(!dead.exists());
    assert_eq!(machine.ok("echo alive"), "alive");
}
