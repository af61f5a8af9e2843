//! What systemd says of units, and what their processes say of themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use venvd_app::{Layout, Scope};
use zbus::{Connection, OwnedObjectPath, Proxy};

use crate::failure::Failure;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// A unit in `ListUnitsByPatterns`: name, description, states, the unit it follows, objects and job.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// How a unit stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UnitState {
    /// `ActiveState`, or `LoadState` where it is not loaded.
    pub(crate) active: String,
    /// `SubState`.
    pub(crate) sub: String,
    /// Its files changed since systemd read them, as far as that notices.
    pub(crate) need_daemon_reload: bool,
    /// The files that systemd has read: its own and its drop-ins.
    pub(crate) loaded_files: Vec<PathBuf>,
    pub(crate) main_pid: Option<u32>,
    /// The tag that its main process was started with.
    pub(crate) tag: Option<String>,
    /// Its main process is another user's, so that the tag can't be told.
    pub(crate) hidden: bool,
    /// Its main process wrote a title over its variables, as setproctitle does: then nobody can tell.
    pub(crate) overwritten: bool,
}

impl UnitState {
    /// Returns whether it can be told what its main process runs.
    pub(crate) fn is_known(&self) -> bool {
        self.main_pid.is_some() && !self.hidden && !self.overwritten
    }
}

/// Has systemd read its units anew, and the generator write them, where systemd runs.
pub(crate) fn daemon_reload(layout: &Layout) -> Result<(), Failure> {
    if !Path::new("/run/systemd/system").is_dir() || !layout.root().is_host() {
        return Ok(());
    }
    let manager = match layout.scope() {
        Scope::System => "--system",
        Scope::User => "--user",
    };
    let output = Command::new("systemctl").args([manager, "daemon-reload"]).output();
    let output = output.map_err(|error| Failure::refused("systemd", format!("cannot run systemctl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = format!("`systemctl daemon-reload` failed: {}", said.trim());
    Err(Failure::refused("systemd", message))
}

/// Returns the state of each unit, for a template those of its instances; nothing where the bus can't be reached.
pub(crate) fn states(layout: &Layout, units: &[String]) -> Result<Option<Vec<(String, UnitState)>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("io", format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let Ok(connection) = crate::client::bus(layout.scope()).await else {
            // A chroot or a container without systemd, or the bus is down. Everything else of `status` still holds.
            return Ok(None);
        };
        let mut states = Vec::new();
        for unit in units {
            let ask = |error| Failure::refused("systemd", format!("cannot ask systemd about {unit}: {error}"));
            for unit in instances(&connection, unit).await.map_err(ask)? {
                let state = state(&connection, &unit).await.map_err(ask)?;
                states.push((unit, state));
            }
        }
        Ok(Some(states))
    })
}

/// A template has no state of its own.
async fn instances(connection: &Connection, unit: &str) -> zbus::Result<Vec<String>> {
    if !unit.contains("@.") {
        return Ok(vec![unit.to_owned()]);
    }
    let manager = Proxy::new(connection, SYSTEMD, MANAGER_PATH, MANAGER).await?;
    let nothing: Vec<&str> = Vec::new();
    let pattern = unit.replacen("@.", "@*.", 1);
    let listed: Vec<Listed> = manager.call("ListUnitsByPatterns", &(nothing, vec![pattern])).await?;
    Ok(listed.into_iter().map(|unit| unit.0).collect())
}

async fn state(connection: &Connection, unit: &str) -> zbus::Result<UnitState> {
    let manager = Proxy::new(connection, SYSTEMD, MANAGER_PATH, MANAGER).await?;
    let path: OwnedObjectPath = manager.call("LoadUnit", &(unit)).await?;
    let properties = Proxy::new(connection, SYSTEMD, path.clone(), UNIT).await?;
    let load: String = properties.get_property("LoadState").await?;
    let fragment: String = properties.get_property("FragmentPath").await?;
    let drop_ins: Vec<String> = properties.get_property("DropInPaths").await?;
    let loaded = std::iter::once(fragment)
        .chain(drop_ins)
        .filter(|path| !path.is_empty());
    let mut state = UnitState {
        need_daemon_reload: properties.get_property("NeedDaemonReload").await?,
        loaded_files: loaded.map(PathBuf::from).collect(),
        ..UnitState::default()
    };
    if load != "loaded" {
        state.active = load;
        return Ok(state);
    }
    state.active = properties.get_property("ActiveState").await?;
    state.sub = properties.get_property("SubState").await?;
    if unit.ends_with(".service") {
        let service = Proxy::new(connection, SYSTEMD, path, SERVICE).await?;
        let pid: u32 = service.get_property("MainPID").await?;
        if pid != 0 {
            look(pid, &mut state);
        }
    }
    Ok(state)
}

/// Looks at a process: its variables, and where it wrote over these or they are not for us to read, the program that it
/// was started as.
fn look(pid: u32, state: &mut UnitState) {
    state.main_pid = Some(pid);
    let environment = fs::read(format!("/proc/{pid}/environ"));
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    state.hidden = matches!(&environment, Err(error) if denied(error));
    state.overwritten = matches!(&environment, Ok(variables) if is_overwritten(variables));
    // Any other error: the process is gone.
    state.tag = environment.ok().and_then(|variables| tag_in(&variables));
    if state.tag.is_none() && (state.hidden || state.overwritten) {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        state.tag = tag_of_program(&words);
        if state.tag.is_some() {
            (state.hidden, state.overwritten) = (false, false);
        }
    }
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

/// Returns the tag of the venv that the interpreter or the script is of, by the first words of a command line: a
/// script's begins with its interpreter (execve(2)), which is the venv's own python.
fn tag_of_program(words: &[u8]) -> Option<String> {
    let mut first = words.split(|&byte| byte == 0).take(2);
    first.find_map(|word| {
        let word = String::from_utf8_lossy(word).into_owned();
        let (_, below) = word.split_once("/venvd/venvs/")?;
        let mut parts = below.split('/');
        let (_, tag, bin) = (parts.next()?, parts.next()?, parts.next()?);
        (bin == "bin").then(|| tag.to_owned())
    })
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

    #[test]
    fn the_program_tells_what_the_variables_do_not() {
        for (words, tag) in [
            (
                &b"/var/lib/venvd/venvs/nova/2/bin/python\0/var/lib/venvd/venvs/nova/2/bin/nova-api\0--config\0"[..],
                Some("2"),
            ),
            (
                b"/usr/bin/python3\0/usr/lib/venvd/venvs/nova/2/bin/nova-api\0",
                Some("2"),
            ),
            (
                b"/usr/bin/python3\0-c\0/usr/lib/venvd/venvs/nova/2/bin/nova-api\0",
                None,
            ),
            (b"nova-api: worker\0", None),
            (b"/var/lib/venvd/venvs/nova\0", None),
            (b"", None),
        ] {
            assert_eq!(tag_of_program(words).as_deref(), tag, "{words:?}");
        }
    }
}
