//! A service that never stops calling `sudo cinder-rootwrap` is never refused, however often its venv changes.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use anyhow::Result;
use venvd_tests::tour::{CINDER, lay_out, supplied};
use venvd_tests::{Machine, Os};

/// How many calls are made at least, and activations: each call starts a Python, a quarter of a second of a processor.
/// `make nightly` has 3,000 and 50 (`VENVD_SUDO_CALLS`, `VENVD_SUDO_ACTIVATIONS`).
const CALLS: usize = 400;
const ACTIVATIONS: usize = 20;
/// How long the calls may take that belong to one activation.
const SOON: Duration = Duration::from_secs(120);

const RECORD: &str = "/var/lib/cinder/calls";

const UNIT: &str = "[Service]
Type=exec
User=cinder
# The calls under way are not what is to be stopped.
KillMode=mixed
ExecStart=/usr/bin/python3 /srv/transition/caller.py /var/lib/cinder/calls
";

const FRAGMENT: &str = "[units.\"cinder-caller.service\"]\nprograms = [\"python3\"]\n[health]\nsettle = \"300ms\"\n";

/// A machine with both releases of cinder, the first in force, and the caller running from it.
fn machine(os: Os) -> Result<Machine> {
    let machine = supplied(os)?.boot()?;
    machine.ok("dpkg -i /srv/venvd.deb");
    lay_out(&machine);
    machine.copy_in(
        concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/transition"),
        "/srv/transition",
    );
    machine.write("/srv/secret", "root", 0o600);
    machine.write(
        "/etc/venvd/apps/cinder.toml",
        include_str!("../../scenario/cinder.toml"),
        0o644,
    );
    machine.write("/etc/venvd/apps/cinder.toml.d/50-caller.toml", FRAGMENT, 0o644);
    machine.write("/usr/lib/systemd/system/cinder-caller.service", UNIT, 0o644);
    for release in CINDER {
        machine.ok(&format!(
            "venvctl build cinder:{release} --lock /srv/locks/cinder-{release}.txt"
        ));
    }
    // What is looked at is the caller; the scheduler would only make each activation longer.
    machine.ok("systemctl disable --now cinder-scheduler");
    machine.ok(&format!("venvctl activate cinder:{}", CINDER[0]));
    machine.ok("venvctl enable cinder && systemctl start cinder-caller");
    Ok(machine)
}

/// How many calls of each kind were made: by which venv's process, of what program. Panics where one was refused.
fn calls(machine: &Machine) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in machine.read(RECORD).lines() {
        let kind = line
            .strip_suffix(" ok")
            .unwrap_or_else(|| panic!("a call failed: {line}"));
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    counts
}

fn number(variable: &str, usual: usize) -> Result<usize> {
    match env::var(variable) {
        Ok(number) => Ok(number.parse()?),
        Err(_) => Ok(usual),
    }
}

#[test]
fn calls_through_many_activations_are_all_allowed() -> Result<()> {
    let (least_calls, least_activations) = (
        number("VENVD_SUDO_CALLS", CALLS)?,
        number("VENVD_SUDO_ACTIVATIONS", ACTIVATIONS)?,
    );
    let machine = machine(Os::Debian13)?;
    for activations in 1..=least_activations {
        let release = CINDER[activations % 2];
        machine.ok(&format!("venvctl activate cinder:{release}"));
        let by_now = least_calls * activations / least_activations;
        machine.wait_until(SOON, "there are enough calls", |machine| {
            let lines = machine.ok(&format!("wc -l <{RECORD}"));
            lines.parse().is_ok_and(|made: usize| made >= by_now)
        });
        println!("{by_now} calls through {activations} activations");
    }
    let counts = calls(&machine);
    for release in CINDER {
        for program in [
            "cinder-rootwrap".to_owned(),
            format!("/var/lib/venvd/venvs/cinder/{release}/bin/cinder-rootwrap"),
        ] {
            let kind = format!("{release} {program}");
            assert!(
                counts.get(&kind).is_some_and(|count| *count > least_calls / 10),
                "{kind}: {counts:?}"
            );
        }
    }
    let rule = "cinder ALL=(root) NOPASSWD: NOSETENV: /var/lib/venvd/venvs/cinder/";
    let rules = machine.read("/etc/sudoers.d/venvd-cinder");
    assert_eq!(rules.matches(rule).count(), 1, "one venv's rights are left: {rules}");
    Ok(())
}
