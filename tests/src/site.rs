//! A machine on which placement is in force: where tests begin that are about what happens next.

use anyhow::Result;

use crate::tour::supplied;
use crate::{Machine, MachineBuilder, Os, Output};

/// The tag that is in force.
pub const TAG: &str = "14.0.0";

/// The unit that runs from it.
pub const UNIT: &str = "placement-api.service";

/// A machine with placement running from a sealed venv, and what must not change when something is refused.
#[derive(Debug)]
pub struct Site {
    /// The machine.
    pub machine: Machine,
    invocation: String,
}

impl Site {
    /// Boots a machine, installs venvd, and puts placement in force.
    ///
    /// # Errors
    /// When the machine does not boot.
    ///
    /// # Panics
    /// When placement does not come up.
    pub fn new(os: Os) -> Result<Self> {
        Self::on(supplied(os)?)
    }

    /// The same, with `/var/lib/venvd` on a file system that is mounted after the generators ran.
    ///
    /// # Errors
    /// When the machine does not boot.
    ///
    /// # Panics
    /// When placement does not come up.
    pub fn late(os: Os) -> Result<Self> {
        Self::on(supplied(os)?.late_var())
    }

    fn on(machine: MachineBuilder) -> Result<Self> {
        let machine = machine.boot()?;
        machine.ok("useradd --system --user-group --create-home --home-dir /var/lib/placement placement");
        machine.ok("dpkg -i /srv/venvd.deb");
        machine.write(
            "/etc/placement/placement.conf",
            include_str!("../scenario/placement.conf"),
            0o644,
        );
        machine.write(
            "/etc/venvd/apps/placement.toml",
            include_str!("../scenario/placement.toml"),
            0o644,
        );
        for command in [
            &format!("venvctl build placement:{TAG} --lock /srv/locks/placement-{TAG}.txt"),
            &format!("venvctl activate placement:{TAG}"),
            "venv-activate placement -- placement-manage db sync",
            "venvctl enable placement",
            &format!("systemctl start {UNIT}"),
        ] {
            machine.ok(command);
        }
        let mut site = Self {
            machine,
            invocation: String::new(),
        };
        site.invocation = site.machine.unit_property(UNIT, "InvocationID");
        site.assert_serving(TAG);
        Ok(site)
    }

    /// Runs `venvctl` with `--json`, and returns its exit status, the `code` of its answer, and the message.
    #[must_use]
    pub fn venvctl(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.machine.run(&[&["venvctl", "--json"], arguments].concat());
        let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_default();
        let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        println!(
            "venvctl {}: {status} {}\n{}{stderr}",
            arguments.join(" "),
            word("code"),
            word("message")
        );
        (status, word("code"), word("message"))
    }

    /// Panics unless placement answers from this tag.
    ///
    /// # Panics
    /// That is what it is for.
    pub fn assert_serving(&self, tag: &str) {
        let ask = [
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--retry",
            "20",
            "--retry-connrefused",
        ];
        let said = self
            .machine
            .run(&[&ask[..], &["--retry-delay", "1", "http://127.0.0.1:8778/"]].concat());
        assert_eq!(said.stdout, "200", "{said}");
        let environment = self.machine.environ_of(self.machine.main_pid(UNIT));
        assert_eq!(environment.get("VENVD_TAG").map(String::as_str), Some(tag));
    }

    /// Panics unless the same process of placement as in the beginning serves, and nothing is left of an activation.
    ///
    /// # Panics
    /// That is what it is for.
    pub fn assert_untouched(&self) {
        self.assert_serving(TAG);
        assert_eq!(
            self.machine.unit_property(UNIT, "InvocationID"),
            self.invocation,
            "it was restarted"
        );
        let venv = format!("/var/lib/venvd/venvs/placement/{TAG}");
        for link in ["active", "committed"] {
            assert_eq!(
                self.machine.ok(&format!("readlink /etc/venvd/{link}/placement")),
                venv,
                "{link}"
            );
        }
        assert_eq!(self.machine.ok("ls /etc/venvd/pending"), "", "an activation is open");
    }
}
