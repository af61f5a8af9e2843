//! Confinement by a transient unit of systemd, where that runs: systemd.exec(5), systemd-run(1).
//!
//! The unit's user is one that systemd makes up for it (`DynamicUser=`), so root does not know it before. Hence the
//! directory of a phase is open to all (0777) in one that only root can pass (0700): the unit sees it by a mount, which
//! needs no passing.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use venvd_fs::IoContext;

use super::script::PLACE;
use super::{INSIDE, Network, Run, Streams, confine};
use crate::error::Error;

const SYSTEMD_RUN: &str = "/usr/bin/systemd-run";
const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// What the names of all units of builds begin with.
const PREFIX: &str = "venvd-build-";

/// Where groups are, by the version of cgroups: cgroups(7). A system's transient units are in `system.slice`.
const GROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// How long processes that were sent SIGKILL may take to go: a disk that hangs keeps them.
const END: Duration = Duration::from_secs(30);

/// What a unit is allowed. All that is not said here comes with `DynamicUser=`, or is the same for all system services.
const PROPERTIES: [&str; 28] = [
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "ReadOnlyPaths=/tmp /var/tmp",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "TemporaryFileSystem=/dev/shm:mode=0755",
    "InaccessiblePaths=-/run/user",
    // At the end, all at once: nothing of the phase gets to say a last word.
    "KillMode=control-group",
    "KillSignal=SIGKILL",
    "SendSIGHUP=no",
    "OOMPolicy=kill",
    "UMask=0022",
];

/// Returns whether systemd runs, and sees the files that we see: not so in a chroot that was given `/run`, and maybe not
/// in somebody's mount namespace.
pub(super) fn is_usable() -> bool {
    let same = |ours: &str, theirs: &str| {
        let (ours, theirs) = (fs::metadata(ours), fs::metadata(theirs));
        ours.is_ok_and(|ours| theirs.is_ok_and(|theirs| (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())))
    };
    // sd_booted(3)
    fs::symlink_metadata("/run/systemd/system").is_ok_and(|metadata| metadata.is_dir())
        && [SYSTEMD_RUN, SYSTEMCTL].iter().all(|tool| Path::new(tool).exists())
        && same("/", "/proc/1/root")
        && same("/proc/self/ns/mnt", "/proc/1/ns/mnt")
}

/// Ends what a dead build left running; `build` is the name of its directory.
pub(in crate::build) fn stop_all(build: &str) -> io::Result<()> {
    stop(&format!("{PREFIX}{build}-*.service"))
}

/// A unit that is not started yet.
#[derive(Debug)]
pub(super) struct Unit {
    name: String,
}

impl Unit {
    /// Names the unit for a phase by its directory, and that of its build.
    pub(super) fn new(outer: &Path) -> Self {
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        Self {
            name: format!("{PREFIX}{}-{}.service", name(outer.parent()), name(Some(outer))),
        }
    }

    /// Lets the unit's user write to a directory.
    pub(super) fn give(path: &Path) -> Result<(), Error> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).at("set the mode of", path)?;
        Ok(())
    }

    /// Runs the script to its end, and returns when none of its processes is left.
    pub(super) fn run(&self, run: &Run<'_>, streams: Streams) -> Result<ExitStatus, Error> {
        let broken = |action: &str, source: io::Error| confine(run.step, action.to_owned(), source);
        let properties = properties(run).map_err(|error| broken("link what is shown", error))?;
        let errors = streams.output.try_clone().map_err(|error| broken("pipe", error))?;
        let mut child = Command::new(SYSTEMD_RUN)
            .args(["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"])
            .arg(format!("--unit={}", self.name))
            .arg(format!("--description=venvd: the {} step of a build", run.step))
            .args(
                properties
                    .into_iter()
                    .flat_map(|property| [OsString::from("-p"), property]),
            )
            // Without the variables that systemd gives to each service.
            .args(["--", "/usr/bin/env", "-i", "/bin/sh", PLACE])
            .env_clear()
            .stdin(streams.life)
            .stdout(streams.output)
            .stderr(errors)
            // A Ctrl-C would end this client, and leave the unit.
            .process_group(0)
            .spawn()
            .map_err(|error| broken(SYSTEMD_RUN, error))?;
        let status = run.interrupt.wait(&mut child, |_| stop(&self.name));
        self.end()
            .map_err(|error| broken(&format!("end the unit {}", self.name), error))?;
        status.map_err(|error| broken("wait", error))
    }

    /// Makes sure that nothing of the unit runs any more, whatever became of the client.
    fn end(&self) -> io::Result<()> {
        let groups = || GROUPS.map(|place| Path::new(place).join("system.slice").join(&self.name));
        let limit = Instant::now() + END;
        // The group goes with the unit, which waits for its processes.
        while let Some(group) = groups().into_iter().find(|group| group.exists()) {
            if Instant::now() > limit {
                return Err(io::Error::other(format!(
                    "it has processes still, in {}",
                    group.display()
                )));
            }
            stop(&self.name)?;
            // cgroup.kill(Linux 5.14) misses no process that is being made; older kernels have systemd's way alone.
            let kill = group.join("cgroup.kill");
            match fs::write(&kill, "1") {
                Err(error) if error.kind() != io::ErrorKind::NotFound && kill.exists() => return Err(error),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Ok(())
    }
}

/// Returns the properties that a phase's unit has.
fn properties(run: &Run<'_>) -> io::Result<Vec<OsString>> {
    let mut properties: Vec<OsString> = PROPERTIES.iter().map(OsString::from).collect();
    if run.network == Network::None {
        properties.push("PrivateNetwork=yes".into());
    }
    for place in run.covered() {
        properties.push(format!("TemporaryFileSystem={}:mode=0755", place.display()).into());
    }
    properties.push(bind("BindPaths", run.work, Path::new(INSIDE)));
    for (number, shown) in run.shown.iter().enumerate() {
        // By a link whose name is ours: not all versions of systemd cope with all characters.
        let link = run.outer.join(format!("shown-{number}"));
        symlink(&shown.host, &link)?;
        properties.push(bind("BindReadOnlyPaths", &link, &shown.inside));
    }
    Ok(properties)
}

fn bind(property: &str, host: &Path, inside: &Path) -> OsString {
    let mut text = OsString::from(format!("{property}="));
    for (index, path) in [host, inside].into_iter().enumerate() {
        if index == 1 {
            text.push(":");
        }
        text.push(escaped(path));
    }
    text
}

/// Returns a path as one word of systemd's lists: what separates or quotes has a backslash before it.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        if character.is_whitespace() || matches!(character, ':' | '\\' | '"' | '\'') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// Stops units and waits for it. One that is not there is no error: it has ended by itself.
fn stop(pattern: &str) -> io::Result<()> {
    let output = Command::new(SYSTEMCTL)
        .args(["stop", "--quiet", "--", pattern])
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    // "program is not running", "unit not loaded": systemctl(1), exit status.
    match output.status.code() {
        Some(0 | 5) => Ok(()),
        _ => Err(io::Error::other(format!(
            "systemctl stop: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_named_by_its_build_and_phase() {
        let unit = Unit::new(Path::new("/var/lib/venvd/staging/nova.Ab12/install.x9"));
        assert_eq!(unit.name, "venvd-build-nova.Ab12-install.x9.service");
    }

    #[test]
    fn paths_are_single_words() {
        for (path, word) in [("/a/b-c", "/a/b-c"), ("/a b", "/a\\ b"), ("/a:b\\", "/a\\:b\\\\")] {
            assert_eq!(escaped(Path::new(path)), word);
        }
    }
}
