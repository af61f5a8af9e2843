//! venvd, the daemon: a flip of the active link is a transaction.
//!
//! - [`machine`]: what comes next, without any I/O
//! - [`transaction`]: its journal file
//! - `driver`: performs effects; `host` those on files, `systemd` those on units
//! - `watch`, `service`, `desk`, `request`: where requests come from
//! - `progress`: how the units do meanwhile
//! - [`digest`]: what somebody said yes to
//! - [`commands`]: hooks and health commands
//! - `actor`: one after the other
//! - `leftovers`: processes of the venv before that an activation leaves behind
//! - `plan`: what it would do
//! - `recover`: at boot, before the apps' units
//! - `admit`, `leaving`: which venvs have rights during an activation, and when those of the old one end
//! - `policies`: sudoers and rootwrap.conf as this boot needs them
//! - `exposed`: links of exposed commands
//! - `aside`: what must not keep the event loop from turning
//! - `shutdown`, `watchdog`: when the machine goes down, and when venvd itself hangs

mod actor;
mod admit;
mod aside;
pub mod commands;
mod daemon;
mod desk;
pub mod digest;
mod driver;
mod exposed;
mod host;
mod leaving;
mod leftovers;
mod log;
pub mod machine;
mod plan;
mod policies;
mod progress;
mod recover;
mod request;
mod service;
mod shutdown;
mod systemd;
#[cfg(test)]
mod testing;
pub mod transaction;
mod units;
mod watch;
mod watchdog;

use std::ffi::OsString;

use anyhow::{Context, anyhow};
use venvd_app::{Layout, UserPlaces};
use venvd_fs::Root;

/// Runs the program with these arguments (without its name).
///
/// # Errors
/// What ended it, for stderr and the journal.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    log::init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let layout = if arguments.first().is_some_and(|first| first == "--user") {
        arguments.remove(0);
        Layout::user(Root::host(), &UserPlaces::of_this_process()?)
    } else {
        Layout::new(Root::host())
    };
    let result = match arguments.as_slice() {
        [] => runtime.block_on(daemon::run(&layout)),
        [only] if only == "--recover" => {
            let units = recover::AtBoot(layout.scope());
            runtime.block_on(recover::recover(&layout, units))
        }
        [only] if only == "--policies" => policies::follow(&layout),
        _ => Err(anyhow!(
            "usage: venvd [--user] [--recover|--policies]; each is started by systemd, see venvd.service, \
             venvd-recover.service and venvd-policy-boot.service"
        )),
    };
    // What is half done in a thread of its own may be cut off anywhere, as by a kill; whoever stops venvd waits for nothing.
    runtime.shutdown_background();
    result
}
