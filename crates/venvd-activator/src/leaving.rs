//! Ends the rights of venvs that are in force no more: when no process of the app's units runs them any longer, or when
//! their time is over (`policy-grace` of the settings).
//!
//! Who runs one is asked of all processes, which takes some time on a large host; so that is done only when those that
//! were found have ended.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use tokio::sync::Notify;
use venvd_app::{AppName, Layout};
use venvd_fs::lock::Lock;
use venvd_fs::report;
use venvd_policy::Edited;
use venvd_policy::leaving::{self, Leaving};

use crate::admit::{Running, end_daemons, look};
use crate::aside::aside;
use crate::host::Host;
use crate::log;
use crate::machine::Failure;

/// How long to wait for an activation that is under way, or for what could not be done.
const AGAIN: Duration = Duration::from_secs(10);

/// How often it is asked whether processes have ended.
const LOOK: Duration = Duration::from_millis(500);

/// When nothing ends for this long, it is looked all the same.
const DAY: Duration = Duration::from_secs(86_400);

/// What to wait for before the next look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wait {
    /// The ends of all of these processes.
    processes: Vec<u32>,
    /// At the latest.
    until: Option<Duration>,
}

/// Looks whenever it is told to, when processes have ended, and when somebody's time is over.
pub(crate) async fn watch(layout: &Layout, told: &Notify) -> Infallible {
    loop {
        let host = Host::new(layout);
        let wait = aside(move || round(&host)).await.unwrap_or_else(|failure| {
            tracing::error!("{}", failure.message);
            Wait::at_the_latest(AGAIN)
        });
        let Some(until) = wait.until else {
            told.notified().await;
            continue;
        };
        tokio::select! {
            () = told.notified() => {}
            () = tokio::time::sleep(until.saturating_sub(leaving::now())) => {}
            () = ended(&wait.processes), if !wait.processes.is_empty() => {}
        }
    }
}

impl Wait {
    fn at_the_latest(after: Duration) -> Self {
        let mut wait = Self::default();
        wait.until_at_most(leaving::now() + after);
        wait
    }

    fn until_at_most(&mut self, until: Duration) {
        self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
    }

    fn for_these(&mut self, (leaving, processes): &Running) {
        // Some wait for a restart that nobody has announced: a timer has no such time.
        self.until_at_most(leaving.until.min(leaving::now() + DAY));
        self.processes.extend(processes.iter().map(|process| process.pid));
    }
}

/// Looks at all apps once, and returns what to wait for.
fn round(host: &Host) -> Wait {
    let apps = match leaving::apps(host.layout()) {
        Ok(apps) => apps,
        Err(error) => {
            tracing::error!("nobody's rights are ended: {}", report(&error));
            return Wait::at_the_latest(AGAIN);
        }
    };
    let mut wait = Wait::default();
    for app in apps {
        match one(host, &app) {
            Ok(Some(still)) => still.iter().for_each(|still| wait.for_these(still)),
            Ok(None) => wait.until_at_most(leaving::now() + AGAIN),
            Err(failure) => {
                tracing::error!(venvd_app = %app, "{app}: earlier rights do not end: {}", failure.message);
                wait.until_at_most(leaving::now() + AGAIN);
            }
        }
    }
    wait
}

/// Ends what is due of one app, and returns who stays; nothing when an activation has it in hand.
fn one(host: &Host, name: &AppName) -> Result<Option<Vec<Running>>, Failure> {
    let layout = host.layout();
    let Some(_lock) = Lock::try_exclusive(&layout.app_lock(name))? else {
        return Ok(None);
    };
    if layout.pending(name).exists() {
        return Ok(None);
    }
    let before = leaving::read(layout, name)?;
    let (app, on) = host.app_in_force(name)?;
    let in_force = if on.enabled && on.admitted {
        host.in_force(&app)?
    } else {
        None
    };
    let Some(in_force) = in_force else {
        // Whoever turned it off has taken all rights.
        leaving::write(layout, name, &[])?;
        return Ok(Some(Vec::new()));
    };
    let now = leaving::now();
    let still = look(layout, before.clone(), now);
    let stay: Vec<Leaving> = still.iter().map(|(leaving, _)| leaving.clone()).collect();
    if stay != before {
        match venvd_policy::write(layout, &app, &leaving::in_order(&in_force, &stay), Edited::Refuse) {
            // Whoever edited it has seen what it said, and answers for it now.
            Err(error @ venvd_policy::Error::Edited { .. }) => {
                tracing::warn!(venvd_app = %name, "{name}: earlier rights stay as they were edited: {}", report(&error));
                leaving::write(layout, name, &[])?;
                return Ok(Some(Vec::new()));
            }
            result => drop(result?),
        }
        leaving::write(layout, name, &stay)?;
        end_daemons(layout, (&before, &stay));
        for gone in before.iter().filter(|leaving| !stay.contains(leaving)) {
            let why = if gone.until <= now {
                "their time (policy-grace) is over"
            } else {
                "nothing runs it any more"
            };
            log::rights_ended(gone.venv.name(), why);
        }
    }
    Ok(Some(still))
}

/// Waits until all of these processes have ended.
async fn ended(processes: &[u32]) {
    // Of one that has ended and was not waited for there is no executable any more, proc(5).
    let lives = |process: &u32| fs::read_link(format!("/proc/{process}/exe")).is_ok();
    loop {
        tokio::time::sleep(LOOK).await;
        if !processes.iter().any(lives) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
