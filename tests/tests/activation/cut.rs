//! venvd killed, and the power cut, in every state of an activation: after the next start it is in force or taken back,
//! and in between no unit has run what was not in force.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::lab::{GOOD, Lab, Line, State};
use venvd_tests::{Machine, Os};

/// The states of an activation whose units are restarted in one go, as its file names them.
const PLAIN: [&str; 13] = [
    r#"{"forward":"check"}"#,
    r#"{"forward":{"set-active":"new"}}"#,
    r#"{"forward":"capture"}"#,
    r#"{"forward":"mark-pending"}"#,
    r#"{"forward":{"write-policies":"both"}}"#,
    r#"{"forward":{"set-committed":"new"}}"#,
    r#"{"forward":"reload"}"#,
    r#"{"forward":{"write-policies":"turned"}}"#,
    r#"{"forward":"restart-units"}"#,
    r#"{"forward":{"settle":"new"}}"#,
    r#"{"forward":"set-previous"}"#,
    r#"{"forward":{"write-policies":"leaving"}}"#,
    r#"{"forward":"clear-pending"}"#,
];

/// Those that are there only where the definition has commands.
const WITH_COMMANDS: [&str; 6] = [
    r#"{"forward":{"run-hook":["before-stop",0]}}"#,
    r#"{"forward":"stop-units"}"#,
    r#"{"forward":{"run-hook":["while-stopped",0]}}"#,
    r#"{"forward":"start-units"}"#,
    r#"{"forward":{"run-hook":["after-start",0]}}"#,
    r#"{"forward":"check-health"}"#,
];

/// Those of the way back from a venv whose units don't start.
const BACK: [&str; 8] = [
    r#"{"back":"stop-units"}"#,
    r#"{"back":{"set-committed":"old"}}"#,
    r#"{"back":{"set-active":"old"}}"#,
    r#"{"back":{"write-policies":"in-force"}}"#,
    r#"{"back":"clear-pending"}"#,
    r#"{"back":"reload"}"#,
    r#"{"back":"start-units"}"#,
    r#"{"back":{"settle":"old"}}"#,
];

const SUDO: &str = "[sudo]\ncommands = [\"lab-hook nothing\"]\n";

const COMMANDS: &str = "health.commands = [\"lab-check\"]
[[hooks.before-stop]]
run = \"lab-hook before-stop\"
[[hooks.while-stopped]]
run = \"lab-hook while-stopped\"
[[hooks.after-start]]
run = \"lab-hook after-start\"
";

/// How an activation is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// venvd is killed.
    Kill,
    /// The machine is.
    Power,
}

/// A state to cut in, and how it comes to be.
#[derive(Debug, Clone, Copy)]
struct Aim {
    phase: &'static str,
    definition: &'static str,
    /// The venv that is asked for; nothing: the good one that is not in force.
    venv: Option<&'static str>,
}

fn aims() -> Vec<Aim> {
    let aims = |phases: &'static [&'static str], definition, venv| {
        phases.iter().map(move |phase| Aim {
            phase,
            definition,
            venv,
        })
    };
    aims(&PLAIN, "", None)
        .chain(aims(&WITH_COMMANDS, COMMANDS, None))
        .chain(aims(&BACK, "", Some("exits")))
        .collect()
}

/// How often each state is cut in, in each way.
fn rounds() -> Result<usize> {
    Ok(std::env::var("VENVD_KILLS")
        .unwrap_or_else(|_| "3".to_owned())
        .parse()?)
}

/// How often it is tried to catch a state.
const TRIES: usize = 10;

/// Returns the tag that is in force, and the good one that is not.
fn good(state: &State) -> (String, &'static str) {
    let committed = state.links["committed"].clone().unwrap_or_default();
    let other = if committed == "a" { "b" } else { "a" };
    (committed, other)
}

/// Flips the link and cuts in that state; returns the number of the activation.
fn catch(lab: &Lab, aim: &Aim, cut: Cut) -> (u32, String, String) {
    let how = if cut == Cut::Kill { "kill" } else { "stop" };
    for _ in 0..TRIES {
        let (old, other) = good(&lab.state());
        let new = aim.venv.unwrap_or(other).to_owned();
        lab.forget_log();
        let said = lab.machine.run(&["python3", "/srv/lab/cut.py", &new, aim.phase, how]);
        let number = said.stdout.split(' ').next().and_then(|number| number.parse().ok());
        match (said.status, number) {
            (0, Some(number)) => return (number, old, new),
            (3, _) => lab.wait_idle(),
            _ => panic!("{aim:?}: {said}"),
        }
        lab.forgive();
    }
    panic!("{} was not caught in {TRIES} tries", aim.phase);
}

/// The outcome of an activation, of its file.
fn outcome(machine: &Machine, number: u32) -> String {
    let text = machine.read(&format!("/var/lib/venvd/transactions/{number}.json"));
    let transaction: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let ended = transaction["state"]["phase"]["ended"].as_str();
    ended.unwrap_or_else(|| panic!("it is open: {text}")).to_owned()
}

/// Panics if a unit ran what was not in force when it started. Before systemd has read its units anew, what was in force
/// until now may still be started: it is no news.
fn assert_only_what_was_in_force(log: &[Line], old: &str) {
    for line in log.iter().filter(|line| line.what == "start") {
        assert!(line.tag == line.in_force || line.tag == old, "{line:?} of {log:#?}");
    }
}

fn cut(lab: &mut Lab, aim: &Aim, cut: Cut) -> Result<()> {
    lab.forgive();
    lab.define(&format!("{}{SUDO}", aim.definition));
    let begin = Instant::now();
    let (number, old, new) = catch(lab, aim, cut);
    let boots = lab.log();
    assert_only_what_was_in_force(&boots, &old);
    if cut == Cut::Power {
        lab.machine.kill()?;
        lab.machine.boot_again()?;
    }
    lab.wait_idle();
    let outcome = outcome(&lab.machine, number);
    println!("{cut:?} {}: {outcome} after {:?}", aim.phase, begin.elapsed());
    let now = match outcome.as_str() {
        "done" => &new,
        "rolled-back" | "refused" => &old,
        other => panic!("{cut:?} {}: {other}", aim.phase),
    };
    lab.assert_on(now);
    assert_eq!(lab.state().last, number, "nothing was begun that nobody asked for");
    let log = lab.log();
    assert_only_what_was_in_force(&log, &old);
    if cut == Cut::Power {
        let other = log.iter().find(|line| line.tag != *now && line.what == "start");
        assert!(other.is_none(), "{}: this ran at boot: {other:?}", aim.phase);
    }
    let rules = lab.machine.read("/etc/sudoers.d/venvd-lab");
    let admitted: Vec<_> = rules.lines().filter(|line| line.contains("/bin/lab-hook")).collect();
    assert!(
        admitted.len() == 1 && admitted[0].contains(&format!("/lab/{now}/bin/lab-hook")),
        "{}: {rules}",
        aim.phase
    );
    Ok(())
}

fn cut_off(os: Os) -> Result<()> {
    let mut lab = Lab::new(os, 2, &[GOOD[0], GOOD[1], ("exits", "exits")])?;
    // A second for each would be most of the time that this takes.
    lab.machine.write(
        "/etc/systemd/system/venvd.service.d/50-test.conf",
        "[Service]\nRestartSec=50ms\n",
        0o644,
    );
    lab.machine.ok("systemctl daemon-reload");
    for _ in 0..rounds()? {
        for aim in &aims() {
            for way in [Cut::Kill, Cut::Power] {
                cut(&mut lab, aim, way)?;
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_is_cut_off_is_decided_on_debian_12() -> Result<()> {
    cut_off(Os::Debian12)
}

#[test]
fn whatever_is_cut_off_is_decided_on_debian_13() -> Result<()> {
    cut_off(Os::Debian13)
}
