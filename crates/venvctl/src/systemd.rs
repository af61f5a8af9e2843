//! What systemd says of units, for `status`.

use std::fs;
use std::io;

use serde::Serialize;
use zbus::{Connection, OwnedObjectPath, Proxy};

use crate::failure::Failure;

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// How a unit stands.
#[derive(Debug, Serialize)]
pub(crate) struct UnitState {
    /// `ActiveState`, or `LoadState` where it is not loaded.
    pub(crate) active: String,
    pub(crate) main_pid: Option<u32>,
    /// The tag that its main process was started with.
    pub(crate) tag: Option<String>,
    /// Its main process is another user's, so that the tag can't be told.
    pub(crate) hidden: bool,
    /// Its main process wrote a title over its variables, as setproctitle does: then nobody can tell.
    pub(crate) overwritten: bool,
}

/// Returns the state of each unit; nothing where the system bus can't be reached.
pub(crate) fn states(units: &[String]) -> Result<Option<Vec<(String, UnitState)>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("io", format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let Ok(connection) = Connection::system().await else {
            // A chroot or a container without systemd, or the bus is down. Everything else of `status` still holds.
            return Ok(None);
        };
        let mut states = Vec::new();
        for unit in units {
            // A template has no state of its own.
            if unit.contains("@.") {
                continue;
            }
            let state = state(&connection, unit)
                .await
                .map_err(|error| Failure::refused("systemd", format!("cannot ask systemd about {unit}: {error}")))?;
            states.push((unit.clone(), state));
        }
        Ok(Some(states))
    })
}

async fn state(connection: &Connection, unit: &str) -> zbus::Result<UnitState> {
    let manager = Proxy::new(
        connection,
        SYSTEMD,
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
    )
    .await?;
    let path: OwnedObjectPath = manager.call("LoadUnit", &(unit)).await?;
    let properties = Proxy::new(connection, SYSTEMD, path.clone(), "org.freedesktop.systemd1.Unit").await?;
    let load: String = properties.get_property("LoadState").await?;
    if load != "loaded" {
        return Ok(UnitState {
            active: load,
            main_pid: None,
            tag: None,
            hidden: false,
            overwritten: false,
        });
    }
    let active: String = properties.get_property("ActiveState").await?;
    let service = Proxy::new(connection, SYSTEMD, path, "org.freedesktop.systemd1.Service").await?;
    let pid: u32 = service.get_property("MainPID").await?;
    let main_pid = (pid != 0).then_some(pid);
    let environment = main_pid.map(|pid| fs::read(format!("/proc/{pid}/environ")));
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    Ok(UnitState {
        active,
        main_pid,
        hidden: matches!(&environment, Some(Err(error)) if denied(error)),
        overwritten: matches!(&environment, Some(Ok(variables)) if is_overwritten(variables)),
        // Any other error: the process is gone.
        tag: environment
            .and_then(Result::ok)
            .and_then(|variables| tag_in(&variables)),
    })
}

/// systemd gives `INVOCATION_ID` to every service, systemd.exec(5). A process that has just ended has no variables left.
fn is_overwritten(variables: &[u8]) -> bool {
    let mut all = variables.split(|&byte| byte == 0);
    !variables.is_empty() && !all.any(|variable| variable.starts_with(b"INVOCATION_ID="))
}

/// Returns `VENVD_TAG` in the variables of a process, as proc_pid_environ(5) has them.
fn tag_in(variables: &[u8]) -> Option<String> {
    variables
        .split(|&byte| byte == 0)
        .find_map(|variable| variable.strip_prefix(b"VENVD_TAG="))
        .map(|tag| String::from_utf8_lossy(tag).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_over_the_variables_is_noticed() {
        for (variables, overwritten) in [
            (&b"A=1\0INVOCATION_ID=0\0VENVD_TAG=2\0"[..], false),
            (b"INVOCATION_ID=0\0", false),
            (b"", false),
            (b"neutron-server: api worker\0\0\0", true),
        ] {
            assert_eq!(is_overwritten(variables), overwritten);
        }
    }
}
