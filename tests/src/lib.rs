//! Machines for tests: a real systemd as PID 1 on a throw-away copy of a Debian root.
//!
//! [`Machine`] boots one, [`roots`] makes the Debian roots once, [`wheels`] fetches the Python packages once,
//! [`corpus`] the unit files of Debian packages, and [`prepare`] does all of that beforehand, so that no test waits for a download. Everything lives in one cache
//! directory, [`cache::dir`], outside the source tree.
//!
//! The methods that a scenario is made of ([`Machine::ok`], [`Machine::write`] …) panic with the command and its
//! output: in a test that is the report. What comes before a scenario (making roots, booting) returns errors.

pub mod bench;
pub mod cache;
pub mod corpus;
pub mod demo;
pub mod host;
pub mod lab;
pub mod locks;
mod machine;
mod os;
pub mod roots;
pub mod site;
pub mod sudo_rs;
pub mod terminal;
pub mod tools;
pub mod tour;
pub mod wheels;

pub use machine::{BootError, Machine, MachineBuilder, MemoryLimit, Output};
pub use os::Os;

use anyhow::Result;

/// Makes whatever is not in the cache yet: the tools, both roots and the wheels for both.
///
/// `progress` gets one line per step. Two processes may call this at once: the second waits for the first.
///
/// # Errors
/// The first step that failed, and what to do about it.
pub fn prepare(progress: &mut dyn FnMut(&str)) -> Result<()> {
    host::check(host::Purpose::Prepare)?;
    cache::sweep()?;
    for os in Os::ALL {
        progress(&format!("root of {os}"));
        let root = roots::ensure(os)?;
        progress(&format!("root of {os}: {}", root.display()));
    }
    for os in Os::ALL {
        progress(&format!("wheels for {os}"));
        let wheels = wheels::ensure(os)?;
        progress(&format!("wheels for {os}: {}", wheels.display()));
    }
    for os in Os::ALL {
        progress(&format!("unit files of {os}"));
        let corpus = corpus::ensure(os)?;
        progress(&format!("unit files of {os}: {}", corpus.display()));
    }
    if sudo_rs::can_be_built() {
        progress("the newest sudo-rs");
        progress(&format!("the newest sudo-rs: {}", sudo_rs::ensure()?.display()));
    }
    Ok(())
}
