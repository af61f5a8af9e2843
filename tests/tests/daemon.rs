//! The daemon as systemd and an operator see it: what it may do, what it costs, what it writes into the journal, and
//! what it does when it hangs or when the machine goes down.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::demo::{Demo, UNIT};
use venvd_tests::{Machine, Os};

/// As long as what is not waited for may take on a busy host.
const SOON: Duration = Duration::from_secs(60);

const OURS: [&str; 4] = [
    "venvd.service",
    "venvd-recover.service",
    "venvd-policy-boot.service",
    "venvd.path",
];

/// The `MESSAGE_ID`s of docs/daemon.md.
const DONE: &str = "MESSAGE_ID=1a3a6c88024d467493a538c3eadbd659";
const ROLLED_BACK: &str = "MESSAGE_ID=60c19f90952e4b239c95a9ed1b2d213f";
const OF_A_UNIT: &str = "MESSAGE_ID=92f9e14c2a07427ab7c93bb71fb2b0c1";
const LET_GO: &str = "MESSAGE_ID=95697992319940aea01410207524c72a";

/// A start that fails, or never ends, in the second venv.
const FAILS: &str = "[Service]\nExecStartPre=/bin/sh -c '[ \"$$VENVD_TAG\" != b ]'\n";
const HANGS: &str =
    "[Service]\nTimeoutStartSec=infinity\nExecStartPre=/bin/sh -c '[ \"$$VENVD_TAG\" != b ] || sleep 1000'\n";

/// Makes a drop-in of a unit, or takes it away.
fn drop_in(machine: &Machine, unit: &str, text: Option<&str>) {
    let path = format!("/etc/systemd/system/{unit}.d/50-test.conf");
    match text {
        Some(text) => machine.write(&path, text, 0o644),
        None => drop(machine.ok(&format!("rm {path}"))),
    }
    machine.ok("systemctl daemon-reload");
}

fn settle(machine: &Machine, window: &str) {
    machine.write(
        "/etc/venvd/apps/demo.toml.d/50-settle.toml",
        format!("health.settle = \"{window}\"\n"),
        0o644,
    );
}

fn is_confined(machine: &Machine) {
    for unit in &OURS[..3] {
        let said = machine.run(&["systemd-analyze", "security", "--no-pager", unit]).stdout;
        let score = said.split_once("Overall exposure level for ").and_then(|(_, rest)| {
            let (_, score) = rest.split_once(": ")?;
            score.split(' ').next()?.parse::<f64>().ok()
        });
        let score = score.unwrap_or_else(|| panic!("no score: {said}"));
        assert!(score <= 2.5, "{unit}: {said}");
    }
    let verified = machine.run(&[&["systemd-analyze", "verify", "--man=no"], &OURS[..]].concat());
    let ours = |line: &&str| line.contains("venvd");
    assert_eq!(verified.stderr.lines().filter(ours).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(machine.wait_running(), Vec::<String>::new());

    // As the kernel has it: chown, dac_read_search, setgid, setuid, sys_ptrace, audit_write.
    let capabilities: u64 = [0, 2, 6, 7, 19, 29].iter().map(|bit| 1 << bit).sum();
    let status = machine.read(&format!("/proc/{}/status", machine.main_pid("venvd.service")));
    for expected in [
        format!("CapPrm:\t{capabilities:016x}"),
        format!("CapBnd:\t{capabilities:016x}"),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ] {
        assert!(status.contains(&expected), "{expected} is not in: {status}");
    }
}

/// Returns how often the threads of a process have gone to sleep.
fn sleeps(machine: &Machine, pid: u32) -> u64 {
    let said = machine.ok(&format!("cat /proc/{pid}/task/*/status"));
    let counts = said
        .lines()
        .filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// Returns how often a process wakes up within this time. The sleep does not wait for something to happen: it is what is
/// measured.
fn wakeups(machine: &Machine, pid: u32, window: Duration) -> u64 {
    let before = sleeps(machine, pid);
    thread::sleep(window);
    // A thread that has ended meanwhile takes its number with it.
    sleeps(machine, pid).abs_diff(before)
}

fn costs_little(machine: &Machine) {
    const WINDOW: Duration = Duration::from_secs(30);
    let pid = machine.main_pid("venvd.service");
    // Threads that helped with the last activation wait some seconds for more, then end.
    machine.wait_until(SOON, "venvd is idle", |machine| {
        wakeups(machine, pid, Duration::from_secs(12)) <= 1
    });
    let woken = wakeups(machine, pid, WINDOW);
    let status = machine.read(&format!("/proc/{pid}/status"));
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    eprintln!("idle: resident {resident:?} KiB, woken {woken} times in {WINDOW:?}");
    assert!(resident.is_some_and(|resident| resident < 8 * 1024), "{status}");
    // The watchdog is told once a minute, for which tokio's clock wakes up on three of its wheels.
    assert!(woken <= 3, "woken {woken} times in {WINDOW:?}");
}

fn hangs_and_is_started_anew(demo: &Demo) {
    let machine = &demo.machine;
    drop_in(machine, "venvd.service", Some("[Service]\nWatchdogSec=3s\n"));
    machine.ok("systemctl restart venvd.service");
    // What takes long is waited for, and the loop turns meanwhile.
    settle(machine, "7s");
    machine.ok("venvctl activate demo:b");
    assert_eq!(machine.unit_property("venvd.service", "NRestarts"), "0");
    machine.ok("kill -STOP $(systemctl show -P MainPID venvd.service)");
    machine.wait_until(SOON, "systemd has started venvd anew", |machine| {
        machine.unit_property("venvd.service", "NRestarts") == "1"
            && machine.unit_property("venvd.service", "ActiveState") == "active"
    });
    drop_in(machine, "venvd.service", None);
    machine.ok("systemctl restart venvd.service");
    settle(machine, "1s");
    machine.ok("venvctl activate demo:a");
    demo.assert_on("a");
}

/// Returns the newest record that matches, when there is one: journald writes them in its own time.
fn record(machine: &Machine, matches: &[&str]) -> Value {
    let mut said = String::new();
    machine.wait_until(SOON, &format!("the journal has {matches:?}"), |machine| {
        said = machine.journalctl(&[&["-o", "json", "--lines", "1"], matches].concat());
        !said.is_empty()
    });
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("no JSON ({error}): {said}"))
}

/// Activates a venv; returns the exit status, and a match for its records.
fn activate(machine: &Machine, venv: &str) -> (i32, String) {
    let output = machine.run(&["venvctl", "activate", "--json", venv]);
    let report: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output}"));
    (output.status, format!("VENVD_JOB={}", report["id"]))
}

fn writes_records(demo: &Demo) {
    let machine = &demo.machine;
    let (status, job) = activate(machine, "demo:b");
    assert_eq!(status, 0);
    let pid = machine.main_pid(UNIT).to_string();
    let done = record(machine, &[DONE, &job]);
    for (field, expected) in [
        ("VENVD_APP", "demo"),
        ("VENVD_TAG", "b"),
        ("VENVD_PREVIOUS", "a"),
        ("VENVD_RESULT", "done"),
        ("VENVD_CAUSE", "dbus"),
        ("VENVD_CALLER_UID", "0"),
        ("_SYSTEMD_UNIT", "venvd.service"),
        ("MESSAGE", "demo:b is in force (before: demo:a)"),
    ] {
        assert_eq!(done[field], expected, "{field} of {done:#}");
    }
    let mut fields = done.as_object().into_iter().flatten().map(|(field, _)| field);
    assert!(fields.all(|field| !field.starts_with("F_")), "{done:#}");
    let explained = machine.journalctl(&["-x", DONE, &job]);
    for said in ["Subject: A change of demo is done", "venvctl rollback demo"] {
        assert!(explained.contains(said), "{explained}");
    }
    let unit = record(machine, &["-u", UNIT, OF_A_UNIT, &job]);
    assert_eq!(unit["OBJECT_PID"], pid);
    assert_eq!(
        unit["MESSAGE"],
        "demo.service (done): demo:b is in force (before: demo:a)"
    );

    let history = machine.ok("venvctl log demo -n 2");
    let last = history.lines().last().unwrap_or_default();
    assert!(
        last.contains("demo  a → b ") && last.contains(" dbus (root) ") && last.ends_with(" s   done"),
        "{history}"
    );

    // One that runs no process is found, too.
    machine.ok("venvctl activate demo:a");
    drop_in(machine, UNIT, Some(FAILS));
    machine.write(
        "/etc/venvd/apps/demo.toml.d/60-stays.toml",
        "health.rollback = false\n",
        0o644,
    );
    let (status, job) = activate(machine, "demo:b");
    assert_eq!(status, 4);
    let unit = record(machine, &["-u", UNIT, OF_A_UNIT, &job]);
    assert_eq!(
        (&unit["VENVD_RESULT"], unit.get("OBJECT_PID")),
        (&Value::from("failed"), None)
    );
    let explained = machine.journalctl(&["-x", "-u", UNIT, OF_A_UNIT, &job]);
    assert!(explained.contains("It ended as: failed."), "{explained}");
    let history: Value = serde_json::from_str(&machine.ok("venvctl log demo --json -n 1")).unwrap_or_default();
    let last = &history["jobs"][0];
    assert_eq!(
        (&last["result"], &last["code"]),
        (&Value::from("failed"), &Value::from("job-failed"))
    );
    machine.ok("rm /etc/venvd/apps/demo.toml.d/60-stays.toml");
    drop_in(machine, UNIT, None);
    machine.ok("venvctl activate demo:a && rm -r /var/lib/venvd/known-bad");
    demo.assert_on("a");
}

fn is_stopped_and_goes_on(demo: &Demo) {
    let machine = &demo.machine;
    settle(machine, "3s");
    machine.ok("ln -sfn /var/lib/venvd/venvs/demo/b /etc/venvd/active/demo");
    machine.wait_until(SOON, "the new venv is committed", |machine| {
        machine.ok("readlink /etc/venvd/committed/demo").ends_with("/b")
    });
    machine.ok("systemctl stop venvd.service");
    assert_eq!(machine.unit_property("venvd.service", "Result"), "success");
    let left = record(machine, &["-b", LET_GO]);
    let text = left["MESSAGE"].as_str().unwrap_or_default();
    assert!(
        text.ends_with("since venvd is stopped; the next venvd goes on with it"),
        "{text}"
    );
    machine.ok("systemctl start venvd.service");
    let job = format!("VENVD_JOB={}", left["VENVD_JOB"].as_str().unwrap_or_default());
    assert_eq!(record(machine, &["-b", DONE, &job])["VENVD_TAG"], "b");
    demo.assert_on("b");
    settle(machine, "1s");
    machine.ok("venvctl activate demo:a");
}

/// How the machine goes down: logind asks venvd first, PID 1 doesn't.
const WAYS_DOWN: [&[&str]; 2] = [&["systemctl", "reboot"], &["kill", "-s", "RTMIN+5", "1"]];

fn lets_go_when_the_machine_goes_down(demo: &mut Demo) -> Result<()> {
    settle(&demo.machine, "60s");
    // The unit has stopped long before venvd is: nobody may take that for a failure.
    drop_in(&demo.machine, "venvd.service", Some("[Unit]\nBefore=demo.service\n"));
    for (way, start) in [
        (WAYS_DOWN[0], ""),
        (WAYS_DOWN[1], ""),
        (WAYS_DOWN[0], HANGS),
        (WAYS_DOWN[1], HANGS),
    ] {
        let text = format!("{start}\n[Service]\nExecStop=/bin/sleep 1\n");
        drop_in(&demo.machine, UNIT, Some(&text));
        demo.machine
            .ok("ln -sfn /var/lib/venvd/venvs/demo/b /etc/venvd/active/demo");
        demo.machine.wait_until(SOON, "the new venv runs, unjudged", |machine| {
            let processes = ["sh", "-c", "grep -lzxF VENVD_TAG=b /proc/[0-9]*/environ"];
            let committed = machine.ok("readlink /etc/venvd/committed/demo");
            committed.ends_with("/b") && !machine.run(&processes).stdout.is_empty()
        });
        let delayed = demo
            .machine
            .ok("systemd-inhibit --list --mode=delay --no-legend --no-pager");
        assert!(delayed.contains("venvd") && delayed.contains("shutdown"), "{delayed}");
        demo.machine.reboot_by(way)?;

        demo.assert_on("a");
        let machine = &demo.machine;
        for link in ["active", "committed"] {
            let target = machine.ok(&format!("readlink /etc/venvd/{link}/demo"));
            assert_eq!(target, "/var/lib/venvd/venvs/demo/a", "{link}");
        }
        assert!(
            !machine
                .run(&["test", "-e", "/var/lib/venvd/known-bad/demo/b"])
                .success()
        );
        assert_eq!(machine.ok("ls /etc/venvd/pending"), "");
        let before = record(machine, &["-b", "-1", LET_GO]);
        assert_eq!(before["VENVD_TAG"], "b");
        let decided = record(machine, &["-b", ROLLED_BACK]);
        for field in ["VENVD_JOB", "VENVD_TAG", "VENVD_PREVIOUS"] {
            assert_eq!(decided[field], before[field], "{field}");
        }
        // By number: journald can't ask for the unit of a process that has ended by the time it reads.
        assert_eq!(
            decided["_PID"],
            machine.unit_property("venvd-recover.service", "ExecMainPID")
        );
        // venvd itself has judged nothing.
        let failed = machine.journalctl(&["-o", "cat", "-u", "venvd.service", ROLLED_BACK]);
        assert_eq!(failed, "");
    }
    Ok(())
}

fn all(os: Os) -> Result<()> {
    let mut demo = Demo::new(os)?;
    is_confined(&demo.machine);
    writes_records(&demo);
    hangs_and_is_started_anew(&demo);
    is_stopped_and_goes_on(&demo);
    costs_little(&demo.machine);
    lets_go_when_the_machine_goes_down(&mut demo)
}

#[test]
fn the_daemon_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn the_daemon_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
