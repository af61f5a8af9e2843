//! When the machine goes down, venvd lets go of what it works on: units that systemd stops now have not failed, and the
//! next boot decides (`recover`).
//!
//! It is told twice. logind says so before anything is stopped, and waits a moment for whoever holds a delay lock
//! (<https://systemd.io/INHIBITOR_LOCKS>). systemd says so by the job of `shutdown.target`, which each way down has,
//! also those that ask no logind; that job is announced before those of the units that it stops.

#![expect(clippy::too_many_arguments, reason = "a method has those of its D-Bus signature")]

use std::time::Duration;

use futures_util::StreamExt;
use venvd_app::Scope;
use zbus::{Connection, OwnedFd, proxy};

use crate::systemd::{JobNewStream, JobRemovedStream, ManagerProxy};

/// The target that is started whenever a manager ends: systemd.special(7).
const TARGET: &str = "shutdown.target";

/// As long as logind may take to answer. An activation does not hang on it.
const PATIENCE: Duration = Duration::from_secs(1);

#[proxy(
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    interface = "org.freedesktop.login1.Manager"
)]
trait Login {
    /// Delays or forbids something for as long as what it returns is open.
    #[zbus(no_autostart)]
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;
    /// The machine is about to go down, or it does not after all.
    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;
}

/// Delays a shutdown, where there is a logind.
#[derive(Debug)]
pub(crate) struct Inhibitor(Option<LoginProxy<'static>>);

impl Inhibitor {
    /// Delays it for as long as the result is held.
    ///
    /// A delay, no refusal: whoever switches a machine off means it. It gives venvd the time to let go.
    pub(crate) async fn hold(&self) -> Option<OwnedFd> {
        let login = self.0.as_ref()?;
        let asked = login.inhibit("shutdown", "venvd", "An activation is under way", "delay");
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(lock)) => Some(lock),
            // A container or a small system has no logind. What it says is heard from systemd, too.
            Ok(Err(error)) => {
                tracing::debug!("a shutdown is not delayed: {error}");
                None
            }
            Err(_) => {
                tracing::warn!("a shutdown is not delayed: logind does not answer");
                None
            }
        }
    }
}

/// Listens for a shutdown. It must be polled as long as it is there, as any stream of the bus.
pub(crate) struct Shutdown {
    begun: JobNewStream,
    ended: JobRemovedStream,
    prepared: Option<PrepareForShutdownStream>,
}

impl Shutdown {
    /// Begins to listen, on a connection to which systemd sends signals.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub(crate) async fn listen(connection: &Connection, scope: Scope) -> zbus::Result<(Self, Inhibitor)> {
        let systemd = ManagerProxy::new(connection).await?;
        // A user's manager ends without logind, and is on another bus than that.
        let login = match scope {
            Scope::System => Some(LoginProxy::new(connection).await?),
            Scope::User => None,
        };
        let prepared = match &login {
            Some(login) => Some(login.receive_prepare_for_shutdown().await?),
            None => None,
        };
        let shutdown = Self {
            begun: systemd.receive_job_new_with_args(&[(2, TARGET)]).await?,
            ended: systemd.receive_job_removed_with_args(&[(2, TARGET)]).await?,
            prepared,
        };
        Ok((shutdown, Inhibitor(login)))
    }

    /// Waits until the machine goes down.
    pub(crate) async fn begins(&mut self) {
        loop {
            tokio::select! {
                Some(_) = self.begun.next() => return,
                // Of an earlier one that was called off.
                Some(_) = self.ended.next() => {}
                Some(start) = prepared(&mut self.prepared) => if start { return },
                else => std::future::pending().await,
            }
        }
    }

    /// Waits until it is said that the machine does not go down after all; if it does, this never ends.
    pub(crate) async fn is_called_off(&mut self) {
        loop {
            tokio::select! {
                Some(_) = self.ended.next() => return,
                Some(_) = self.begun.next() => {}
                Some(start) = prepared(&mut self.prepared) => if !start { return },
                else => std::future::pending().await,
            }
        }
    }
}

/// Returns what logind says next, if it can say anything.
async fn prepared(stream: &mut Option<PrepareForShutdownStream>) -> Option<bool> {
    let signal = stream.as_mut()?.next().await?;
    match signal.args() {
        Ok(args) => Some(args.start),
        Err(error) => {
            tracing::warn!("cannot read a PrepareForShutdown signal of logind: {error}");
            None
        }
    }
}
