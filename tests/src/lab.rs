//! An app that is small enough to be activated many times: a chain of units whose only work is to say
//! what they do, and venvs that fail in each way there is (`scenario/lab`). Where tests begin that are about activations.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::tour::supplied;
use crate::{Machine, Os};

/// As long as an activation may take on a busy host, beside what its own definition lets it wait for.
pub const SOON: Duration = Duration::from_secs(20);

/// The venvs that tests activate back and forth: both do as they should.
pub const GOOD: [(&str, &str); 2] = [("a", "good"), ("b", "good")];

/// Kinds of venvs, besides `good`. What each does is in `scenario/lab/lab.py`.
const KINDS: [&str; 12] = [
    "good",
    "missing",
    "exits",
    "exits-later",
    "hangs",
    "crashes",
    "eats",
    "killed",
    "unhealthy",
    "fails-before-stop",
    "fails-while-stopped",
    "fails-after-start",
];

/// A machine with the app `lab`, and the first of its venvs in force.
#[derive(Debug)]
pub struct Lab {
    /// The machine.
    pub machine: Machine,
    units: Vec<String>,
}

/// A unit as systemd shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnitState {
    /// `ActiveState`
    pub active_state: String,
    /// `Result`
    pub result: String,
    /// `InvocationID`
    #[serde(rename = "InvocationID")]
    pub invocation: String,
    /// The tag that its main process was started with.
    pub tag: Option<String>,
}

/// How the app stands.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    /// Its units.
    pub units: BTreeMap<String, UnitState>,
    /// The tags that its links name: `active`, `committed`, `previous`.
    pub links: BTreeMap<String, Option<String>>,
    /// The markers of open activations.
    pub pending: Vec<String>,
    /// Links that were begun to be made beside those, and never named.
    pub litter: Vec<String>,
    /// The numbers of open activations.
    pub open: Vec<u32>,
    /// The number of the last activation.
    pub last: u32,
    /// Where that is.
    pub phase: Value,
}

impl State {
    /// Returns whether this venv is in force, all units run it, and nothing is left of an activation.
    #[must_use]
    pub fn is_on(&self, tag: &str) -> bool {
        let names = |link: &str| self.links[link].as_deref() == Some(tag);
        let runs = |unit: &UnitState| unit.active_state == "active" && unit.tag.as_deref() == Some(tag);
        let over = self.pending.is_empty() && self.open.is_empty();
        names("active") && names("committed") && over && self.units.values().all(runs)
    }

    /// Returns the invocations of all units.
    #[must_use]
    pub fn invocations(&self) -> Vec<&str> {
        self.units.values().map(|unit| unit.invocation.as_str()).collect()
    }
}

/// What a unit's program wrote down.
#[derive(Debug, Clone)]
pub struct Line {
    /// `start`, `stop`, or `stopped` by a command of its own.
    pub what: String,
    /// The unit, without its suffix.
    pub unit: String,
    /// The tag of the venv that ran.
    pub tag: String,
    /// The tag that the committed link named.
    pub in_force: String,
    /// When, on the host's monotonic clock.
    pub at: u64,
    /// In which boot.
    pub boot: String,
}

impl Lab {
    /// Boots a machine, installs venvd, makes a chain of so many units, builds these venvs (tag and kind), and puts the
    /// first in force.
    ///
    /// # Errors
    /// When the machine does not boot.
    ///
    /// # Panics
    /// When a step of that fails.
    pub fn new(os: Os, units: usize, venvs: &[(&str, &str)]) -> Result<Self> {
        let machine = supplied(os)?.boot()?;
        machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/lab"), "/srv/lab");
        machine.ok(&format!(
            "useradd --system --user-group lab && install -d -o lab /var/lib/lab && dpkg -i /srv/venvd.deb && \
             python3 /srv/lab/wheels.py {}",
            KINDS.join(" ")
        ));
        let mut lab = Self {
            machine,
            units: Vec::new(),
        };
        lab.set_units(units, |number| {
            let before = number.checked_sub(1).filter(|before| *before > 0);
            before.into_iter().collect()
        });
        lab.define("");
        lab.build(venvs);
        let first = venvs.first().map_or("a", |(tag, _)| tag);
        lab.machine
            .ok(&format!("venvctl activate lab:{first} && venvctl enable lab"));
        lab.start();
        lab.assert_on(first);
        Ok(lab)
    }

    /// Makes so many units, each of which requires, and starts after, those that `behind` names of its number.
    ///
    /// # Panics
    /// When they can't be written.
    pub fn set_units(&mut self, units: usize, behind: impl Fn(usize) -> Vec<usize>) {
        let mut definition = DEFINITION.to_owned();
        self.units.clear();
        let mut files = String::new();
        for number in 1..=units {
            let needs: Vec<_> = behind(number)
                .iter()
                .map(|behind| format!("lab-{behind}.service"))
                .collect();
            let needs = needs.join(" ");
            // A line that names nothing is one that means nothing.
            let unit = PACKAGED.replace("NEEDS", &needs).replace("NUMBER", &number.to_string());
            _ = write!(
                files,
                "cat >/usr/lib/systemd/system/lab-{number}.service <<'END'\n{unit}END\n"
            );
            _ = writeln!(definition, "[units.\"lab-{number}.service\"]");
            self.units.push(format!("lab-{number}.service"));
        }
        self.machine.ok(&files);
        self.machine.write("/etc/venvd/apps/lab.toml", definition, 0o644);
        self.machine.ok(&format!(
            "systemctl daemon-reload && systemctl enable -q {}",
            self.units.join(" ")
        ));
    }

    /// Starts all units.
    ///
    /// # Panics
    /// When one does not start.
    pub fn start(&self) {
        self.machine.ok(&format!("systemctl start {}", self.units.join(" ")));
    }

    /// Returns the units' names.
    #[must_use]
    pub fn units(&self) -> &[String] {
        &self.units
    }

    /// Builds venvs: tag and kind.
    ///
    /// # Panics
    /// When one can't be built.
    pub fn build(&self, venvs: &[(&str, &str)]) {
        for (tag, kind) in venvs {
            self.machine
                .ok(&format!("venvctl build lab:{tag} --lock /srv/lab/locks/{kind}.txt"));
        }
    }

    /// Adds this to the definition, in the place of what was added before.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn define(&self, fragment: &str) {
        self.machine
            .write("/etc/venvd/apps/lab.toml.d/50-test.toml", fragment, 0o644);
    }

    /// Adds this to the first unit, in the place of what was added before.
    ///
    /// # Panics
    /// When systemd does not read its units anew.
    pub fn change_unit(&self, settings: &str) {
        self.machine
            .write("/etc/systemd/system/lab-1.service.d/50-test.conf", settings, 0o644);
        self.machine.ok("systemctl daemon-reload");
    }

    /// Forgets which venvs did not run well, so that they get another chance.
    ///
    /// # Panics
    /// When that can't be removed.
    pub fn forgive(&self) {
        self.machine.ok("rm -rf /var/lib/venvd/known-bad");
    }

    /// Does something with venvctl; returns its exit status and the report.
    ///
    /// # Panics
    /// When it prints no report.
    #[track_caller]
    #[must_use]
    pub fn venvctl(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.machine.run(&[&["venvctl", "--json"], arguments].concat());
        let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output}"));
        (output.status, report)
    }

    /// Flips the link to a venv, as anybody would.
    ///
    /// # Panics
    /// When that fails.
    pub fn flip(&self, tag: &str) {
        self.machine
            .ok(&format!("ln -sfn /var/lib/venvd/venvs/lab/{tag} /etc/venvd/active/lab"));
    }

    /// Returns how the app stands.
    ///
    /// # Panics
    /// When that can't be found out.
    #[track_caller]
    #[must_use]
    pub fn state(&self) -> State {
        let mut command = vec!["python3", "/srv/lab/state.py"];
        command.extend(self.units.iter().map(String::as_str));
        let said = self.machine.run(&command);
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("no state ({error}): {said}"))
    }

    /// Forgets what the units' programs wrote down.
    ///
    /// # Panics
    /// When that can't be removed.
    pub fn forget_log(&self) {
        self.machine.ok("rm -f /var/lib/lab/log");
    }

    /// Returns what the units' programs wrote down since this was asked last.
    ///
    /// # Panics
    /// When a line is not what they write.
    #[track_caller]
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        let text = self
            .machine
            .ok("cat /var/lib/lab/log 2>/dev/null; rm -f /var/lib/lab/log");
        let line = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let [what, unit, tag, in_force, at, boot, _] = &words[..] else {
                panic!("what is {line:?}?");
            };
            Line {
                what: what.clone(),
                unit: unit.clone(),
                tag: tag.clone(),
                in_force: in_force.clone(),
                at: at.parse().unwrap_or_else(|error| panic!("{line:?}: {error}")),
                boot: boot.clone(),
            }
        };
        text.lines().map(line).collect()
    }

    /// Waits until no activation is open, and venvd has seen all flips.
    ///
    /// # Panics
    /// When that is not so soon.
    #[track_caller]
    pub fn wait_idle(&self) {
        let mut last = None;
        let begin = Instant::now();
        while begin.elapsed() < SOON {
            let state = self.state();
            if state.open.is_empty() && state.pending.is_empty() && state.links["active"] == state.links["committed"] {
                return;
            }
            last = Some(state);
            thread::sleep(Duration::from_millis(50));
        }
        panic!("an activation is open: {last:#?}");
    }

    /// Panics unless this venv is in force, all units run it, and nothing is left of an activation.
    ///
    /// # Panics
    /// That is what it is for.
    #[track_caller]
    pub fn assert_on(&self, tag: &str) {
        let state = self.state();
        assert!(state.is_on(tag), "not all is on {tag}: {state:#?}");
    }
}

const DEFINITION: &str = "user = \"lab\"
[build]
packages = [\"lab\"]
[build.index]
find-links = [\"/srv/lab/wheels\"]
no-index = true
[health]
settle = \"300ms\"
timeout = \"20s\"
";

/// Tests restart it more often than a service should be.
const PACKAGED: &str = "[Unit]
After=NEEDS
Requires=NEEDS
StartLimitIntervalSec=0

[Service]
Type=notify
User=lab
ExecStart=/usr/bin/lab-serve lab-NUMBER

[Install]
WantedBy=multi-user.target
";
