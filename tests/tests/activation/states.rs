//! Every state that an activation can be caught in, and how.
//!
//! What is caught is what the activation's file says when venvd stands still. A state may last less than a millisecond, so
//! it is aimed at again when it has passed. Not here are those that no activation has (the switch of `enable` and `disable`,
//! the rights of none), and the one before the file is there: then nothing was begun.

use serde_json::Value;
use venvd_tests::Machine;
use venvd_tests::lab::{Lab, Line, State};

/// The states of an activation whose units are restarted in one go, as its file names them.
const PLAIN: [&str; 14] = [
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
    r#"{"ended":"done"}"#,
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

/// Those that are there only with `--revoke`, or where nothing was in force before.
const REVOKING: [&str; 2] = [
    r#"{"forward":{"write-policies":"new"}}"#,
    r#"{"forward":{"write-policies":"in-force"}}"#,
];

/// Those of the way back from a venv whose units don't start.
const BACK: [&str; 9] = [
    r#"{"back":"stop-units"}"#,
    r#"{"back":{"set-committed":"old"}}"#,
    r#"{"back":{"set-active":"old"}}"#,
    r#"{"back":{"write-policies":"in-force"}}"#,
    r#"{"back":"clear-pending"}"#,
    r#"{"back":"reload"}"#,
    r#"{"back":"start-units"}"#,
    r#"{"back":{"settle":"old"}}"#,
    r#"{"ended":"rolled-back"}"#,
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

/// A state to cut in, and how it comes to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) phase: &'static str,
    pub(crate) definition: &'static str,
    /// The venv that is asked for; nothing: the good one that is not in force.
    pub(crate) venv: Option<&'static str>,
    /// Whether it is asked for by `venvctl activate --revoke`; else by a flip.
    pub(crate) revokes: bool,
}

pub(crate) fn aims() -> Vec<Aim> {
    let aims = |phases: &'static [&'static str], definition, venv| {
        phases.iter().map(move |phase| Aim {
            phase,
            definition,
            venv,
            revokes: false,
        })
    };
    let revoking = aims(&REVOKING, "", None).map(|aim| Aim { revokes: true, ..aim });
    aims(&PLAIN, "", None)
        .chain(aims(&WITH_COMMANDS, COMMANDS, None))
        .chain(aims(&BACK, "", Some("exits")))
        .chain(revoking)
        .collect()
}

/// How often it is tried to catch a state.
const TRIES: usize = 10;

/// Returns the tag that is in force, and the good one that is not.
fn good(state: &State) -> (String, &'static str) {
    let committed = state.links["committed"].clone().unwrap_or_default();
    let other = if committed == "a" { "b" } else { "a" };
    (committed, other)
}

/// An activation that was caught.
pub(crate) struct Caught {
    pub(crate) number: u32,
    pub(crate) old: String,
    pub(crate) new: String,
    /// When what was done to it had been done, on the machine's monotonic clock.
    pub(crate) at: u64,
}

impl Caught {
    /// Returns the tag that is in force after this outcome.
    pub(crate) fn decided(&self, outcome: &str) -> &str {
        match outcome {
            "done" => &self.new,
            _ => &self.old,
        }
    }
}

/// Flips the link, and does that (of `cut.py`) in that state of the activation that follows.
pub(crate) fn catch(lab: &Lab, aim: &Aim, how: &str) -> Caught {
    lab.forgive();
    lab.define(&format!("{}{SUDO}", aim.definition));
    for _ in 0..TRIES {
        let (old, other) = good(&lab.state());
        let new = aim.venv.unwrap_or(other).to_owned();
        lab.forget_log();
        let by = if aim.revokes { "revoke" } else { "flip" };
        let said = lab
            .machine
            .run(&["python3", "/srv/lab/cut.py", &new, aim.phase, how, by]);
        let words: Option<Vec<u64>> = said.stdout.split_whitespace().map(|word| word.parse().ok()).collect();
        match (said.status, words.as_deref()) {
            (0, Some(&[number, at])) => {
                let number = u32::try_from(number).unwrap_or_else(|error| panic!("{number}: {error}"));
                return Caught { number, old, new, at };
            }
            (3, _) => {
                println!("{} has passed: {}", aim.phase, said.stdout.trim_end());
                lab.wait_idle();
            }
            _ => panic!("{aim:?}: {said}"),
        }
        lab.forgive();
    }
    panic!("{} was not caught in {TRIES} tries", aim.phase);
}

/// The outcome of an activation, of its file.
pub(crate) fn outcome(machine: &Machine, number: u32) -> String {
    let text = machine.read(&format!("/var/lib/venvd/transactions/{number}.json"));
    let transaction: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let ended = transaction["state"]["phase"]["ended"].as_str();
    ended.unwrap_or_else(|| panic!("it is open: {text}")).to_owned()
}

/// Panics if a unit ran what was not in force when it started. Before systemd has read its units anew, what was in force
/// until now may still be started: it is no news.
pub(crate) fn assert_only_what_was_in_force(log: &[Line], old: &str) {
    for line in log.iter().filter(|line| line.what == "start") {
        assert!(line.tag == line.in_force || line.tag == old, "{line:?} of {log:#?}");
    }
}

/// Waits until the activation that was caught is over, and panics unless what then runs, and has its rights, is what its
/// outcome says; returns that, and what the units did since they were asked last.
pub(crate) fn decided(lab: &Lab, aim: &Aim, caught: &Caught) -> (String, Vec<Line>) {
    lab.wait_idle();
    let outcome = outcome(&lab.machine, caught.number);
    assert!(
        ["done", "rolled-back", "refused"].contains(&outcome.as_str()),
        "{}: {outcome}",
        aim.phase
    );
    let now = caught.decided(&outcome);
    lab.assert_on(now);
    assert_eq!(
        lab.state().last,
        caught.number,
        "nothing was begun that nobody asked for"
    );
    let rules = lab.machine.read("/etc/sudoers.d/venvd-lab");
    let admitted: Vec<_> = rules.lines().filter(|line| line.contains("/bin/lab-hook")).collect();
    assert!(
        admitted.len() == 1 && admitted[0].contains(&format!("/lab/{now}/bin/lab-hook")),
        "{}: {rules}",
        aim.phase
    );
    let log = lab.log();
    assert_only_what_was_in_force(&log, &caught.old);
    (outcome, log)
}

/// A second for each restart of venvd would be most of the time that such a test takes.
pub(crate) fn restart_venvd_soon(lab: &Lab) {
    lab.machine.write(
        "/etc/systemd/system/venvd.service.d/50-test.conf",
        "[Service]\nRestartSec=50ms\n",
        0o644,
    );
    lab.machine.ok("systemctl daemon-reload");
}
