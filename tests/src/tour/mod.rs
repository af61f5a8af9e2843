//! The tour: two real OpenStack services from nothing to a venv, up, down and back, step by step.
//!
//! `make demo` shows it to people, and the machine tests take the same steps on every release.

mod services;
mod steps;

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result};

use crate::{Machine, MachineBuilder, Os, wheels};

pub use services::{CINDER, declare, lay_out};

/// Something that a step claims, and whether it was so.
#[derive(Debug)]
pub struct Shown {
    /// The step's letter.
    pub step: char,
    /// What was to be shown.
    pub what: String,
    /// Whether it was so.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}

/// A step of the tour.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Its letter.
    pub letter: char,
    /// One line that explains it.
    pub title: &'static str,
    act: fn(&mut Tour) -> Result<()>,
}

/// All steps, in order. Each builds on those before it.
pub const STEPS: [Step; 7] = [
    Step {
        letter: 'a',
        title: "install venvd from its Debian package, and declare two apps",
        act: steps::install,
    },
    Step {
        letter: 'b',
        title: "build two releases of each from locks with hashes",
        act: steps::build,
    },
    Step {
        letter: 'c',
        title: "create the databases through venv-activate, as the service users",
        act: steps::databases,
    },
    Step {
        letter: 'd',
        title: "switch both apps on and reboot: the units come up from the venvs",
        act: steps::reboot,
    },
    Step {
        letter: 'e',
        title: "the service user may run what rootwrap allows, and nothing else",
        act: steps::rootwrap,
    },
    Step {
        letter: 'f',
        title: "activate the next release, then go back by a plain `ln -sfn`",
        act: steps::flip,
    },
    Step {
        letter: 'g',
        title: "switch both off: the distribution's state is back, byte for byte",
        act: steps::disable,
    },
];

/// A machine on its way through the steps, and what was shown so far.
#[derive(Debug)]
pub struct Tour {
    machine: Machine,
    /// Told each thing that is done.
    say: fn(&str),
    shown: Vec<Shown>,
    letter: char,
    /// What the distribution's files looked like before venvd.
    before: String,
}

impl Tour {
    /// Boots the machine, with `/var/lib/venvd` on a file system that is mounted late.
    ///
    /// # Errors
    /// When the package is missing or the machine does not boot.
    pub fn begin(os: Os, say: fn(&str)) -> Result<Self> {
        let machine = supplied(os)?.late_var().boot()?;
        Ok(Self {
            machine,
            say,
            shown: Vec::new(),
            letter: ' ',
            before: String::new(),
        })
    }

    /// Takes one step.
    ///
    /// # Errors
    /// When the machine does not come up again.
    ///
    /// # Panics
    /// When a command fails that has to succeed for the rest to mean anything.
    pub fn take(&mut self, step: &Step) -> Result<()> {
        self.letter = step.letter;
        (step.act)(self)
    }

    /// What was shown so far.
    #[must_use]
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Notes a claim, whether it holds, and what was seen.
    fn show(&mut self, what: &str, holds: bool, seen: impl Into<String>) {
        let seen = seen.into();
        (self.say)(&format!("{} {what}: {seen}", if holds { "ok " } else { "NOT" }));
        self.shown.push(Shown {
            step: self.letter,
            what: what.to_owned(),
            holds,
            seen,
        });
    }

    /// Runs a shell line that has to succeed, saying so.
    fn run(&self, line: &str) -> String {
        (self.say)(&format!("  # {line}"));
        let begin = Instant::now();
        let output = self.machine.ok(line);
        if begin.elapsed().as_secs() >= 2 {
            (self.say)(&format!("    ({:.1} s)", begin.elapsed().as_secs_f64()));
        }
        output
    }
}

/// A machine to be, with what venvd is installed and builds from: `/srv/venvd.deb`, `/srv/wheels`, `/srv/locks`.
///
/// # Errors
/// When the package is missing or the wheels can't be fetched.
pub fn supplied(os: Os) -> Result<MachineBuilder> {
    let locks = Path::new(env!("CARGO_MANIFEST_DIR")).join("locks");
    Ok(MachineBuilder::new(os)
        .bind_ro(wheels::ensure(os)?, wheels::GUEST)
        .bind_ro(locks, "/srv/locks")
        .bind_ro(package()?, "/srv/venvd.deb"))
}

/// The Debian package under test: `VENVD_DEB`, which `make` sets.
///
/// # Errors
/// When it is not there.
fn package() -> Result<PathBuf> {
    let path =
        env::var_os("VENVD_DEB").context("VENVD_DEB is not set: run this through make, which builds the package")?;
    fs::canonicalize(&path).with_context(|| format!("no package at {}: `make deb` builds it", path.display()))
}
