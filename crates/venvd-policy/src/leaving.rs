//! Venvs that are in force no more, and whose rights last while processes of units still run them.
//!
//! What sudo admits must not end before the service that needs it. A restart ends most of an app's processes, but not one
//! that its unit leaves behind (`KillMode=process`, systemd.kill(5)), nor a job that runs to its end
//! (`restart = "none"`). So an activation writes down here what it still admits, and until when at the latest; whoever
//! writes a policy meanwhile admits it, too. The file lies in `/run`: a reboot takes it away with the processes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout};
use venvd_fs::atomic;

use crate::Error;
use crate::listing::names;

/// A venv whose rights are about to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// The venv.
    pub venv: VenvPath,
    /// When they end at the latest, on the clock of [`now`].
    pub until: Duration,
}

/// For units that run on until somebody restarts them: there is no such time.
pub const UNTIL_RESTARTED: Duration = Duration::MAX;

/// The same in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    venv: PathBuf,
    until: Duration,
}

/// Returns the time since the boot, also that of sleep (`CLOCK_BOOTTIME`, clock_gettime(2)): nobody can set it back.
#[must_use]
pub fn now() -> Duration {
    // It is never negative, so neither conversion can fail.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Returns the venvs of an app whose rights are about to end.
///
/// # Errors
/// When the file can't be read, or is not what venvd writes.
pub fn read(layout: &Layout, app: &AppName) -> Result<Vec<Leaving>, Error> {
    let path = layout.leaving(app);
    let Some(text) = atomic::read(&path)? else {
        return Ok(Vec::new());
    };
    let invalid = |reason: String| Error::Leaving {
        path: path.clone(),
        reason,
    };
    let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    let known = |entry: Entry| match VenvPath::parse(layout, &entry.venv) {
        Some(venv) if venv.name().app() == app => Ok(Leaving {
            venv,
            until: entry.until,
        }),
        _ => Err(invalid(format!("{:?} is no venv of {app}", entry.venv))),
    };
    entries.into_iter().map(known).collect()
}

/// Writes down the venvs of an app whose rights are about to end; without any, the file goes.
///
/// # Errors
/// When it can't be written or removed.
pub fn write(layout: &Layout, app: &AppName, leaving: &[Leaving]) -> Result<(), Error> {
    let path = layout.leaving(app);
    if leaving.is_empty() {
        atomic::remove(&path)?;
        return Ok(());
    }
    let entries = leaving.iter().map(|leaving| Entry {
        venv: leaving.venv.path(),
        until: leaving.until,
    });
    // Paths that were parsed from text and numbers only: this can't fail, and `read` would refuse an empty file.
    let text = serde_json::to_vec(&entries.collect::<Vec<_>>()).unwrap_or_default();
    atomic::create_directories(&layout.leaving_venvs(), 0o755)?;
    atomic::write(&path, &text, 0o644)?;
    Ok(())
}

/// Returns the apps that have any.
///
/// # Errors
/// When the directory can't be listed.
pub fn apps(layout: &Layout) -> Result<Vec<AppName>, Error> {
    let app = |name: &OsString| name.to_str()?.strip_suffix(".json")?.parse().ok();
    Ok(names(&layout.leaving_venvs())?.iter().filter_map(app).collect())
}

/// Returns the venvs to admit, in their order: what units run on from until they are restarted, what is in force, and
/// what merely ends.
#[must_use]
pub fn in_order(in_force: &VenvPath, leaving: &[Leaving]) -> Vec<VenvPath> {
    let (runs_on, ends): (Vec<_>, Vec<_>) = leaving
        .iter()
        .filter(|leaving| leaving.venv != *in_force)
        .partition(|leaving| leaving.until == UNTIL_RESTARTED);
    let venvs = |leaving: Vec<&Leaving>| {
        leaving
            .into_iter()
            .map(|leaving| leaving.venv.clone())
            .collect::<Vec<_>>()
    };
    [venvs(runs_on), vec![in_force.clone()], venvs(ends)].concat()
}

/// Returns the venvs that the policy of an app is to admit outside of an activation: the one in force, and with it
/// those that are leaving. With none in force the app is off, and nothing is admitted.
///
/// # Errors
/// When it can't be read which those are.
pub fn admitted(layout: &Layout, app: &AppName, in_force: Option<VenvPath>) -> Result<Vec<VenvPath>, Error> {
    let Some(in_force) = in_force else {
        return Ok(Vec::new());
    };
    Ok(in_order(&in_force, &read(layout, app)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use venvd_fs::Root;

    fn venv(name: &str) -> VenvPath {
        VenvPath::local(&Layout::new(Root::host()), name.parse().unwrap())
    }

    #[test]
    fn what_is_written_is_read_back_and_admitted_behind_what_is_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let app: AppName = "nova".parse().unwrap();
        assert_eq!((read(&layout, &app).unwrap(), apps(&layout).unwrap()), (vec![], vec![]));
        let leaving: Vec<_> = ["nova:1", "nova:2"]
            .map(|name| Leaving {
                venv: venv(name),
                until: Duration::from_millis(1500),
            })
            .into();
        write(&layout, &app, &leaving).unwrap();
        assert_eq!(read(&layout, &app).unwrap(), leaving);
        assert_eq!(apps(&layout).unwrap(), std::slice::from_ref(&app));
        let admitted = |tag: &str| admitted(&layout, &app, Some(venv(tag))).unwrap();
        assert_eq!(admitted("nova:3"), ["nova:3", "nova:1", "nova:2"].map(venv));
        assert_eq!(admitted("nova:2"), ["nova:2", "nova:1"].map(venv), "each once");
        assert!(super::admitted(&layout, &app, None).unwrap().is_empty(), "off is off");
        let runs_on = Leaving {
            venv: venv("nova:2"),
            until: UNTIL_RESTARTED,
        };
        write(&layout, &app, &[leaving[0].clone(), runs_on]).unwrap();
        assert_eq!(
            admitted("nova:3"),
            ["nova:2", "nova:3", "nova:1"].map(venv),
            "what runs on comes first"
        );
        write(&layout, &app, &[]).unwrap();
        assert!(!layout.leaving(&app).exists());
    }

    #[test]
    fn what_venvd_does_not_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let app: AppName = "nova".parse().unwrap();
        for text in [
            "",
            "[",
            r#"[{"venv": "/tmp/nova/1", "until": {"secs": 1, "nanos": 0}}]"#,
            r#"[{"venv": "/var/lib/venvd/venvs/glance/1", "until": {"secs": 1, "nanos": 0}}]"#,
        ] {
            atomic::create_directories(&layout.leaving_venvs(), 0o755).unwrap();
            fs::write(layout.leaving(&app), text).unwrap();
            let error = read(&layout, &app).unwrap_err();
            assert_eq!(error.code(), "policy-leaving", "{text}");
        }
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = now();
        assert!(now() >= before && before > Duration::ZERO);
    }
}
