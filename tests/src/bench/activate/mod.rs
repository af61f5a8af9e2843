//! venv-activate: what it costs to start, beside `env` and beside other ways into a venv and to another user. In a machine,
//! since a venv in force, sudo and systemd are needed.

mod pipx;
pub mod race;

use std::collections::BTreeMap;
use std::env;

use anyhow::{Context, Result};

use super::contest::{Outcome, Rounds};
use super::{Options, Row, Say};
use crate::site::{Site, TAG};
use crate::{Machine, Os};
use race::{Race, Runner};

/// What can be measured by itself.
pub(super) const PARTS: [&str; 4] = ["start", "user", "program", "pipx"];

/// What starting a command may cost, by `env`, which does nothing else.
const START: f64 = 1.5;

/// What a program of the venv may cost, by itself: what an administrator does not notice.
const PROGRAM: f64 = 1.02;

/// Being ahead.
const AHEAD: f64 = 1.0;

/// Whose newer python all peers get along with.
const OS: Os = Os::Debian13;

/// Where the measuring program is in the machine.
const RACER: &str = "/usr/local/bin/venvd-bench";

const HOW: &str = "whole processes in a machine with Debian 13, page cache warm; medians of the rounds' ratios";

pub(super) fn rows(options: &Options, say: Say<'_>) -> Result<Vec<Row>> {
    say("a machine with placement in force");
    let site = Site::new(OS)?;
    let machine = &site.machine;
    // What runs in it should be what is measured.
    machine.ok("systemctl stop placement-api.service");
    let racer = env::current_exe().context("where is this program?")?;
    machine.copy_in(&racer, RACER);
    let mut rows = Vec::new();
    for (part, measure) in [
        ("start", start as fn(&Machine, usize) -> Result<Vec<Row>>),
        ("user", user),
        ("program", program),
        ("pipx", pipx),
    ] {
        if options.wants("activate", part) {
            say(&format!("venv-activate: {part}"));
            rows.extend(measure(machine, options.samples)?);
        }
    }
    Ok(rows)
}

/// Without a change of user.
fn start(machine: &Machine, samples: usize) -> Result<Vec<Row>> {
    let venv = format!("/var/lib/venvd/venvs/placement/{TAG}");
    let race = Race {
        samples: samples * 40,
        runners: vec![
            runner(&["venv-activate", "placement", "--", "true"]),
            runner(&["env", "true"]),
            runner(&["bash", "-c", &format!(". {venv}/bin/activate; exec true")]),
            Runner {
                environment: BTreeMap::from([
                    ("VIRTUAL_ENV".to_owned(), venv),
                    ("UV_CACHE_DIR".to_owned(), "/tmp/uv".to_owned()),
                    ("UV_OFFLINE".to_owned(), "1".to_owned()),
                ]),
                ..runner(&["uv", "run", "--no-project", "true"])
            },
        ],
    };
    let rounds = run(machine, Some("placement"), &race)?;
    let names = ["env true", "bash, activate", "uv run --no-project"];
    Ok(against(
        &rounds,
        "true",
        &names,
        |peer| if peer == 1 { START } else { AHEAD },
    ))
}

/// Root becomes the service user.
fn user(machine: &Machine, samples: usize) -> Result<Vec<Row>> {
    let race = Race {
        samples: samples * 10,
        runners: vec![
            runner(&["venv-activate", "placement", "--", "true"]),
            runner(&["runuser", "-u", "placement", "--", "true"]),
            runner(&["sudo", "-n", "-u", "placement", "true"]),
            runner(&[
                "systemd-run",
                "--quiet",
                "--wait",
                "--collect",
                "--uid=placement",
                "true",
            ]),
        ],
    };
    let rounds = run(machine, None, &race)?;
    let names = ["runuser", "sudo -u", "systemd-run --wait"];
    Ok(against(&rounds, "true, as another user", &names, |_| AHEAD))
}

/// A program of the venv, and the same called by its path.
fn program(machine: &Machine, samples: usize) -> Result<Vec<Row>> {
    let direct = format!("/var/lib/venvd/venvs/placement/{TAG}/bin/placement-manage");
    let race = Race {
        samples: samples * 8,
        runners: vec![
            runner(&["venv-activate", "placement", "--", "placement-manage", "--version"]),
            runner(&[&direct, "--version"]),
        ],
    };
    let rounds = run(machine, Some("placement"), &race)?;
    Ok(against(
        &rounds,
        "placement-manage --version",
        &["called directly"],
        |_| PROGRAM,
    ))
}

/// A small program that pipx can run too, from a venv that it has made before.
fn pipx(machine: &Machine, samples: usize) -> Result<Vec<Row>> {
    machine.copy_in(pipx::ensure()?, "/srv/pipx");
    machine.write("/etc/uv/uv.toml", pipx::UV_CONFIGURATION, 0o644);
    let race = Race {
        samples: samples * 2,
        runners: vec![
            runner(&["venv-activate", "placement", "--", "pbr", "--version"]),
            Runner {
                environment: pipx::environment("/srv/pipx"),
                ..runner(&["python3", "-m", "pipx", "run", "--spec", "pbr", "pbr", "--version"])
            },
        ],
    };
    let rounds = run(machine, Some("placement"), &race)?;
    Ok(against(&rounds, "pbr --version", &["pipx run"], |_| AHEAD))
}

fn runner(command: &[&str]) -> Runner {
    Runner {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        environment: BTreeMap::new(),
    }
}

/// Lets them race in the machine, as a user of it.
fn run(machine: &Machine, user: Option<&str>, race: &Race) -> Result<Rounds> {
    let text = serde_json::to_vec(race).context("can't write down a race")?;
    let mut command = match user {
        Some(user) => vec!["runuser", "-u", user, "--"],
        None => Vec::new(),
    };
    command.extend([RACER, race::WORD]);
    let output = machine.run_with_input(&command, &text);
    anyhow::ensure!(output.success(), "the race failed: {output}");
    race::read(&output.stdout)
}

fn against(rounds: &Rounds, what: &str, names: &[&'static str], goal: impl Fn(usize) -> f64) -> Vec<Row> {
    let row = |(index, name): (usize, &&'static str)| {
        let peer = index + 1;
        let paired = rounds.paired(peer);
        let outcome = Outcome {
            ours: paired.ours * 1000.0,
            peer: name,
            theirs: paired.theirs * 1000.0,
            ..paired
        };
        Row::against(&format!("{what}, against {name}"), "ms", &outcome, goal(peer)).how(HOW)
    };
    names.iter().enumerate().map(row).collect()
}
