//! A machine that has the unit files of the corpus.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};
use venvd_unit::UnitId;

use super::{GUEST, ensure, reading::Reading};
use crate::{Machine, MachineBuilder, Os};

/// Where the machine has the program that reads units as we do.
pub(super) const READER: &str = "/srv/read-units";

/// The name that templates are read with an instance of; `%I` and `%i` of it differ.
const INSTANCE: &str = "inst-1";

/// What a directory of units has, as far as packages put something there.
const DIRECTORIES: &str = "/etc/systemd/system /usr/lib/systemd/system";

/// Installs the corpus: what the machine has already stays, as its own packages are in the corpus too.
const INSTALL: &str = r#"set --
for package in "$0"/*/; do set -- "$@" -C "$package" .; done
tar -cf - "$@" | tar -C / -xf - --skip-old-files
systemctl daemon-reload"#;

/// A machine with the corpus in its directories of units.
#[derive(Debug)]
pub struct Site {
    /// The machine.
    pub machine: Machine,
}

impl Site {
    /// Boots a machine, and puts the corpus and `reader` (the program `read-units`) into it.
    ///
    /// # Errors
    /// When the corpus can't be fetched or the machine does not boot.
    pub fn new(builder: MachineBuilder, os: Os, reader: &Path) -> Result<Self> {
        let builder = builder.bind_ro(ensure(os)?, GUEST).bind_ro(reader, READER);
        let machine = builder.boot()?;
        let output = machine.run(&["sh", "-ec", INSTALL, GUEST]);
        anyhow::ensure!(output.success(), "can't install the corpus: {output}");
        Ok(Self { machine })
    }

    /// Returns every name in the directories of units, aliases too; of a template an instance.
    ///
    /// # Panics
    /// When they can't be listed.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let entries = self
            .machine
            .ok(&format!("find {DIRECTORIES} -maxdepth 1 -not -type d -printf '%f\\n'"));
        let names = entries.lines().filter_map(|name| {
            let id = UnitId::parse(name).ok()?;
            Some(if id.is_template() {
                format!("{}@{INSTANCE}.{}", id.prefix(), id.kind())
            } else {
                name.to_owned()
            })
        });
        names.collect()
    }

    /// Reads units as we do, in the machine; specifiers are expanded.
    ///
    /// # Errors
    /// When `read-units` fails.
    pub fn ours(&self, names: &[&str]) -> Result<BTreeMap<String, Reading>> {
        let output = self.machine.run_with_input(&[READER, "/"], names.join("\n").as_bytes());
        anyhow::ensure!(output.success(), "read-units: {output}");
        let readings: BTreeMap<String, Reading> =
            serde_json::from_str(&output.stdout).context("read-units prints no JSON")?;
        Ok(readings)
    }

    /// What the specifiers stand for that are a matter of the system, not of a unit's name.
    #[must_use]
    pub fn specifiers(&self) -> BTreeMap<char, String> {
        let ask = |line: &str| self.machine.ok(line);
        // systemd.unit(5), "Specifiers", for the system manager.
        BTreeMap::from([
            ('t', "/run".to_owned()),
            ('S', "/var/lib".to_owned()),
            ('C', "/var/cache".to_owned()),
            ('L', "/var/log".to_owned()),
            ('E', "/etc".to_owned()),
            ('T', "/tmp".to_owned()),
            ('V', "/var/tmp".to_owned()),
            ('h', "/root".to_owned()),
            ('u', "root".to_owned()),
            ('U', "0".to_owned()),
            ('g', "root".to_owned()),
            ('G', "0".to_owned()),
            ('s', ask("getent passwd root | cut -d: -f7")),
            ('H', ask("hostname")),
            ('l', ask("hostname -s")),
            ('v', ask("uname -r")),
            ('m', ask("cat /etc/machine-id")),
            ('b', ask("tr -d - </proc/sys/kernel/random/boot_id")),
        ])
    }
}
