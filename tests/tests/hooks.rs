//! Hooks and health commands: where they run and as whom, what a failure leads to, and what there is no way back from.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::demo::{Demo, UNIT};
use venvd_tests::{Machine, Os};

/// As long as what is not waited for may take on a busy host.
const SOON: Duration = Duration::from_secs(60);

struct Hooks(Demo);

impl Hooks {
    fn new(os: Os) -> Result<Self> {
        let demo = Demo::new(os)?;
        let machine = &demo.machine;
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/hooks"), "/srv/hooks");
        machine.write("/etc/default/demo", "DEMO_SECRET=42\n", 0o600);
        machine.write(
            "/etc/systemd/system/demo.service.d/10-environment.conf",
            "[Service]\nEnvironmentFile=/etc/default/demo\n",
            0o644,
        );
        machine.ok("install -d -o demo /run/hooks && systemctl daemon-reload && systemctl restart demo.service");
        Ok(Self(demo))
    }

    fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Gives the app these hooks; `probe` stands for the script that writes down what it finds. With other hooks a venv
    /// that failed gets another chance.
    fn define(&self, text: &str) {
        self.machine().ok("rm -rf /var/lib/venvd/known-bad");
        let text = text.replace("probe", "python3 /srv/hooks/probe.py");
        self.machine()
            .write("/etc/venvd/apps/demo.toml.d/50-hooks.toml", text, 0o644);
    }

    /// Does something with venvctl; returns its exit status and the report.
    #[track_caller]
    fn venvctl(&self, verb: &str, what: &str) -> (i32, Value) {
        let output = self.machine().run(&["venvctl", verb, "--json", what]);
        let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output}"));
        (output.status, report)
    }

    /// Returns what the hooks found since this was asked last.
    fn found(&self) -> Vec<Value> {
        let log = self.machine().ok("cat /run/hooks/log; rm /run/hooks/log");
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {log}"));
        log.lines().map(line).collect()
    }

    /// Flips the link, and kills venvd when the probe of this name runs.
    fn kill_venvd_in(&self, probe: &str, tag: &str) {
        self.machine().ok(&format!(
            "ln -sfn /var/lib/venvd/venvs/demo/{tag} /etc/venvd/active/demo"
        ));
        self.machine().wait_until(SOON, "the hook runs", |machine| {
            machine.run(&["grep", "-q", probe, "/run/hooks/log"]).success()
        });
        self.machine().ok("systemctl kill -s KILL venvd.service");
        self.machine().wait_until(SOON, "no activation is open", |machine| {
            let open = "grep -lE '\"ended\": *null' /var/lib/venvd/transactions/[1-9]*.json";
            machine.run(&["sh", "-c", open]).stdout.is_empty()
        });
    }

    /// Panics if a command of an activation is still there.
    #[track_caller]
    fn assert_none_left(&self, found: &[Value]) {
        let units = self
            .machine()
            .ok("systemctl list-units --all --plain --no-legend 'venvd-hook-*' 'venvd-txn-*'");
        assert_eq!(units, "");
        for probe in found {
            let process = format!("/proc/{}", probe["pid"]);
            assert!(!self.machine().run(&["test", "-e", &process]).success(), "{probe}");
        }
    }
}

/// Returns one key of each.
fn each<'a>(found: &'a [Value], key: &str) -> Vec<&'a str> {
    found
        .iter()
        .map(|probe| probe[key].as_str().unwrap_or_default())
        .collect()
}

fn before_the_stop_nothing_is_touched(hooks: &Hooks) {
    let before = hooks.machine().unit_property(UNIT, "InvocationID");
    hooks.define("[[hooks.before-stop]]\nrun = \"probe first fail 'a  b' $HOME %n\"\n");
    let (status, report) = hooks.venvctl("activate", "demo:b");
    assert_eq!((status, &report["code"]), (3, &"hook-failed".into()), "{report:#}");
    assert_eq!(hooks.machine().unit_property(UNIT, "InvocationID"), before);
    let check = &report["checks"][0];
    assert_eq!(check["stage"], "before-stop");
    assert_eq!(check["result"], "exit-code, status 3");
    assert_eq!(
        check["output"],
        serde_json::json!(["first was here", "first does not like it"])
    );
    let message = report["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("(exit-code, status 3): first does not like it; `journalctl VENVD_JOB="),
        "{message}"
    );

    let found = hooks.found();
    let venv = "/var/lib/venvd/venvs/demo/b";
    assert_eq!(found.len(), 1);
    for (key, expected) in [
        ("unit", "active"),
        ("user", "demo"),
        ("prefix", venv),
        ("directory", "/"),
        ("path", "/var/lib/venvd/venvs/demo/b/bin"),
        ("venv", venv),
        ("tag", "b"),
        ("secret", "42"),
    ] {
        assert_eq!(found[0][key], expected, "{key}");
    }
    assert_eq!(
        found[0]["arguments"],
        serde_json::json!(["fail", "a  b", "$HOME", "%n"])
    );
    let job = format!("VENVD_JOB={}", report["id"]);
    let said = hooks
        .machine()
        .journalctl(&["-o", "cat", &job, "VENVD_HOOK=before-stop", "VENVD_TAG=b"]);
    assert!(said.contains("first was here\nfirst does not like it\n"), "{said}");
    hooks.assert_none_left(&found);
    hooks.0.assert_on("a");
}

const ALL: &str = "health.commands = [\"probe asked\"]
[units.\"other.service\"]
programs = [\"python3\"]
[[hooks.before-stop]]
run = \"probe first\"
when-unit = \"demo.service\"
[[hooks.before-stop]]
run = \"probe elsewhere\"
when-unit = \"other.service\"
one-way = true
[[hooks.while-stopped]]
run = \"probe second\"
[[hooks.after-start]]
run = \"probe third\"
";

fn each_has_its_place(hooks: &Hooks) {
    hooks.define(ALL);
    let order = ["first", "second", "third", "asked"];
    let states = ["active", "inactive", "active", "active"];
    let (status, report) = hooks.venvctl("activate", "demo:b");
    assert_eq!(status, 0, "{report:#}");
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    assert_eq!(each(&checks, "result"), ["done", "skipped", "done", "done", "done"]);
    let found = hooks.found();
    assert_eq!(
        (each(&found, "name"), each(&found, "unit")),
        (order.into(), states.into())
    );
    hooks.0.assert_on("b");

    // Without venvd's target, too, the unit is stopped; and the distribution's code is nobody's business.
    assert_eq!(hooks.venvctl("disable", "demo").0, 0);
    assert!(!hooks.machine().run(&["test", "-e", "/run/hooks/log"]).success());
    let (status, report) = hooks.venvctl("enable", "demo");
    assert_eq!(status, 0, "{report:#}");
    let found = hooks.found();
    assert_eq!(
        (each(&found, "name"), each(&found, "unit")),
        (order.into(), states.into())
    );
    hooks.assert_none_left(&found);
    hooks.0.assert_on("b");
}

fn all_that_is_unhealthy_is_said(hooks: &Hooks) {
    hooks.define("health.commands = [\"probe one fail\", \"probe two\", \"probe three fail\", \"/nowhere/four\"]\n");
    let (status, report) = hooks.venvctl("activate", "demo:a");
    assert_eq!((status, &report["code"]), (3, &"unhealthy".into()), "{report:#}");
    let message = report["message"].as_str().unwrap_or_default();
    for said in [
        "one does not like it",
        "three does not like it",
        "`/nowhere/four` failed (exit-code, status 203)",
    ] {
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(4));
    hooks.assert_none_left(&hooks.found());
    hooks.0.assert_on("b");
}

fn what_hangs_is_ended(hooks: &Hooks) {
    hooks.define("health.timeout = \"5s\"\n[[hooks.while-stopped]]\nrun = \"probe second hang\"\n");
    let (status, report) = hooks.venvctl("activate", "demo:a");
    assert_eq!((status, &report["code"]), (3, &"timeout".into()), "{report:#}");
    assert_eq!(report["checks"][0]["output"], serde_json::json!(["second was here"]));
    let found = hooks.found();
    assert_eq!(each(&found, "unit"), ["inactive"]);
    hooks.assert_none_left(&found);
    hooks.0.assert_on("b");
}

fn killed_in_a_hook(hooks: &Hooks) {
    hooks.define("[[hooks.while-stopped]]\nrun = \"probe second hang\"\n");
    hooks.kill_venvd_in("second", "a");
    hooks.assert_none_left(&hooks.found());
    hooks.0.assert_on("b");
}

fn one_way(hooks: &Hooks) {
    const ONE_WAY: &str = "[[hooks.before-stop]]\nrun = \"probe first\"\none-way = true\n";
    const STARTS_NOT: &str = "/etc/systemd/system/demo.service.d/20-starts-not.conf";
    let machine = hooks.machine();

    // Cut off behind it, the activation goes on.
    hooks.define(&format!(
        "{ONE_WAY}[[hooks.while-stopped]]\nrun = \"probe second hang-once\"\n"
    ));
    machine.ok("rm -f /run/hooks/again");
    hooks.kill_venvd_in("second", "a");
    let found = hooks.found();
    assert_eq!(each(&found, "name"), ["first", "second", "second"]);
    hooks.assert_none_left(&found);
    hooks.0.assert_on("a");

    // What fails behind it stays.
    hooks.define(ONE_WAY);
    machine.write(
        STARTS_NOT,
        "[Service]\nExecStartPre=/bin/sh -c '[ \"$$VENVD_TAG\" != b ]'\n",
        0o644,
    );
    let (status, report) = hooks.venvctl("activate", "demo:b");
    assert_eq!(status, 4, "{report:#}");
    let message = report["message"].as_str().unwrap_or_default();
    assert!(
        message.contains(
            "a one-way hook had run, so there was no automatic way back; `venvctl activate demo:a` goes back"
        ),
        "{message}"
    );
    for link in ["active", "committed"] {
        let target = machine.ok(&format!("readlink /etc/venvd/{link}/demo"));
        assert_eq!(target, "/var/lib/venvd/venvs/demo/b", "{link}");
    }
    assert_eq!(machine.unit_property(UNIT, "ActiveState"), "failed");
    assert_eq!(machine.ok("ls /etc/venvd/pending"), "");

    // Somebody mends it, or goes back: by a verb, that is possible.
    hooks.found();
    let (status, report) = hooks.venvctl("activate", "demo:a");
    assert_eq!(status, 0, "{report:#}");
    hooks.0.assert_on("a");
    machine.ok(&format!(
        "rm -r {STARTS_NOT} /var/lib/venvd/known-bad; systemctl daemon-reload"
    ));
    hooks.found();
    assert_eq!(hooks.venvctl("rollback", "demo").0, 0);
    hooks.0.assert_on("b");
    assert!(
        !machine.run(&["test", "-e", "/run/hooks/log"]).success(),
        "going back runs no hook"
    );
}

fn all(os: Os) -> Result<()> {
    let hooks = Hooks::new(os)?;
    before_the_stop_nothing_is_touched(&hooks);
    each_has_its_place(&hooks);
    all_that_is_unhealthy_is_said(&hooks);
    what_hangs_is_ended(&hooks);
    killed_in_a_hook(&hooks);
    one_way(&hooks);
    Ok(())
}

#[test]
fn hooks_and_health_commands_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn hooks_and_health_commands_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
