//! The operator's brakes: what an activation would do, told before, is what it then does; and a venv that is revoked
//! never runs again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::demo::{Demo, ROOTWRAP, UNIT};
use venvd_tests::{Machine, Os};

/// As long as what is not waited for may take on a busy host.
const SOON: Duration = Duration::from_secs(60);

const SLEEPS: &str = "ExecStart=/usr/bin/python3 -c \"import time; time.sleep(1000000)\"\n";

/// Further units: of the app but for the last one.
const UNITS: [(&str, &str, &str); 5] = [
    (
        "demo-late.service",
        "[Unit]\nAfter=demo.service\nRequires=demo.service\n[Service]\nType=exec\n",
        "start",
    ),
    ("demo-stopped.service", "[Service]\nType=exec\n", ""),
    ("demo-masked.service", "[Service]\nType=exec\n", "mask"),
    ("demo-kept.service", "[Service]\nType=exec\n", "start"),
    (
        "outside.service",
        // It is restarted more often than a service should be, and is not venvd's to be forgiven that.
        "[Unit]\nStartLimitIntervalSec=0\nAfter=demo-late.service\nRequires=demo.service\n[Service]\nType=exec\n",
        "start",
    ),
];

const DEFINITION: &str = "
[units.\"demo-late.service\"]
programs = [\"python3\"]
[units.\"demo-stopped.service\"]
programs = [\"python3\"]
[units.\"demo-masked.service\"]
programs = [\"python3\"]
[units.\"demo-absent.service\"]
programs = [\"python3\"]
[units.\"demo-kept.service\"]
programs = [\"python3\"]
restart = \"none\"
";

struct Brakes(Demo);

impl Brakes {
    fn new(os: Os) -> Result<Self> {
        let demo = Demo::new(os)?;
        let machine = &demo.machine;
        for (unit, text, _) in UNITS {
            let path = match unit {
                // A unit in /etc can't be masked.
                "demo-masked.service" => format!("/usr/lib/systemd/system/{unit}"),
                _ => format!("/etc/systemd/system/{unit}"),
            };
            machine.write(&path, format!("{text}{SLEEPS}"), 0o644);
        }
        machine.write("/etc/venvd/apps/demo.toml.d/50-units.toml", DEFINITION, 0o644);
        machine.ok("systemctl daemon-reload");
        for (unit, _, verb) in UNITS.iter().filter(|(_, _, verb)| !verb.is_empty()) {
            machine.ok(&format!("systemctl {verb} {unit}"));
        }
        Ok(Self(demo))
    }

    fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Runs venvctl; returns its exit status and what it says as JSON.
    #[track_caller]
    fn venvctl(&self, line: &str) -> (i32, Value) {
        let output = self.machine().run(&["sh", "-c", &format!("venvctl --json {line}")]);
        let json = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output}"));
        (output.status, json)
    }

    /// Panics unless this is refused with this code.
    #[track_caller]
    fn assert_refused(&self, line: &str, code: &str) {
        let (status, report) = self.venvctl(line);
        assert_eq!((status, report["code"].as_str()), (1, Some(code)), "{line}: {report:#}");
    }

    /// Returns when each of the units began to run, and as which invocation.
    fn runs(&self) -> BTreeMap<&'static str, (String, u64)> {
        let mut units: Vec<&'static str> = UNITS.iter().map(|(unit, ..)| *unit).collect();
        units.push(UNIT);
        let run = |unit: &'static str| {
            let property = |name| self.machine().unit_property(unit, name);
            let began = property("ExecMainStartTimestampMonotonic").parse().unwrap_or_default();
            (unit, (property("InvocationID"), began))
        };
        units.into_iter().map(run).collect()
    }

    /// Returns all that venvd could change on the disk.
    fn disk(&self) -> String {
        let places = "/etc /var/lib/venvd/transactions /var/lib/venvd/known-bad /run/systemd/generator";
        self.machine().ok(&format!(
            "find {places} -printf '%p %l %s %C@\\n' 2>/dev/null | sort; true"
        ))
    }
}

/// Returns one key of each in a list.
fn each<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    let list = list.as_array().into_iter().flatten();
    list.map(|one| one[key].as_str().unwrap_or_default()).collect()
}

fn a_dry_run_tells_what_then_happens(brakes: &Brakes) {
    let (runs, disk) = (brakes.runs(), brakes.disk());
    let (status, plan) = brakes.venvctl("activate --dry-run demo:b");
    assert_eq!((status, &plan["refused"]), (0, &Value::Null), "{plan:#}");
    assert_eq!(
        (brakes.runs(), brakes.disk()),
        (runs.clone(), disk),
        "nothing was changed"
    );

    let steps: Vec<&Value> = plan["steps"].as_array().into_iter().flatten().collect();
    let jobs: Vec<&Value> = steps
        .iter()
        .flat_map(|step| step["jobs"].as_array())
        .flatten()
        .collect();
    let planned: Vec<&str> = jobs.iter().filter_map(|job| job["unit"].as_str()).collect();
    assert_eq!(
        planned,
        ["demo.service", "demo-late.service", "outside.service"],
        "{plan:#}"
    );
    assert!(jobs.iter().all(|job| job["job"] == "restart"), "{plan:#}");
    assert_eq!(plan["dependents"], serde_json::json!(["outside.service"]));
    let alone = &plan["left_alone"];
    let why: BTreeMap<&str, &str> = each(alone, "unit").into_iter().zip(each(alone, "why")).collect();
    for (unit, word) in [
        ("demo-stopped.service", "stopped"),
        ("demo-masked.service", "masked"),
        ("demo-absent.service", "not on this host"),
        ("demo-kept.service", "next start"),
    ] {
        assert!(why[unit].contains(word), "{plan:#}");
    }
    let files: Vec<&str> = steps.iter().flat_map(|step| each(&step["files"], "path")).collect();
    for file in ["/etc/sudoers.d/venvd-demo", "/etc/demo/rootwrap.conf"] {
        assert!(files.contains(&file), "{plan:#}");
    }
    let links: Vec<&str> = steps.iter().flat_map(|step| each(&step["links"], "link")).collect();
    let expected = ["active", "committed", "previous"].map(|link| format!("/etc/venvd/{link}/demo"));
    assert_eq!(links, expected);
    assert_eq!(plan["on_failure"]["outcome"], "rolled-back");

    let before = |path: &str| brakes.machine().read(path);
    let texts: Vec<(&str, String)> = files.iter().map(|path| (*path, before(path))).collect();
    let (status, report) = brakes.venvctl("activate demo:b");
    assert_eq!(status, 0, "{report:#}");
    let after = brakes.runs();
    let mut restarted: Vec<(u64, &str)> = after
        .iter()
        .filter(|(unit, run)| runs[*unit].0 != run.0)
        .map(|(unit, run)| (run.1, *unit))
        .collect();
    restarted.sort_unstable();
    let restarted: Vec<&str> = restarted.into_iter().map(|(_, unit)| unit).collect();
    assert_eq!(restarted, planned, "those, in that order, and no others");
    for (path, text) in texts {
        assert_ne!(brakes.machine().read(path), text, "{path}");
    }
    for link in ["active", "committed", "previous"] {
        let moves = steps.iter().flat_map(|step| step["links"].as_array()).flatten();
        let path = format!("/etc/venvd/{link}/demo");
        let mut planned = moves.filter(|moved| moved["link"] == path.as_str());
        let planned = planned.next_back().map(|moved| &moved["to"]);
        let found = brakes.machine().ok(&format!("readlink {path}"));
        assert_eq!(planned, Some(&found.into()));
    }
}

fn a_dry_run_says_what_would_be_refused(brakes: &Brakes) {
    let machine = brakes.machine();
    // It runs the old venv, which has rights for as long.
    machine.ok("systemctl stop demo-kept.service");
    machine.wait_until(SOON, "only the new venv has rights", |machine| {
        !machine.read(ROOTWRAP).contains("/demo/a/")
    });
    machine.ok("venvctl freeze demo --reason 'the auditors come'");
    let (status, plan) = brakes.venvctl("activate --dry-run demo:a");
    assert_eq!((status, &plan["refused"]["code"]), (1, &"frozen".into()), "{plan:#}");
    let status = brakes.0.status();
    assert_eq!(status["frozen"]["reason"], "the auditors come", "{status:#}");
    machine.ok("venvctl thaw demo");
    for verb in ["rollback", "enable", "disable"] {
        let (status, plan) = brakes.venvctl(&format!("{verb} --dry-run demo"));
        assert_eq!((status, &plan["refused"]), (0, &Value::Null), "{verb}: {plan:#}");
    }
    let denied = machine.user_run("demo", &["venvctl", "activate", "--dry-run", "demo:a"]);
    assert_eq!(denied.status, 1, "{denied}");
    brakes.0.assert_on("b");
}

const FLIP: &str = "ln -sfn /var/lib/venvd/venvs/demo/a /etc/venvd/active/demo";

/// Flips to `a`, and waits until that is refused, with this code and in these words, and the link is back.
fn assert_flip_is_refused(brakes: &Brakes, (code, words): (&str, &str)) {
    let machine = brakes.machine();
    let (since, runs) = (machine.ok("date '+%F %T'"), brakes.runs());
    machine.ok(FLIP);
    let code = format!("VENVD_CODE={code}");
    machine.wait_until(SOON, "the flip is refused", |machine| {
        let said = machine.journalctl(&["-u", "venvd", "-o", "cat", "--since", &since, "VENVD_CAUSE=link", &code]);
        said.contains(words) && machine.ok("readlink /etc/venvd/active/demo").ends_with("/b")
    });
    assert_eq!(brakes.runs(), runs, "no unit was touched");
    brakes.0.assert_on("b");
}

fn a_frozen_app_is_flipped_back(brakes: &Brakes) {
    let machine = brakes.machine();
    machine.ok("venvctl freeze demo --reason 'the auditors are here'");
    assert_flip_is_refused(brakes, ("frozen", "the auditors are here"));
    machine.ok("venvctl thaw demo");
    machine.ok(FLIP);
    machine.wait_until(SOON, "the same flip is an activation", |machine| {
        let state = machine.ok("busctl get-property org.venvd1 /org/venvd1/app/demo org.venvd1.App Committed State");
        state == "s \"a\"\ns \"idle\""
    });
    brakes.0.assert_on("a");
    let (status, report) = brakes.venvctl("activate demo:b");
    assert_eq!(status, 0, "{report:#}");
}

fn a_revoked_venv_never_comes_back(brakes: &mut Brakes) -> Result<()> {
    let machine = brakes.machine();
    brakes.assert_refused("revoke demo:b 'CVE-2'", "in-force");
    machine.ok("venvctl revoke demo:a 'CVE-1'");
    assert_flip_is_refused(brakes, ("revoked", "demo:a is revoked"));
    for line in ["activate demo:a", "activate --force demo:a", "rollback demo"] {
        brakes.assert_refused(line, "revoked");
    }
    let (_, list) = brakes.venvctl("list demo");
    assert_eq!(list["venvs"][0]["revoked"]["reason"], "CVE-1", "{list:#}");
    assert!(brakes.0.problems().contains(&"previous-revoked".to_owned()));

    // The interpreter of what is in force has gone: nothing that is revoked stands in for it.
    machine.ok("sed -i.good 's|\"interpreter\": \".*\"|\"interpreter\": \"/usr/bin/python2.99\"|' /etc/venvd/committed/demo.json");
    brakes.0.machine.reboot()?;
    brakes.0.assert_off();
    let machine = brakes.machine();
    machine.ok("venvctl unrevoke demo:a");
    brakes.0.machine.reboot()?;
    brakes.0.assert_on("a");
    let machine = brakes.machine();
    machine.ok("mv /etc/venvd/committed/demo.json.good /etc/venvd/committed/demo.json");
    brakes.0.machine.reboot()?;
    brakes.0.assert_on("b");
    Ok(())
}

fn what_is_in_force_is_revoked_by_force(brakes: &Brakes) {
    let machine = brakes.machine();
    let before = machine.unit_property(UNIT, "InvocationID");
    let (status, said) = brakes.venvctl("revoke --force demo:b 'CVE-2'");
    assert_eq!((status, &said["next_start"]), (0, &"demo:a".into()), "{said:#}");
    assert!(each(&said["used_by"], "unit").contains(&UNIT), "{said:#}");
    let rules = machine.ok("sudo -l -U demo");
    assert!(!rules.contains("/demo/b/"), "{rules}");
    assert_eq!(machine.unit_property(UNIT, "InvocationID"), before, "it runs on");
    let problems = brakes.0.problems();
    for code in ["revoked", "runs-revoked"] {
        assert!(problems.iter().any(|problem| problem == code), "{problems:?}");
    }
    brakes.0.follow_advice("runs-revoked");
    brakes.0.assert_on("a");
    // There is no way back to it: what fails stays.
    machine.write(
        "/etc/venvd/apps/demo.toml.d/60-health.toml",
        "[health]\ncommands = [\"python3 -c 'raise SystemExit(1)'\"]\n",
        0o644,
    );
    let (status, report) = brakes.venvctl("activate demo:a");
    assert_eq!((status, report["result"].as_str()), (4, Some("failed")), "{report:#}");
    let message = report["message"].as_str().unwrap_or_default();
    assert!(message.contains("what was in force (demo:b) is revoked"), "{message}");
    machine.ok("rm /etc/venvd/apps/demo.toml.d/60-health.toml");
    brakes.0.assert_on("a");
    machine.ok("venvctl unrevoke demo:b");
    assert_eq!(brakes.venvctl("activate --force demo:b").0, 0);
    brakes.0.assert_on("b");
}

/// A unit that leaves a child behind, which is its own business: it is named, and lives.
fn what_a_unit_leaves_behind_is_named(brakes: &Brakes) {
    let machine = brakes.machine();
    machine.write(
        "/etc/systemd/system/demo.service.d/10-leaves.conf",
        "[Service]\nKillMode=process\nExecStart=\nExecStart=/usr/bin/python3 -c \"import subprocess, time; \
         child = subprocess.Popen(['python3', '-c', 'import time; time.sleep(1000000)']); \
         open('/tmp/child', 'w').write(str(child.pid)); time.sleep(1000000)\"\n",
        0o644,
    );
    machine.ok("systemctl daemon-reload && systemctl restart demo.service");
    machine.wait_until(SOON, "there is a child", |machine| {
        machine.run(&["test", "-s", "/tmp/child"]).success()
    });
    let child: u32 = machine.ok("cat /tmp/child").parse().unwrap_or_default();
    let (status, report) = brakes.venvctl("activate demo:a");
    assert_eq!(status, 0, "{report:#}");
    let expected = serde_json::json!([{"pid": child, "unit": UNIT, "program": "python3", "venv": "demo:b"}]);
    assert_eq!(report["leftovers"], expected);
    let status = brakes.0.status();
    assert_eq!(status["leftovers"], expected, "{status:#}");
    let text = machine.ok("venvctl status demo");
    assert!(
        text.contains(&format!(
            "still run from demo:b, which is not in force: python3 ({child})"
        )),
        "{text}"
    );
    machine.ok(&format!("kill {child}"));
    machine.wait_until(SOON, "it has ended", |_| {
        brakes.0.status()["leftovers"] == serde_json::json!([])
    });
    machine.ok("rm /etc/systemd/system/demo.service.d/10-leaves.conf && systemctl daemon-reload");
    assert_eq!(brakes.venvctl("activate demo:b").1["leftovers"], serde_json::json!([]));
}

/// Without venvd, also after a reboot, and back.
fn a_detached_app_runs_without_venvd(brakes: &mut Brakes) -> Result<()> {
    let machine = brakes.machine();
    let before = machine.unit_property(UNIT, "InvocationID");
    machine.ok("venvctl detach demo");
    assert_eq!(
        machine.unit_property(UNIT, "InvocationID"),
        before,
        "nothing is restarted"
    );
    brakes.assert_refused("activate demo:a", "detached");
    brakes.assert_refused("disable demo", "detached");
    assert!(brakes.0.problems().contains(&"detached".to_owned()));
    machine.ok("systemctl restart venvd-policy-boot.service && dpkg -r venvd");
    brakes.0.machine.reboot()?;
    let machine = brakes.machine();
    let venv = |machine: &Machine| machine.environ_of(machine.main_pid(UNIT)).get("VENVD_TAG").cloned();
    assert_eq!(venv(machine).as_deref(), Some("b"));
    assert!(
        machine
            .ok(&format!("readlink /proc/{}/exe", machine.main_pid(UNIT)))
            .contains("python")
    );
    assert_eq!(brakes.0.sudo(), 0, "{}", machine.ok("sudo -l -U demo"));
    machine.ok("dpkg -i /srv/venvd.deb && systemctl restart demo.service");
    assert_eq!(venv(machine).as_deref(), Some("b"), "venvd leaves it alone");
    machine.ok("venvctl attach demo");
    machine.ok("! ls /etc/systemd/system/*/zz-venvd-detached.conf");
    brakes.0.assert_on("b");
    Ok(())
}

fn brakes(os: Os) -> Result<()> {
    let mut brakes = Brakes::new(os)?;
    a_dry_run_tells_what_then_happens(&brakes);
    a_dry_run_says_what_would_be_refused(&brakes);
    a_frozen_app_is_flipped_back(&brakes);
    what_a_unit_leaves_behind_is_named(&brakes);
    a_revoked_venv_never_comes_back(&mut brakes)?;
    what_is_in_force_is_revoked_by_force(&brakes);
    a_detached_app_runs_without_venvd(&mut brakes)
}

#[test]
fn brakes_hold_on_debian_12() -> Result<()> {
    brakes(Os::Debian12)
}

#[test]
fn brakes_hold_on_debian_13() -> Result<()> {
    brakes(Os::Debian13)
}
