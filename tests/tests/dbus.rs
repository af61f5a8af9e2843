//! The objects of venvd on the bus: what they say, whom they tell, and who may ask.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::demo::Demo;
use venvd_tests::{Machine, Os, Output};

/// As long as what is not waited for may take on a busy host.
const SOON: Duration = Duration::from_secs(60);

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
        // It listens when it has heard something. A freeze is told to everybody.
        machine.wait_until(SOON, "the monitor listens", |machine| {
            machine.ok("venvctl freeze demo; venvctl thaw demo");
            !machine.read("/run/heard").is_empty()
        });
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

fn explore(os: Os) -> Result<()> {
    let demo = Demo::new(os)?;
    let machine = &demo.machine;
    for line in [
        "busctl introspect org.venvd1 /org/venvd1",
        "busctl introspect org.venvd1 /org/venvd1/app/demo",
        "busctl tree org.venvd1",
        "busctl introspect --xml-interface org.venvd1 /org/venvd1",
        "busctl --json=short call org.venvd1 /org/venvd1 org.freedesktop.DBus.ObjectManager GetManagedObjects",
        "busctl call org.venvd1 /org/venvd1 org.venvd1.Manager ListApps",
        "busctl call org.venvd1 /org/venvd1 org.venvd1.Manager ListJobs",
    ] {
        eprintln!("$ {line}\n{}", machine.run(&["sh", "-c", line]));
    }
    let heard = Heard::new(machine);
    machine.ok("venvctl activate demo:b");
    machine.run(&["sleep", "2"]);
    for signal in heard.signals() {
        eprintln!("{} {} {}", signal.member, signal.path, signal.body);
    }
    eprintln!("{:#?}", properties(machine, APP, "org.venvd1.App"));
    machine.ok("useradd -m alice");
    for line in [
        "call org.venvd1 /org/venvd1 org.venvd1.Manager ListApps",
        "call org.venvd1 /org/venvd1 org.venvd1.Manager GetJob u 1",
        "call org.venvd1 /org/venvd1 org.venvd1.Manager Rollback s demo",
        "--allow-interactive-authorization=no call org.venvd1 /org/venvd1 org.venvd1.Manager Rollback s demo",
        "get-property org.venvd1 /org/venvd1/app/demo org.venvd1.App State",
    ] {
        eprintln!("alice$ {line}\n{}", busctl(machine, "alice", line));
    }
    machine.write("/etc/polkit-1/rules.d/50-alice.rules", "polkit.addRule(function(action, subject) {
    if (action.id == 'org.venvd1.activate' && action.lookup('app') == 'demo' && subject.user == 'alice') return polkit.Result.YES;
});
", 0o644);
    for line in [
        "call org.venvd1 /org/venvd1 org.venvd1.Manager Rollback s demo",
        "call org.venvd1 /org/venvd1 org.venvd1.Manager Disable s demo",
    ] {
        eprintln!("alice$ {line}\n{}", busctl(machine, "alice", line));
    }
    eprintln!("{}", machine.journalctl(&["-b", "-u", "venvd", "-u", "polkit"]));
    Ok(())
}

#[test]
fn the_bus_on_debian_12() -> Result<()> {
    explore(Os::Debian12)
}
