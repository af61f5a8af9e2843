//! Which units have changed, as systemd tells it.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;
use venvd_app::UnitName;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

/// Tells it as long as it is held: of all units of the host, so nobody listens for longer than he must.
#[derive(Debug)]
pub(super) struct Changes {
    changed: UnboundedReceiver<UnitName>,
    listener: JoinHandle<()>,
}

impl Changes {
    /// Begins to listen to these units.
    pub(super) async fn of(connection: &Connection, units: &BTreeMap<UnitName, OwnedObjectPath>) -> zbus::Result<Self> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.systemd1")
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .path_namespace("/org/freedesktop/systemd1/unit")
            .build()?;
        let mut stream = MessageStream::for_match_rule(rule, connection, None).await?;
        let names: BTreeMap<String, UnitName> = units
            .iter()
            .map(|(unit, path)| (path.to_string(), unit.clone()))
            .collect();
        let (told, changed) = mpsc::unbounded_channel();
        // In a task of its own: a stream that nobody reads blocks the whole connection.
        let listener = tokio::spawn(async move {
            while let Some(message) = stream.next().await {
                let Ok(message) = message else { continue };
                let header = message.header();
                let unit = header.path().and_then(|path| names.get(path.as_str()));
                if unit.is_some_and(|unit| told.send(unit.clone()).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { changed, listener })
    }

    /// Returns the units that have changed, at least one.
    pub(super) async fn next(&mut self) -> Vec<UnitName> {
        let mut changed = Vec::new();
        if self.changed.recv_many(&mut changed, usize::MAX).await == 0 {
            // The bus is gone, and with it all that could be asked.
            std::future::pending::<()>().await;
        }
        changed
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
