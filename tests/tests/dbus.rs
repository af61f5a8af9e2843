//! The objects of venvd on the bus: what they say, whom they tell, and who may ask.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::demo::Demo;
use venvd_tests::terminal::Terminal;
use venvd_tests::{Machine, Os, Output};

/// As long as what is not waited for may take on a busy host.
const SOON: Duration = Duration::from_secs(60);

const MANAGER: &str = "org.venvd1 /org/venvd1 org.venvd1.Manager";
const APP: &str = "/org/venvd1/app/demo";

/// Everything that venvd says on the bus from now on, in order.
struct Heard<'a> {
    machine: &'a Machine,
}

/// A signal: its member, its object, and its body.
#[derive(Debug)]
struct Signal {
    member: String,
    path: String,
    body: Value,
}

impl<'a> Heard<'a> {
    fn new(machine: &'a Machine) -> Self {
        machine.ok("systemctl stop heard.service 2>/dev/null; \
             systemd-run --quiet --unit=heard.service -p StandardOutput=truncate:/run/heard \
             busctl --json=short --match=type=signal,sender=org.venvd1 monitor");
        let heard = Self { machine };
        // It listens when it has heard something. A freeze is told to everybody, unless it is over before anybody looked.
        machine.wait_until(SOON, "the monitor listens", |machine| {
            machine.ok("if test -e /etc/venvd/frozen/demo; then venvctl thaw demo; else venvctl freeze demo; fi");
            !machine.read("/run/heard").is_empty()
        });
        machine.ok("venvctl thaw demo");
        heard
    }

    fn signals(&self) -> Vec<Signal> {
        let text = self.machine.read("/run/heard");
        let signal = |line: &str| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(Signal {
                member: message["member"].as_str()?.to_owned(),
                path: message["path"].as_str()?.to_owned(),
                body: message["payload"]["data"].clone(),
            })
        };
        text.lines().filter_map(signal).collect()
    }
}

fn busctl(machine: &Machine, user: &str, arguments: &str) -> Output {
    let line = format!("busctl --json=short {arguments}");
    machine.user_run(user, &["sh", "-c", &line])
}

#[track_caller]
fn called(machine: &Machine, arguments: &str) -> Value {
    let output = busctl(machine, "root", arguments);
    assert!(output.success(), "busctl {arguments}: {output}");
    let mut answer: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    answer["data"].take()
}

#[track_caller]
fn properties(machine: &Machine, path: &str, interface: &str) -> BTreeMap<String, Value> {
    let all = called(
        machine,
        &format!("call org.venvd1 {path} org.freedesktop.DBus.Properties GetAll s {interface}"),
    );
    let all = all[0].as_object().cloned().unwrap_or_default();
    all.into_iter()
        .map(|(name, value)| (name, value["data"].clone()))
        .collect()
}

/// Waits until a job has ended, and returns what its object says.
#[track_caller]
fn ended(machine: &Machine, job: &str) -> BTreeMap<String, Value> {
    machine.wait_until(SOON, &format!("{job} has ended"), |machine| {
        properties(machine, job, "org.venvd1.Job")["Result"] != ""
    });
    properties(machine, job, "org.venvd1.Job")
}

/// Returns the path of the job that was begun.
#[track_caller]
fn begun(output: &Output) -> String {
    assert!(output.success(), "{output}");
    let answer: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    answer["data"][0].as_str().unwrap_or_default().to_owned()
}

fn settle(machine: &Machine, time: &str) {
    let text = format!("health.settle = \"{time}\"\n");
    machine.write("/etc/venvd/apps/demo.toml.d/50-settle.toml", text, 0o644);
}

/// Returns each value that a property of an object was said to have.
fn values<'a>(signals: &'a [Signal], path: &str, property: &str) -> Vec<&'a Value> {
    let changed = signals
        .iter()
        .filter(|signal| signal.path == path && signal.member == "PropertiesChanged");
    let value = changed.map(|signal| &signal.body[1][property]["data"]);
    value.filter(|value| !value.is_null()).collect()
}

fn an_activation_is_told(demo: &Demo) {
    let machine = &demo.machine;
    let heard = Heard::new(machine);
    let job = begun(&busctl(
        machine,
        "root",
        &format!("call {MANAGER} Activate 'ssa{{sv}}' demo b 0"),
    ));
    machine.wait_until(SOON, "the end is told", |_| {
        heard.signals().iter().any(|signal| signal.member == "JobRemoved")
    });
    let signals = heard.signals();
    let of_job: Vec<&Signal> = signals
        .iter()
        .filter(|signal| signal.path == job || signal.body.to_string().contains(&job))
        .collect();
    let first = of_job.first().map(|signal| signal.member.as_str());
    let last = of_job.last().map(|signal| (signal.member.as_str(), &signal.body[3]));
    assert_eq!(first, Some("InterfacesAdded"), "{of_job:#?}");
    assert_eq!(last, Some(("JobRemoved", &"done".into())), "{of_job:#?}");
    assert!(of_job.iter().any(|signal| signal.member == "JobNew"), "{of_job:#?}");

    let states = values(&signals, &job, "State");
    let expected = [
        "preflight",
        "pending",
        "policy",
        "committing",
        "reloading",
        "restarting",
        "settling",
        "finishing",
        "ended",
    ];
    assert_eq!(states, expected);
    let units: Vec<_> = values(&signals, &job, "Units")
        .into_iter()
        .map(|units| &units["demo.service"])
        .collect();
    for state in ["waiting", "done", "active (running)"] {
        assert!(units.iter().any(|unit| *unit == state), "{state}: {units:?}");
    }
    let windows = values(&signals, &job, "SettleUntil");
    assert_eq!(windows.last(), Some(&&0.into()), "{windows:?}");
    assert!(windows.iter().any(|until| until.as_u64() > Some(0)), "{windows:?}");
    for (property, values_of) in [
        ("Active", ["b"].as_slice()),
        ("Committed", &["b"]),
        ("Previous", &["a"]),
    ] {
        assert_eq!(values(&signals, APP, property), values_of, "{property}");
    }
    let states = values(&signals, APP, "State");
    assert_eq!(states.last(), Some(&&"idle".into()), "{states:?}");

    let said = ended(machine, &job);
    for (property, value) in [
        ("Apps", serde_json::json!([["demo", "a", "b"]])),
        ("App", "demo".into()),
        ("Tag", "b".into()),
        ("Previous", "a".into()),
        ("Kind", "activate".into()),
        ("Cause", "dbus".into()),
        ("CallerUid", 0.into()),
        ("State", "ended".into()),
        ("Result", "done".into()),
        ("Code", "".into()),
        ("Units", serde_json::json!({"demo.service": "done"})),
    ] {
        assert_eq!(said[property], value, "{property}");
    }
    let app = properties(machine, APP, "org.venvd1.App");
    assert_eq!((&app["LastResult"], &app["Job"]), (&"done".into(), &"/".into()));
}

fn apps_come_and_go(machine: &Machine) {
    const OTHER: &str = "/org/venvd1/app/other_2dapp";
    let heard = Heard::new(machine);
    let told = |member: &str, what: &str| {
        machine.wait_until(SOON, &format!("{member} {what}"), |_| {
            let signals = heard.signals();
            signals
                .iter()
                .any(|signal| signal.member == member && signal.body.to_string().contains(what))
        });
    };
    let listed = || {
        called(machine, &format!("call {MANAGER} ListApps"))
            .to_string()
            .contains(OTHER)
    };
    assert!(!listed());
    machine.write("/etc/venvd/apps/other-app.toml", "description = \"x\"\n", 0o644);
    told("InterfacesAdded", OTHER);
    assert!(listed());
    assert_eq!(properties(machine, OTHER, "org.venvd1.App")["Enabled"], false);
    machine.ok("venvctl freeze --reason auditors other-app");
    told("PropertiesChanged", "auditors");
    assert_eq!(properties(machine, OTHER, "org.venvd1.App")["Frozen"], true);
    machine.ok("venvctl thaw other-app && rm /etc/venvd/apps/other-app.toml");
    told("InterfacesRemoved", OTHER);
    assert!(!listed());
}

/// It begins nothing, but tells what not everybody may know.
const PLAN: &str = "/org/venvd1 org.venvd1.Manager Plan sa(ss)a{sv} activate 1 demo a 0";

const ASKS: [&str; 10] = [
    "/org/venvd1 org.venvd1.Manager Activate ssa{sv} demo a 0",
    "/org/venvd1 org.venvd1.Manager ActivateMany a(ss)a{sv} 1 demo a 0",
    "/org/venvd1 org.venvd1.Manager Rollback s demo",
    "/org/venvd1 org.venvd1.Manager Enable s demo",
    "/org/venvd1 org.venvd1.Manager Disable s demo",
    PLAN,
    "/org/venvd1/app/demo org.venvd1.App Activate sa{sv} a 0",
    "/org/venvd1/app/demo org.venvd1.App Rollback",
    "/org/venvd1/app/demo org.venvd1.App Enable",
    "/org/venvd1/app/demo org.venvd1.App Disable",
];

fn jobs(machine: &Machine) -> usize {
    called(machine, &format!("call {MANAGER} ListJobs"))[0]
        .as_array()
        .map_or(0, Vec::len)
}

fn who_may_ask(machine: &Machine) {
    let line_of = |line: &str| format!("call org.venvd1 '{}'", line.replace(' ', "' '"));
    let call = |line: &str| busctl(machine, "alice", &line_of(line));
    // busctl shows an error by its message alone; what it is called is in what it logs.
    let fails_as = |option: &str, line: &str, name: &str| {
        let line = format!("SYSTEMD_LOG_LEVEL=debug busctl {option} {}", line_of(line));
        let output = machine.user_run("alice", &["sh", "-c", &line]);
        assert!(!output.success(), "{line}: {output}");
        let named = format!("error-name=org.freedesktop.DBus.Error.{name} ");
        assert!(output.stderr.contains(&named), "{line}: {output}");
    };
    let denied = |line: &str| fails_as("", line, "AccessDenied");
    for allowed in [
        "/org/venvd1 org.venvd1.Manager ListApps",
        "/org/venvd1 org.venvd1.Manager ListJobs",
        "/org/venvd1 org.freedesktop.DBus.ObjectManager GetManagedObjects",
        "/org/venvd1 org.freedesktop.DBus.Introspectable Introspect",
        "/org/venvd1/app/demo org.freedesktop.DBus.Properties GetAll s org.venvd1.App",
        "/org/venvd1/app/demo org.freedesktop.DBus.Properties Get ss org.venvd1.App State",
        "/org/venvd1/job/1 org.freedesktop.DBus.Properties GetAll s org.venvd1.Job",
    ] {
        let output = call(allowed);
        assert!(output.success(), "{allowed}: {output}");
    }
    let before = jobs(machine);
    let links = machine.ok("readlink /etc/venvd/active/demo /etc/venvd/committed/demo /etc/venvd/previous/demo");
    for line in ASKS {
        denied(line);
        let not_asked_back = "--allow-interactive-authorization=no";
        fails_as(not_asked_back, line, "InteractiveAuthorizationRequired");
    }
    denied("/org/venvd1 org.venvd1.Manager GetJob u 1");
    denied("/org/venvd1/app/demo org.freedesktop.DBus.Properties Set ssv org.venvd1.App Enabled b false");
    assert_eq!(jobs(machine), before, "a job was begun");
    assert_eq!(
        machine.ok("readlink /etc/venvd/active/demo /etc/venvd/committed/demo /etc/venvd/previous/demo"),
        links
    );

    machine.ok("systemctl mask --now polkit.service");
    denied("/org/venvd1 org.venvd1.Manager Rollback s demo");
    machine.ok("systemctl unmask polkit.service");

    let rule = "polkit.addRule(function(action, subject) {
        if (action.id == 'org.venvd1.activate' && action.lookup('app') == 'demo' && subject.user == 'alice')
            return polkit.Result.YES;
    });\n";
    machine.write("/etc/polkit-1/rules.d/50-alice.rules", rule, 0o644);
    // polkitd notices the file by itself, some time.
    machine.ok("systemctl restart polkit.service");
    for line in ASKS.iter().filter(|line| line.contains("able")) {
        denied(line);
    }
    denied(PLAN);
    denied("/org/venvd1 org.venvd1.Manager Activate ssa{sv} other a 0");
    denied("/org/venvd1 org.venvd1.Manager GetJob u 1");
    let job = begun(&call("/org/venvd1 org.venvd1.Manager Activate ssa{sv} demo a 0"));
    let said = ended(machine, &job);
    let uid: u32 = machine.ok("id -u alice").parse().unwrap_or_default();
    assert_eq!((&said["Result"], &said["CallerUid"]), (&"done".into(), &uid.into()));
    let id = job.rsplit('/').next().unwrap_or_default();
    let own = call(&format!("/org/venvd1 org.venvd1.Manager GetJob u {id}"));
    assert!(own.success(), "one's own job may be read: {own}");
}

/// A yes is for what the venv was when it was asked for. Root's activation goes on meanwhile, so that it has to wait.
fn what_is_swapped_after_the_yes_is_refused(machine: &Machine) {
    const MANIFEST: &str = "/var/lib/venvd/venvs/demo/a/.venvd/manifest.json";
    settle(machine, "8s");
    let first = begun(&busctl(
        machine,
        "root",
        &format!("call {MANAGER} Activate 'ssa{{sv}}' demo b 0"),
    ));
    let second = begun(&busctl(
        machine,
        "alice",
        &format!("call {MANAGER} Activate 'ssa{{sv}}' demo a 0"),
    ));
    assert_eq!(properties(machine, &second, "org.venvd1.Job")["State"], "queued");
    machine.ok(&format!(
        "cp -p {MANIFEST} /run/manifest; sed -i 's/\"size\": *\\([0-9]\\)/\"size\":1\\1/' {MANIFEST}; ! cmp -s {MANIFEST} /run/manifest"
    ));
    assert_eq!(
        properties(machine, &first, "org.venvd1.Job")["Result"],
        "",
        "it goes on"
    );
    assert_eq!(ended(machine, &first)["Result"], "done");
    let said = ended(machine, &second);
    assert_eq!(
        (&said["Result"], &said["Code"]),
        (&"refused".into(), &"content-changed".into())
    );
    // The same venv, for somebody who says what he means.
    let digest = "0".repeat(64);
    let line = format!("call {MANAGER} Activate 'ssa{{sv}}' demo a 1 digest s {digest}");
    let said = ended(machine, &begun(&busctl(machine, "root", &line)));
    assert_eq!(said["Code"], "content-changed");
    machine.ok(&format!("cp -p /run/manifest {MANIFEST}"));
    settle(machine, "1s");
}

fn a_password_is_asked_for_and_progress_shown(machine: &Machine) {
    machine.ok("rm /etc/polkit-1/rules.d/50-alice.rules; systemctl restart polkit.service");
    machine.ok("usermod -aG sudo alice; echo alice:opensesame | chpasswd");
    settle(machine, "8s");
    // With a session, without which polkit takes no agent that only stands in for a desktop's.
    let terminal = Terminal::open(machine, "alice", "su -l alice -s /bin/sh");
    terminal.enter("venvctl activate demo:a");
    terminal.wait_for("Password:");
    // Meanwhile nobody else waits.
    assert_eq!(properties(machine, APP, "org.venvd1.App")["State"], "idle");
    terminal.enter("opensesame");
    terminal.wait_until("a countdown", |screen| {
        screen.contains("1 of 1 are up, ") && screen.contains(" s left")
    });
    terminal.press("C-c");
    terminal.wait_until("where it goes on", |screen| {
        screen.contains("goes on: `venvctl status demo` shows")
    });
    machine.wait_until(SOON, "the job ends all the same", |machine| {
        properties(machine, APP, "org.venvd1.App")["State"] == "idle"
    });
    assert_eq!(properties(machine, APP, "org.venvd1.App")["Committed"], "a");
}

/// venvd is killed in the middle; who looks on sees the end of the same job, and there is no second one.
fn venvctl_looks_on_when_venvd_comes_back(machine: &Machine) {
    let before = jobs(machine);
    machine.ok(
        "systemd-run --quiet --unit=looking-on -p StandardOutput=truncate:/run/looking-on -p StandardError=journal \
         -p RemainAfterExit=yes venvctl activate --json demo:b",
    );
    machine.wait_until(SOON, "the units settle", |machine| {
        properties(machine, APP, "org.venvd1.App")["State"] == "settling"
    });
    machine.ok("systemctl kill -s KILL venvd.service");
    machine.wait_until(SOON, "venvctl has seen the end", |machine| {
        machine.unit_property("looking-on.service", "SubState") == "exited"
            || machine.unit_property("looking-on.service", "ActiveState") == "failed"
    });
    let report: Value = serde_json::from_str(&machine.read("/run/looking-on")).unwrap_or_default();
    assert_eq!(report["state"], "ended", "{report:#}");
    let job = format!("/org/venvd1/job/{}", report["id"]);
    assert_eq!(properties(machine, &job, "org.venvd1.Job")["Result"], report["result"]);
    assert_eq!(jobs(machine), before + 1);
    settle(machine, "1s");
}

/// What the manual says is typed.
fn what_the_manual_says_works(machine: &Machine) {
    let text = include_str!("../../docs/dbus.md")
        .replace("nova", "demo")
        .replace("29.2.0", "a");
    let mut lines = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("    busctl ")) {
        lines += 1;
        let output = machine.run(&["sh", "-c", &format!("timeout 2 busctl {line}")]);
        // A monitor has no end.
        let expected = if line.starts_with("monitor") { 124 } else { 0 };
        assert_eq!(output.status, expected, "busctl {line}: {output}");
    }
    assert!(lines > 10, "the examples are not found any more");
    let introspected = machine.ok("busctl introspect --xml-interface org.venvd1 /org/venvd1");
    let said = "Returns what would be done, as JSON; nothing is changed.";
    let (_, comments) = introspected.split_once("<!--").unwrap_or_default();
    assert!(comments.contains(said), "{introspected}");
}

fn all(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    let machine = &demo.machine;
    machine.ok("useradd -m alice");
    an_activation_is_told(&demo);
    apps_come_and_go(machine);
    who_may_ask(machine);
    what_is_swapped_after_the_yes_is_refused(machine);
    a_password_is_asked_for_and_progress_shown(machine);
    venvctl_looks_on_when_venvd_comes_back(machine);
    what_the_manual_says_works(machine);
    Ok(())
}

#[test]
fn the_bus_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn the_bus_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
