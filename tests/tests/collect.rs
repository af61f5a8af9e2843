//! Which venvs are collected on a host that serves, and which are not: also not the one from which a process runs that
//! its unit left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

const DEFINITION: &str = r#"
user = "tool"
enabled = true
[build]
packages = ["oslo.rootwrap"]
[build.index]
find-links = ["/srv/wheels"]
no-index = true
[units."tool.service"]
whole = true
exec = "/bin/sh /home/tool/tool.sh {venv}"
Service = { Type = "exec", KillMode = "process" }
[health]
settle = "1s"
"#;

/// A service that leaves a worker, and something that hides what it is, behind when it is stopped: once.
const SERVICE: &str = r#"
if rm /home/tool/spawn 2>/dev/null; then
    "$1/bin/python" -c 'import time; time.sleep(100000)' &
    echo $! > /home/tool/worker.pid
    env -i /usr/bin/python3 -c 'import time; time.sleep(100000)' &
    echo $! > /home/tool/hidden.pid
fi
exec "$1/bin/python" -c 'import time; time.sleep(100000)'
"#;

const UNIT: &str = "tool.service";

/// What nobody needs, what a process runs from, what is held, previous, in force, and the newest.
const TAGS: [&str; 6] = ["idle", "outlived", "held", "before", "now", "new"];

fn site(os: Os) -> Result<Machine> {
    let machine = supplied(os)?.boot()?;
    machine.ok("useradd --system --user-group --create-home tool && dpkg -i /srv/venvd.deb");
    machine.write("/etc/venvd/apps/tool.toml", DEFINITION, 0o644);
    machine.write("/home/tool/tool.sh", SERVICE, 0o644);
    for tag in TAGS {
        // Which one is the newest is told by the second.
        machine.ok("sleep 1");
        machine.ok(&format!("venvctl build tool:{tag} --lock /srv/locks/rootwrap-a.txt"));
    }
    machine.ok("chmod 755 /home/tool; touch /home/tool/spawn && venvctl activate tool:outlived && systemctl start tool.service");
    for tag in ["before", "now"] {
        machine.ok(&format!("venvctl activate tool:{tag}"));
    }
    machine.ok("venvctl hold tool:held --reason 'the auditors want it'");
    Ok(machine)
}

/// Runs `venvctl --json`, and returns its exit status and answer.
fn venvctl(machine: &Machine, arguments: &str) -> (i32, Value) {
    let output = machine.run(&["sh", "-c", &format!("venvctl --json {arguments}")]);
    println!("venvctl {arguments}: {output}");
    (output.status, serde_json::from_str(&output.stdout).unwrap_or_default())
}

/// Returns for each tag what becomes of it, and the codes of the reasons.
fn results(answer: &Value) -> BTreeMap<String, String> {
    let rows = answer["venvs"].as_array().cloned().unwrap_or_default();
    let rows = rows.iter().map(|row| {
        let name = row["venv"].as_str().unwrap_or_default().replace("tool:", "");
        let reasons = row["reasons"].as_array().cloned().unwrap_or_default();
        let said = std::iter::once(&row["result"]).chain(reasons.iter().map(|reason| &reason["code"]));
        let said: Vec<&str> = said.filter_map(Value::as_str).collect();
        (name, said.join(" "))
    });
    rows.collect()
}

fn assert_results(answer: &Value, expected: &[(&str, &str)]) {
    let expected = expected
        .iter()
        .map(|(tag, said)| ((*tag).to_owned(), (*said).to_owned()));
    assert_eq!(results(answer), expected.collect(), "{answer:#}");
}

/// Returns the text in which somebody is told why a venv stays.
fn why(answer: &Value, tag: &str) -> String {
    let rows = answer["venvs"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["venv"] == format!("tool:{tag}"));
    row.map(|row| row["reasons"].to_string()).unwrap_or_default()
}

fn kill(machine: &Machine, name: &str) {
    machine.ok(&format!("kill -9 $(cat /home/tool/{name}.pid)"));
    let gone = format!("test ! -e /proc/$(cat /home/tool/{name}.pid)");
    machine.wait_until(Duration::from_secs(10), name, |machine| {
        machine.run(&["sh", "-c", &gone]).success()
    });
}

const KEPT: [(&str, &str); 4] = [
    ("before", "stays previous"),
    ("held", "stays held"),
    ("new", "stays newest"),
    ("now", "stays in-force asked-for used"),
];

fn collects(os: Os) -> Result<()> {
    let machine = site(os)?;
    let invocation = machine.unit_property(UNIT, "InvocationID");
    let everything = "find /var/lib/venvd /etc/venvd /run/venvd -printf '%p %i %m %s %T@\\n' | sort";
    let before = machine.ok(everything);

    // Who hides what it runs from could run from any: nothing goes.
    let (status, answer) = venvctl(&machine, "gc --keep 1 --dry-run");
    assert_eq!(status, 0);
    assert!(
        results(&answer)
            .values()
            .all(|said| said.starts_with("stays") && said.ends_with("used")),
        "{answer:#}"
    );
    let hidden = machine.ok("cat /home/tool/hidden.pid");
    let told = format!("({hidden}) of {UNIT} [it runs Python and hides");
    assert!(why(&answer, "idle").contains(&told), "{}", why(&answer, "idle"));
    kill(&machine, "hidden");

    // The worker that outlived its unit keeps its venv alone, and is named.
    let (_, answer) = venvctl(&machine, "gc --keep 1 --dry-run");
    let expected = [&KEPT[..], &[("idle", "would-go"), ("outlived", "stays used")]].concat();
    assert_results(&answer, &expected);
    let worker = machine.ok("cat /home/tool/worker.pid");
    let told = format!("python ({worker}) of {UNIT}");
    assert!(why(&answer, "outlived").contains(&told), "{}", why(&answer, "outlived"));
    assert!(
        why(&answer, "held").contains("held by root: the auditors want it"),
        "{}",
        why(&answer, "held")
    );
    assert_eq!(machine.ok(everything), before, "a dry run changes nothing");

    refusals(&machine);
    let leftover = dead_build(&machine);
    let (status, answer) = venvctl(&machine, "gc --keep 1");
    assert_eq!(status, 0);
    let expected = [&KEPT[..], &[("idle", "removed"), ("outlived", "stays used")]].concat();
    assert_results(&answer, &expected);
    assert_eq!(answer["leftovers"], serde_json::json!([leftover]));
    assert!(answer["frees"].as_u64() > Some(0));
    let dead = machine.ok("find /var/lib/venvd/staging -mindepth 1 -maxdepth 1 -type d");
    assert_eq!(dead, "", "something is left in staging");

    kill(&machine, "worker");
    let (_, answer) = venvctl(&machine, "gc --keep 1");
    assert_results(&answer, &[&KEPT[..], &[("outlived", "removed")]].concat());
    machine.ok("venvctl unhold tool:held");
    let (_, answer) = venvctl(&machine, "gc --keep 1");
    assert_eq!(results(&answer)["held"], "removed");
    assert_eq!(machine.ok("ls /var/lib/venvd/venvs/tool"), "before\nnew\nnow");
    assert_eq!(machine.ok("ls /etc/venvd/locks/tool | wc -l"), "6", "the locks stay");
    assert_eq!(machine.unit_property(UNIT, "InvocationID"), invocation);
    machine.ok("venvctl rollback tool");
    Ok(())
}

/// Who may not look may not collect; what is held is not removed by hand either; what is not there can't be held.
fn refusals(machine: &Machine) {
    for (arguments, code) in [
        ("hold tool:absent", "no-such-venv"),
        ("remove tool:held", "held"),
        ("remove tool:outlived", "in-use"),
    ] {
        let (status, answer) = venvctl(machine, arguments);
        assert_eq!((status, answer["code"].as_str()), (1, Some(code)), "{answer}");
    }
    for arguments in ["gc", "gc --dry-run"] {
        let mut command = vec!["venvctl", "--json"];
        command.extend(arguments.split(' '));
        let output = machine.user_run("tool", &command);
        assert!(output.status == 1 && output.stdout.contains("\"not-root\""), "{output}");
    }
    let listed = machine.ok("venvctl list tool");
    println!("{listed}");
    let state = |tag: &str| {
        let name = format!("tool:{tag} ");
        listed
            .lines()
            .find(|line| line.starts_with(&name))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        state("held").ends_with("held") && state("outlived").ends_with("used"),
        "{listed}"
    );
    assert!(
        state("now").ends_with("in force, used") && listed.contains("together"),
        "{listed}"
    );
}

/// Kills a build in the middle, and returns the directory that it leaves.
fn dead_build(machine: &Machine) -> String {
    machine.ok(
        "venvctl build tool:dead --lock /srv/locks/rootwrap-b.txt >/dev/null 2>&1 & \
         until ls -d /var/lib/venvd/staging/tool.*/ >/dev/null 2>&1; do sleep 0.02; done; kill -9 $!",
    );
    let mut left = String::new();
    // What it had started ends with it, but not before it.
    machine.wait_until(Duration::from_secs(20), "the build is dead", |machine| {
        let (_, answer) = venvctl(machine, "gc --keep 1 --dry-run");
        left = answer["leftovers"][0].as_str().unwrap_or_default().to_owned();
        !left.is_empty()
    });
    left
}

#[test]
fn only_what_nothing_needs_is_collected_on_debian_12() -> Result<()> {
    collects(Os::Debian12)
}

#[test]
fn only_what_nothing_needs_is_collected_on_debian_13() -> Result<()> {
    collects(Os::Debian13)
}
