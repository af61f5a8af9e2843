//! Starts services with a stand-in for their programs, and tells how the stand-in was started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::reading::Service;
use crate::Machine;

/// Where the machine has the stand-in.
pub const STAND_IN: &str = "/srv/stand-in";

/// Where it writes what it saw.
const RECORDS: &str = "/run/stand-in";

/// Sorts after the drop-in of venvd and all others.
const DROP_IN: &str = "zzzz-start.conf";

/// Takes everything from a unit that would keep a program from starting in this machine, or make it wait; its main
/// command lines and its variables stay.
const BARE: &str = include_str!("start.conf");

/// How a stand-in was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its words.
    pub argv: Vec<String>,
    /// Its variables.
    pub environment: BTreeMap<String, String>,
}

impl Record {
    /// Takes the variables away that differ from one start to the next.
    #[must_use]
    pub fn settled(mut self) -> Self {
        for name in [
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "SYSTEMD_EXEC_PID",
            "MEMORY_PRESSURE_WATCH",
        ] {
            self.environment.remove(name);
        }
        self
    }
}

/// Lets `services` be started: writes their drop-ins, and puts the stand-in where their programs would be.
///
/// A program that the machine has is only hidden from its own service. The caller reloads.
///
/// # Panics
/// When the machine can't be written to.
pub fn prepare(machine: &Machine, services: &BTreeMap<String, Service>) {
    let programs: BTreeSet<_> = services.values().flat_map(main_programs).collect();
    let script = format!(
        "while read -r program; do
             case $program in /*) path=$program ;; *) path=/usr/bin/$program ;; esac
             if [ -e \"$path\" ]; then echo \"$program\"; else mkdir -p \"${{path%/*}}\"; ln -s {STAND_IN} \"$path\"; fi
         done"
    );
    let list: String = programs.iter().flat_map(|program| [program, "\n"]).collect();
    let output = machine.run_with_input(&["sh", "-ec", &script], list.as_bytes());
    assert!(output.success(), "can't put stand-ins into place: {output}");
    let there: BTreeSet<_> = output.stdout.lines().collect();
    let mut files = String::new();
    for (name, service) in services {
        let mut text = BARE.replace("@RECORD@", &format!("{RECORDS}/%n"));
        for program in main_programs(service).filter(|program| there.contains(program)) {
            let path = if program.contains('/') {
                program.to_owned()
            } else {
                format!("/usr/bin/{program}")
            };
            text.push_str(&format!("BindReadOnlyPaths={STAND_IN}:{path}\n"));
        }
        machine_file(&mut files, &format!("/run/systemd/system/{name}.d/{DROP_IN}"), &text);
    }
    let output = machine.run_with_input(&["sh", "-e"], files.as_bytes());
    assert!(output.success(), "can't write drop-ins: {output}");
    let missing = services.values().flat_map(|service| &service.environment_files);
    let missing: String = missing
        .filter(|file| file.starts_with('/'))
        .flat_map(|file| [file, "\n"])
        .collect();
    let touch = "while read -r file; do mkdir -p \"${file%/*}\"; [ -e \"$file\" ] || : >\"$file\"; done";
    machine.run_with_input(&["sh", "-c", touch], missing.as_bytes());
}

/// Takes the drop-ins away again. The caller reloads.
///
/// # Panics
/// When the machine can't be written to.
pub fn undo(machine: &Machine) {
    machine.ok(&format!("rm -f /run/systemd/system/*.d/{DROP_IN}"));
}

fn main_programs(service: &Service) -> impl Iterator<Item = &str> {
    let commands = service.lists.get("ExecStart").into_iter().flatten();
    commands.map(|command| command.path.as_str())
}

fn machine_file(script: &mut String, path: &str, text: &str) {
    script.push_str(&format!(
        "mkdir -p '{path}'; rmdir '{path}'; cat >'{path}' <<'END-OF-FILE'\n{text}END-OF-FILE\n"
    ));
}

/// Starts services, each for itself, and returns what their main commands saw, one record for each.
///
/// # Errors
/// When what was recorded can't be read.
///
/// # Panics
/// When they don't end.
pub fn start(machine: &Machine, names: &[&str]) -> Result<BTreeMap<String, Vec<Record>>> {
    machine.ok(&format!("rm -rf {RECORDS} && mkdir {RECORDS}"));
    // Without their dependencies: none of them is to be started for real.
    let command = [
        "systemctl",
        "start",
        "--no-block",
        "--job-mode=ignore-dependencies",
        "--",
    ];
    // Which of them could not be, is seen by the records that are missing.
    machine.run(&[&command[..], names].concat());
    machine.wait_until(Duration::from_secs(120), "all services have ended", |machine| {
        machine
            .run(&["systemctl", "list-jobs", "--no-legend"])
            .stdout
            .is_empty()
    });
    let directory = tempfile::tempdir()?;
    machine.copy_out(RECORDS, directory.path());
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(directory.path())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let text = fs::read_to_string(&path)?;
        let lines: Result<Vec<Record>, _> = text.lines().map(serde_json::from_str).collect();
        records.insert(name.clone(), lines.with_context(|| format!("odd record of {name}"))?);
    }
    Ok(records)
}
