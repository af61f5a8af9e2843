//! A small app on a machine: a packaged unit that both the distribution and a venv can run, with sudo rules, a
//! rootwrap.conf and an exposed command, and two venvs of it. Where tests begin that are about what follows a venv, not
//! about its services.

use anyhow::Result;
use serde_json::Value;

use crate::tour::supplied;
use crate::{Machine, Os};

/// The unit.
pub const UNIT: &str = "demo.service";

/// The file that the venv's place in is looked for.
pub const ROOTWRAP: &str = "/etc/demo/rootwrap.conf";

/// What that is without venvd.
pub const ROOTWRAP_TEXT: &str =
    "[DEFAULT]\nfilters_path=/etc/demo/rootwrap.d\nexec_dirs=/sbin,/usr/sbin,/bin,/usr/bin\n";

/// The link of the command that everybody can type.
const LINK: &str = "/usr/local/bin/oslo-rootwrap-daemon";

/// Tests restart it more often than a service should be.
const PACKAGED: &str = "[Unit]
StartLimitIntervalSec=0

[Service]
Type=exec
User=demo
ExecStart=/usr/bin/python3 -c \"import time; time.sleep(1000000)\"

[Install]
WantedBy=multi-user.target
";

const DEFINITION: &str = "user = \"demo\"
[build]
packages = [\"oslo.rootwrap\"]
[build.index]
find-links = [\"/srv/wheels\"]
no-index = true
[units.\"demo.service\"]
programs = [\"python3\"]
[sudo]
commands = [\"oslo-rootwrap /etc/demo/rootwrap.conf *\"]
[rootwrap]
config = \"/etc/demo/rootwrap.conf\"
[health]
settle = \"1s\"
[commands]
expose = [\"oslo-rootwrap-daemon\"]
";

/// A machine with the app `demo`, its venvs `demo:a` and `demo:b`, and the first of them in force.
#[derive(Debug)]
pub struct Demo {
    /// The machine.
    pub machine: Machine,
}

impl Demo {
    /// Boots a machine, installs venvd, and puts `demo:a` in force.
    ///
    /// # Errors
    /// When the machine does not boot.
    ///
    /// # Panics
    /// When a step of that fails.
    pub fn new(os: Os) -> Result<Self> {
        let machine = supplied(os)?.boot()?;
        machine.ok("useradd --system --user-group demo && dpkg -i /srv/venvd.deb");
        machine.write("/usr/lib/systemd/system/demo.service", PACKAGED, 0o644);
        machine.write(ROOTWRAP, ROOTWRAP_TEXT, 0o644);
        machine.write(
            "/etc/demo/rootwrap.d/demo.filters",
            "[Filters]\nid: CommandFilter, id, root\n",
            0o644,
        );
        machine.write("/etc/venvd/apps/demo.toml", DEFINITION, 0o644);
        for command in [
            "venvctl build demo:a --lock /srv/locks/rootwrap-a.txt",
            "venvctl build demo:b --lock /srv/locks/rootwrap-b.txt",
            "systemctl daemon-reload && systemctl enable --now demo.service",
            "venvctl activate demo:a",
            "venvctl enable demo",
        ] {
            machine.ok(command);
        }
        let demo = Self { machine };
        demo.assert_on("a");
        Ok(demo)
    }

    /// Returns what `venvctl status --json` says of the app.
    ///
    /// # Panics
    /// When that is no JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        let text = self.machine.ok("venvctl status --json demo");
        let status: Result<Value, _> = serde_json::from_str(&text);
        let mut status = status.unwrap_or_else(|error| panic!("no JSON ({error}): {text}"));
        status["apps"][0].take()
    }

    /// Returns the codes of what status says is wrong, or good to know.
    ///
    /// # Panics
    /// When status fails.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let status = self.status();
        let problems = status["problems"].as_array().into_iter().flatten();
        problems
            .map(|problem| problem["code"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Runs what status advises about the first problem with this code.
    ///
    /// # Panics
    /// When there is no such problem, or the command fails.
    pub fn follow_advice(&self, code: &str) {
        let status = self.status();
        let mut problems = status["problems"].as_array().into_iter().flatten();
        let problem = problems.find(|problem| problem["code"] == code);
        let advice = problem.and_then(|problem| problem["advice"].as_str());
        let advice = advice.unwrap_or_else(|| panic!("no advice on {code}: {status:#}"));
        // Some have a word in front that says what for.
        let command = advice.split_once("again: ").map_or(advice, |(_, command)| command);
        self.machine.ok(command);
    }

    /// Returns what the service user may run as root: the exit status of a command that rootwrap allows.
    #[must_use]
    pub fn sudo(&self) -> i32 {
        let command = ["sudo", "-n", "oslo-rootwrap", ROOTWRAP, "id", "-u"];
        self.machine.user_run("demo", &command).status
    }

    /// Panics unless unit, sudo and rootwrap.conf are those of this venv, its command can be typed, and status finds them
    /// so.
    ///
    /// # Panics
    /// That is what it is for.
    pub fn assert_on(&self, tag: &str) {
        let venv = format!("/var/lib/venvd/venvs/demo/{tag}");
        assert_eq!(self.running(), Some(tag.to_owned()));
        assert_eq!(self.sudo(), 0, "{}", self.machine.ok("sudo -l -U demo"));
        let rules = self.machine.ok("sudo -l -U demo");
        assert!(rules.contains(&format!("{venv}/bin/oslo-rootwrap")), "{rules}");
        let conf = self.machine.ok(&format!("cat {ROOTWRAP}"));
        assert!(conf.contains(&format!("exec_dirs={venv}/bin,/sbin")), "{conf}");
        assert_eq!(self.machine.ok(&format!("readlink {LINK}")), "/usr/bin/venv-activate");
        let status = self.status();
        assert_eq!(status["in_force"], tag, "{status:#}");
        assert_eq!(unit_of(&status)["tag"], tag, "{status:#}");
        assert_eq!(unit_of(&status)["files"]["tag"], tag, "{status:#}");
    }

    /// Panics unless unit, sudo and rootwrap.conf are the distribution's, and there is no command to type.
    ///
    /// # Panics
    /// That is what it is for.
    pub fn assert_off(&self) {
        assert_eq!(self.running(), None);
        let exec = self.machine.unit_property(UNIT, "ExecStart");
        assert!(exec.contains("path=/usr/bin/python3 ;"), "{exec}");
        assert_ne!(self.sudo(), 0);
        let rules = self.machine.ok("ls /etc/sudoers.d; sudo -l -U demo");
        assert!(!rules.contains("venvd"), "{rules}");
        assert_eq!(self.machine.ok(&format!("cat {ROOTWRAP}")), ROOTWRAP_TEXT.trim_end());
        self.machine.ok(&format!("test ! -L {LINK}"));
        let status = self.status();
        assert_eq!(status["in_force"], Value::Null, "{status:#}");
        assert_eq!(unit_of(&status)["tag"], Value::Null, "{status:#}");
        assert_eq!(unit_of(&status)["files"]["tag"], Value::Null, "{status:#}");
    }

    fn running(&self) -> Option<String> {
        let environment = self.machine.environ_of(self.machine.main_pid(UNIT));
        environment.get("VENVD_TAG").cloned()
    }
}

/// Returns what status says of the unit: a test may have given the app more of them.
fn unit_of(status: &Value) -> &Value {
    let mut units = status["units"].as_array().into_iter().flatten();
    units.find(|unit| unit["unit"] == UNIT).unwrap_or(&Value::Null)
}
