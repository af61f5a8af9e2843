//! The rights of the venv before last as long as processes of the app's units run it, at most `policy-grace`.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::demo::{Demo, ROOTWRAP, UNIT};
use venvd_tests::{Machine, Os};

const SOON: Duration = Duration::from_secs(20);

/// The tags whose programs sudo admits, in the order of the rules.
fn admitted(machine: &Machine) -> Vec<String> {
    let rules = machine.read("/etc/sudoers.d/venvd-demo");
    let tag = |line: &str| {
        let (_, rest) = line.split_once("NOPASSWD: NOSETENV: /var/lib/venvd/venvs/demo/")?;
        Some(rest.split_once('/')?.0.to_owned())
    };
    rules.lines().filter_map(tag).collect()
}

/// The exit status of a call that names the program of a venv.
fn call(machine: &Machine, tag: &str) -> i32 {
    let program = format!("/var/lib/venvd/venvs/demo/{tag}/bin/oslo-rootwrap");
    machine
        .user_run("demo", &["sudo", "-n", &program, ROOTWRAP, "id", "-u"])
        .status
}

fn activate(machine: &Machine, arguments: &str) {
    machine.ok(&format!("venvctl activate {arguments}"));
}

/// The process that the unit left behind when it was stopped last.
fn left_behind(machine: &Machine) -> String {
    let main = machine.main_pid(UNIT);
    let all = machine.ok(&format!("cat /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs"));
    let others: Vec<&str> = all.lines().filter(|pid| *pid != main.to_string()).collect();
    let oldest = others
        .into_iter()
        .min_by_key(|pid| pid.parse::<u32>().unwrap_or_default());
    oldest
        .unwrap_or_else(|| panic!("only {main} is there: {all}"))
        .to_owned()
}

fn rights_end(machine: &Machine, expected: &[&str]) {
    machine.wait_until(SOON, "the rights of the venv before end", |machine| {
        admitted(machine) == expected
    });
}

fn last_as_long_as_its_processes(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    let machine = &demo.machine;

    // Somebody who is the service user and keeps a file of the venv open is no process of a unit.
    machine.ok("runuser -u demo -- setsid sh -c 'exec sleep 1000000 <\"$1\"' sh \
                /var/lib/venvd/venvs/demo/a/bin/oslo-rootwrap >/dev/null 2>&1 & echo $! >/run/keeper");
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b"]);
    assert_eq!((call(machine, "a"), call(machine, "b")), (1, 0));
    machine.ok("kill $(cat /run/keeper); ! test -e /run/venvd/leaving/demo.json");

    // What a unit leaves behind keeps its rights, until it ends.
    machine.copy_in(
        concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/transition"),
        "/srv/transition",
    );
    machine.write(
        "/etc/systemd/system/demo.service.d/10-stays.conf",
        "[Service]\nKillMode=process\nExecStart=\nExecStart=/usr/bin/python3 /srv/transition/stays.py\n",
        0o644,
    );
    machine.ok(&format!("systemctl daemon-reload && systemctl restart {UNIT}"));
    activate(machine, "demo:a");
    let stays = left_behind(machine);
    assert_eq!(admitted(machine), ["a", "b"], "the one in force in front");
    assert_eq!((call(machine, "a"), call(machine, "b")), (0, 0));
    let path = machine.read("/etc/sudoers.d/venvd_path-demo") + &machine.read(ROOTWRAP);
    let front = "/var/lib/venvd/venvs/demo/a/bin";
    assert_eq!(
        path.matches(&format!("{front}:/var/lib/venvd/venvs/demo/b/bin"))
            .count(),
        1,
        "{path}"
    );
    assert_eq!(
        path.matches(&format!("{front},/var/lib/venvd/venvs/demo/b/bin"))
            .count(),
        1,
        "{path}"
    );
    let applied = machine.ok("venvctl policy apply demo");
    assert!(applied.starts_with("demo: unchanged"), "{applied}");

    // Also when venvd is not the same any more.
    machine.ok("systemctl kill -s KILL venvd.service");
    machine.wait_until(SOON, "venvd is back", |machine| {
        machine
            .run(&["systemctl", "is-active", "-q", "venvd.service"])
            .success()
    });
    assert_eq!(admitted(machine), ["a", "b"]);
    machine.ok(&format!("kill {stays}"));
    rights_end(machine, &["a"]);
    assert_eq!((call(machine, "a"), call(machine, "b")), (0, 1));

    // At most for policy-grace.
    machine.write("/etc/venvd/venvd.toml", "policy-grace = \"3s\"\n", 0o644);
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b", "a"]);
    let stays = left_behind(machine);
    rights_end(machine, &["b"]);
    machine.ok(&format!("test -e /proc/{stays} && kill {stays}"));
    let said = machine.ok("journalctl -o cat -u venvd.service");
    assert!(
        said.contains("the rights of demo:a end: their time (policy-grace) is over"),
        "{said}"
    );

    // Without any overlap, whoever stays behind.
    machine.write("/etc/venvd/venvd.toml", "", 0o644);
    activate(machine, "--revoke demo:a");
    let stays = left_behind(machine);
    assert_eq!(admitted(machine), ["a"]);
    assert_eq!((call(machine, "a"), call(machine, "b")), (0, 1));
    machine.ok(&format!("kill {stays}"));

    // Off is off.
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b", "a"]);
    machine.ok("venvctl disable demo");
    assert_eq!(
        machine.ok("ls /etc/sudoers.d /run/venvd/leaving | grep -e venvd -e demo || true"),
        ""
    );
    Ok(())
}

#[test]
fn rights_last_as_long_as_a_units_processes_on_debian_12() -> Result<()> {
    last_as_long_as_its_processes(Os::Debian12)
}

#[test]
fn rights_last_as_long_as_a_units_processes_on_debian_13() -> Result<()> {
    last_as_long_as_its_processes(Os::Debian13)
}
