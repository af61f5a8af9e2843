//! Builds on a host that systemd runs: confined by its units or by namespaces alike, ended by a signal, swept after a kill,
//! and harmless however hostile what they run is.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

const APP: &str = r#"
user = "nobody"
[build]
packages = ["source"]
lock = "/root/lock.txt"
sdists = ["source"]
builder = "pip"
[build.index]
find-links = ["/root/hostile"]
no-index = true
"#;

const ATTACK: &str = include_str!("../../crates/venvd-core/tests/build/hostile/attack.py");
const BACKEND: &str = include_str!("../../crates/venvd-core/tests/build/hostile/backend.py");
const PROJECT: &str = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
const METADATA: &str = "Metadata-Version: 2.1\nName: source\nVersion: 1.0\n";

/// Where root alone can write: an attack that gets there has won.
const MARK: &str = "/root/mark";

/// systemd can't be used from a mount namespace of one's own, as from a chroot or a container.
const ELSEWHERE: &str = "unshare --mount";

fn all(os: Os) -> Result<()> {
    let machine = supplied(os)?.boot()?;
    machine.ok("dpkg -i /srv/venvd.deb");
    machine.write("/etc/venvd/apps/demo.toml", APP, 0o644);
    hostile(&machine);
    links(&machine);
    both_ways_alike(&machine);
    interrupted(&machine);
    killed(&machine);
    Ok(())
}

/// Makes the source distribution whose backend does this besides attacking; `extra` are further lines of it.
fn source(machine: &Machine, leave: &str, extra: &str) {
    machine.ok("rm -rf /root/hostile /root/source-1.0 && mkdir -p /root/hostile /root/source-1.0");
    let backend = format!("MARK = {MARK:?}\nLEAVE = {leave:?}\n{ATTACK}\n{BACKEND}\n{extra}\n");
    machine.write("/root/source-1.0/backend.py", backend, 0o644);
    machine.write("/root/source-1.0/pyproject.toml", PROJECT, 0o644);
    machine.write("/root/source-1.0/PKG-INFO", METADATA, 0o644);
    machine.ok("tar -C /root -czf /root/hostile/source-1.0.tar.gz source-1.0");
    machine.ok(
        "echo \"source==1.0 --hash=sha256:$(sha256sum </root/hostile/source-1.0.tar.gz | cut -d' ' -f1)\" >/root/lock.txt",
    );
}

/// Nothing of a build is left: no unit, no process, no directory.
fn assert_clean(machine: &Machine) {
    assert_eq!(
        machine.ok("systemctl list-units --all --plain --no-legend 'venvd-build-*'"),
        ""
    );
    assert_eq!(
        machine.ok("find /sys/fs/cgroup -name 'venvd-build-*'"),
        "",
        "a build's group is left"
    );
    assert_eq!(machine.ok("find /var/lib/venvd/staging -mindepth 1 -type d"), "");
    // The range of systemd.exec(5) for users that it makes up, which builds in namespaces take from, too.
    assert_eq!(
        machine.ok("ps -eo uid,args --no-headers | awk '$1 >= 61184 && $1 <= 65519'"),
        ""
    );
    assert_eq!(
        machine.ok(&format!("ls {MARK} 2>/dev/null || true")),
        "",
        "somebody got root"
    );
}

fn assert_sealed(machine: &Machine, venv: &str) {
    let verified = machine.run(&["venvctl", "verify", venv]);
    assert!(verified.success(), "{verified}");
}

fn hostile(machine: &Machine) {
    source(machine, "survivor", "");
    for (tag, through, confined) in [
        ("unit", "", "transient units of systemd"),
        ("namespaces", ELSEWHERE, "namespaces"),
    ] {
        machine.ok(&format!("{through} venvctl build demo:{tag}"));
        assert_clean(machine);
        let venv = format!("/var/lib/venvd/venvs/demo/{tag}");
        let log = machine.ok(&format!("cat {venv}/.venvd/*log"));
        assert!(log.contains(&format!("steps are confined by {confined}")), "{log}");
        assert_sealed(machine, &format!("demo:{tag}"));
        let user = machine.ok(&format!("cat {venv}/lib/python3*/site-packages/source.py"));
        assert!(user.starts_with("USER = 6"), "{user}");
    }
}

fn links(machine: &Machine) {
    for leave in ["hard link", "setuid"] {
        source(machine, leave, "");
        let refused = machine.run(&["venvctl", "--json", "build", "demo:links"]);
        // systemd forbids setuid files (RestrictSUIDSGID=), so that already the backend fails.
        let codes = ["hostile-tree", "build-failed"];
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(codes.iter().any(|code| said.contains(code)), "{leave}: {refused}");
        assert_eq!(refused.status, 1, "{leave}: {refused}");
        assert_clean(machine);
    }
}

/// What is built has the same files, whatever confined it.
fn both_ways_alike(machine: &Machine) {
    let app = APP
        .replace("\"source\"", "\"oslo.rootwrap\"")
        .replace("sdists = [\"oslo.rootwrap\"]\n", "")
        .replace("/root/lock.txt", "/srv/locks/rootwrap-a.txt")
        .replace("/root/hostile", "/srv/wheels");
    machine.write("/etc/venvd/apps/same.toml", app, 0o644);
    let contents = |tag: &str, through: &str| {
        machine.ok(&format!("{through} venvctl build same:{tag}"));
        let venv = format!("/var/lib/venvd/venvs/same/{tag}");
        // What names the tag differs rightly.
        machine.ok(&format!(
            "cd {venv} && find . -path ./.venvd -prune -o -path ./bin -prune -o -name RECORD -prune -o -type f -print0 \
             | sort -z | xargs -0 sha256sum"
        ))
    };
    assert_eq!(contents("a", ""), contents("b", ELSEWHERE));
}

const SLEEP: &str = "def build_wheel(*arguments):\n    survive('/dev/shm/venvd/tmp/file')\n    time.sleep(3000)";

/// Starts a build that does not end, and waits until its backend runs.
fn start(machine: &Machine, through: &str) -> String {
    let make = "open('/dev/shm/venvd/tmp/file', 'w').close()";
    source(machine, "survivor", &format!("{make}\n{SLEEP}"));
    machine.ok(&format!(
        "rm -f /root/status; (setsid {through} sh -c 'echo $$ >/root/pid; exec venvctl --json build demo:never' \
         >/root/said 2>&1; echo $? >/root/status) </dev/null >/dev/null 2>&1 &"
    ));
    machine.wait_until(Duration::from_secs(60), "the build backend", |machine| {
        machine
            .run(&["sh", "-c", "ls /var/lib/venvd/staging/*/build.*/work/beat"])
            .success()
    });
    machine.ok("cat /root/pid")
}

fn interrupted(machine: &Machine) {
    for through in ["", ELSEWHERE] {
        for (signal, status) in [("INT", "130"), ("TERM", "143")] {
            let pid = start(machine, through);
            machine.ok(&format!("kill -{signal} {pid}"));
            machine.wait_until(Duration::from_secs(60), "the end of the build", |machine| {
                machine.run(&["test", "-s", "/root/status"]).success()
            });
            let said = machine.ok("cat /root/said");
            assert_eq!(machine.ok("cat /root/status"), status, "{said}");
            assert!(said.contains("\"interrupted\""), "{said}");
            assert_clean(machine);
        }
    }
}

fn killed(machine: &Machine) {
    for through in ["", ELSEWHERE] {
        let pid = start(machine, through);
        machine.ok(&format!("kill -KILL {pid}"));
        // Its programs end at once, and the next build tidies up.
        machine.wait_until(Duration::from_secs(60), "the end of its programs", |machine| {
            machine
                .ok("ps -eo uid --no-headers | awk '$1 >= 61184 && $1 <= 65519'")
                .is_empty()
        });
        source(machine, "link", "");
        let tag = if through.is_empty() {
            "after-unit"
        } else {
            "after-namespaces"
        };
        machine.ok(&format!("venvctl build demo:{tag}"));
        assert_clean(machine);
        assert_sealed(machine, &format!("demo:{tag}"));
    }
}

#[test]
fn a_build_is_confined_and_ends_cleanly_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn a_build_is_confined_and_ends_cleanly_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
