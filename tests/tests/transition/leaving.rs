//! The rights of the venv before last as long as processes of the app's units run it, at most `policy-grace`.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::demo::{Demo, ROOTWRAP, UNIT};
use venvd_tests::{Machine, Os};

const SOON: Duration = Duration::from_secs(20);

/// The tags of the app's venvs that a text names, in its order.
fn named<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = String> + 'a {
    let rest = text.split(before).skip(1);
    rest.filter_map(|rest| Some(rest.split_once('/')?.0.to_owned()))
}

/// The tags whose programs sudo admits, in the order of `secure_path`.
fn admitted(machine: &Machine) -> Vec<String> {
    let rules = machine.read("/etc/sudoers.d/venvd-demo");
    let open: String = rules.lines().filter(|line| line.ends_with(" *")).collect();
    let mut ruled: Vec<String> = named(&open, "NOSETENV: /var/lib/venvd/venvs/demo/").collect();
    let path = machine.read("/etc/sudoers.d/venvd_path-demo");
    let in_path: Vec<String> = named(&path, "/var/lib/venvd/venvs/demo/").collect();
    let mut sorted = in_path.clone();
    sorted.sort();
    ruled.sort();
    assert_eq!(ruled, sorted, "rules and secure_path");
    in_path
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

/// Lets the unit run a script of the scenario, and leave behind what that started; what was left before ends.
fn run_script(machine: &Machine, script: &str) {
    let text =
        format!("[Service]\nKillMode=process\nExecStart=\nExecStart=/usr/bin/python3 /srv/transition/{script}\n");
    machine.write("/etc/systemd/system/demo.service.d/10-script.conf", text, 0o644);
    machine.ok(&format!(
        "systemctl daemon-reload && systemctl kill -s KILL {UNIT}; systemctl restart {UNIT}"
    ));
}

/// Somebody who is the service user and keeps a file of the venv open is no process of a unit.
fn keeping_a_file_open_keeps_nothing(machine: &Machine) {
    machine.ok("runuser -u demo -- setsid sh -c 'exec sleep 1000000 <\"$1\"' sh \
                /var/lib/venvd/venvs/demo/a/bin/oslo-rootwrap >/dev/null 2>&1 & echo $! >/run/keeper");
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b"]);
    assert_eq!((call(machine, "a"), call(machine, "b")), (1, 0));
    machine.ok("kill $(cat /run/keeper); ! test -e /run/venvd/leaving/demo.json");
}

/// What a unit leaves behind keeps its rights, until it ends; also when venvd is not the same any more.
fn what_a_unit_leaves_behind_keeps_its_rights(machine: &Machine) {
    run_script(machine, "stays.py");
    activate(machine, "demo:a");
    let stays = left_behind(machine);
    assert_eq!(admitted(machine), ["a", "b"], "the one in force in front");
    assert_eq!((call(machine, "a"), call(machine, "b")), (0, 0));
    let path = machine.read("/etc/sudoers.d/venvd_path-demo") + &machine.read(ROOTWRAP);
    let (front, behind) = ("/var/lib/venvd/venvs/demo/a/bin", "/var/lib/venvd/venvs/demo/b/bin");
    for both in [format!("{front}:{behind}"), format!("{front},{behind}")] {
        assert_eq!(path.matches(&both).count(), 1, "{path}");
    }
    let applied = machine.ok("venvctl policy apply demo");
    assert!(applied.starts_with("demo: unchanged"), "{applied}");
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
}

fn at_most_for_policy_grace(machine: &Machine) {
    machine.write("/etc/venvd/venvd.toml", "policy-grace = \"3s\"\n", 0o644);
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b", "a"]);
    let stays = left_behind(machine);
    rights_end(machine, &["b"]);
    machine.ok(&format!("test -e /proc/{stays} && kill {stays}"));
    machine.wait_until(SOON, "venvd says why", |machine| {
        let said = machine.ok("journalctl -o cat -u venvd.service");
        said.contains("the rights of demo:a end: their time (policy-grace) is over")
    });
    machine.write("/etc/venvd/venvd.toml", "", 0o644);
}

/// Without any overlap, whoever stays behind.
fn revoked_at_once(machine: &Machine) {
    activate(machine, "--revoke demo:a");
    let stays = left_behind(machine);
    assert_eq!(admitted(machine), ["a"]);
    assert_eq!((call(machine, "a"), call(machine, "b")), (0, 1));
    machine.ok(&format!("kill {stays}"));
}

/// Root's daemon of a venv, which nobody of it needs any more, ends with its rights.
fn daemons_of_root_end_with_the_rights(machine: &Machine) {
    run_script(machine, "daemon.py");
    let daemons = |tag: &str| {
        let program = format!("demo/{tag}/bin/oslo-rootwrap-daemon");
        machine
            .run(&["pgrep", "-c", "-u", "root", "-f", &program])
            .stdout
            .trim()
            .to_owned()
    };
    machine.wait_until(SOON, "the daemon serves", |_| daemons("a") == "1");
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b"], "daemons alone keep nothing");
    machine.wait_until(SOON, "the daemon ends", |_| daemons("a") == "0");
}

/// Units that run on until somebody restarts them stay in front, and keep their rights for as long.
fn at_the_next_restart(machine: &Machine) {
    run_script(machine, "stays.py");
    let runs = machine.main_pid(UNIT);
    activate(machine, "--at-next-restart demo:a");
    assert_eq!(
        (machine.main_pid(UNIT), admitted(machine)),
        (runs, vec!["b".to_owned(), "a".to_owned()])
    );
    let stays = machine.ok(&format!(
        "cat /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs | tr '\\n' ' '"
    ));
    machine.ok(&format!("systemctl restart {UNIT}; kill {stays} 2>/dev/null || true"));
    rights_end(machine, &["a"]);
}

fn off_is_off(machine: &Machine) {
    activate(machine, "demo:b");
    assert_eq!(admitted(machine), ["b", "a"]);
    machine.ok("venvctl disable demo");
    let left = machine.ok("ls -d /etc/sudoers.d/venvd* /run/venvd/leaving/* 2>/dev/null || true");
    assert_eq!(left, "");
}

fn last_as_long_as_its_processes(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    let machine = &demo.machine;
    machine.copy_in(
        concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/transition"),
        "/srv/transition",
    );
    machine.write(
        "/etc/venvd/apps/demo.toml.d/50-daemon.toml",
        "[sudo]\ncommands = [\"oslo-rootwrap /etc/demo/rootwrap.conf *\", \"oslo-rootwrap-daemon /etc/demo/rootwrap.conf\"]\n",
        0o644,
    );
    keeping_a_file_open_keeps_nothing(machine);
    what_a_unit_leaves_behind_keeps_its_rights(machine);
    at_most_for_policy_grace(machine);
    revoked_at_once(machine);
    daemons_of_root_end_with_the_rights(machine);
    at_the_next_restart(machine);
    off_is_off(machine);
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
