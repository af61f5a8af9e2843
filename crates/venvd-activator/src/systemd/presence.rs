//! Whether systemd is there. When it executes itself anew (`systemctl daemon-reexec`, an upgrade of its package), it
//! leaves the bus and comes back as somebody else; what it was asked meanwhile fails, and says nothing of units.

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zbus::Connection;
use zbus::fdo::DBusProxy;

use super::proxies::ManagerProxy;

/// Follows systemd on the bus.
#[derive(Debug)]
pub(super) struct Presence {
    /// How often its owner has changed, and whether it has one.
    seen: watch::Receiver<(u64, bool)>,
    listener: JoinHandle<()>,
    bus: DBusProxy<'static>,
}

impl Presence {
    /// Begins to follow it.
    pub(super) async fn follow(connection: &Connection, manager: &ManagerProxy<'static>) -> zbus::Result<Self> {
        let mut owners = manager.inner().receive_owner_changed().await?;
        let (tell, seen) = watch::channel((0, true));
        let listener = tokio::spawn(async move {
            while let Some(owner) = owners.next().await {
                tell.send_modify(|(generation, is_there)| {
                    *generation += 1;
                    *is_there = owner.is_some();
                });
            }
        });
        Ok(Self {
            seen,
            listener,
            bus: DBusProxy::new(connection).await?,
        })
    }

    /// Returns a number that changes with its owner.
    pub(super) fn generation(&self) -> u64 {
        self.seen.borrow().0
    }

    /// Returns whether the owner has changed since then; waits until there is one. Never returns when the bus is gone.
    pub(super) async fn is_another_since(&self, generation: u64) -> bool {
        // Also what is on its way to us has arrived with the answer.
        if self.bus.get_id().await.is_err() {
            std::future::pending::<()>().await;
        }
        let mut seen = self.seen.clone();
        if seen.wait_for(|(_, is_there)| *is_there).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.generation() != generation
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
