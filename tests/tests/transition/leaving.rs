//! The rights of the venv before last as long as processes of the app's units run it, at most `policy-grace`.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::demo::{Demo, ROOTWRAP, UNIT};
use venvd_tests::{Machine, Os, locks};

const SOON: Duration = Duration::from_secs(20);

/// The tags whose programs sudo admits, in the order in which `secure_path` has them. That of the rules means nothing: they
/// name full paths.
fn admitted(machine: &Machine) -> Vec<String> {
    let rules = machine.read("/etc/sudoers.d/venvd-demo");
    let rules = rules.lines().filter(|line| line.ends_with(" *")).collect::<Vec<_>>();
    let tag = |line: &str| {
        let (_, rest) = line.split_once("NOPASSWD: NOSETENV: /var/lib/venvd/venvs/demo/")?;
        Some(rest.split_once('/')?.0.to_owned())
    };
    let mut tags: Vec<String> = rules.into_iter().filter_map(tag).collect();
    let path = machine.read("/etc/sudoers.d/venvd_path-demo");
    tags.sort_by_key(|tag| path.find(&format!("/demo/{tag}/bin")).unwrap_or(usize::MAX));
    tags
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
    // systemd's signal for the unit may come when it is told to start already, and end what starts.
    machine.ok(&format!("systemctl daemon-reload && systemctl kill -s KILL {UNIT}"));
    machine.wait_until(SOON, "all processes of the unit have ended", |machine| {
        let all = machine.run(&["cat", &format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs")]);
        all.stdout.trim().is_empty()
    });
    machine.ok(&format!("systemctl restart {UNIT}"));
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

/// privsep's daemons, which serve as long as their client lives, end with the client, and with the rights while it lives.
fn daemons_of_privsep_end_with_the_rights(machine: &Machine) {
    machine.ok("cp /srv/transition/demo_privileged.py /usr/lib/python3/dist-packages/");
    machine.write(
        "/etc/venvd/apps/demo.toml.d/60-privsep.toml",
        "[build]\nhost-modules = [\"demo_privileged\"]\n",
        0o644,
    );
    machine.ok(&format!(
        "venvctl build demo:p --lock /srv/locks/{}.txt",
        locks::PRIVSEP
    ));
    activate(machine, "demo:p");
    rights_end(machine, &["p"]);
    let daemons = || {
        let program = "demo/p/bin/privsep-helper";
        machine
            .run(&["pgrep", "-u", "root", "-f", program])
            .stdout
            .trim()
            .to_owned()
    };
    let is_served = || {
        machine.wait_until(SOON, "the daemon serves", |machine| {
            machine
                .run(&["cat", "/tmp/served"])
                .stdout
                .starts_with("0 /var/lib/venvd/venvs/demo/p")
        });
        machine.ok("rm /tmp/served");
    };

    run_script(machine, "privsep.py");
    is_served();
    let daemon = daemons();
    let client = left_behind(machine);
    activate(machine, "demo:a");
    assert_eq!(admitted(machine), ["a", "p"], "its client keeps them");
    is_served();
    assert_eq!(daemons(), daemon, "and it goes on serving");
    machine.ok(&format!("kill {client}"));
    rights_end(machine, &["a"]);
    machine.wait_until(SOON, "the daemon ends", |_| daemons().is_empty());

    machine.ok("rm -f /tmp/served");
    activate(machine, "demo:p");
    is_served();
    machine.write("/etc/venvd/venvd.toml", "policy-grace = \"5s\"\n", 0o644);
    let client = left_behind(machine);
    activate(machine, "demo:a");
    is_served();
    rights_end(machine, &["a"]);
    // Not only that its daemon is gone: a client starts another one with its next call.
    machine.wait_until(SOON, "the client is refused", |machine| {
        let served = machine.run(&["cat", "/tmp/served"]).stdout;
        served.starts_with("refused: FailedToDropPrivileges")
    });
    assert_eq!(daemons(), "", "no daemon serves on, and none was started anew");
    machine.ok(&format!("kill {client}"));
    machine.write("/etc/venvd/venvd.toml", "", 0o644);
    activate(machine, "demo:b");
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
    daemons_of_privsep_end_with_the_rights(machine);
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
