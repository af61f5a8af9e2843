//! Confinement by an ordinary user, for venvs of his own: namespaces that need no privilege, user_namespaces(7).
//!
//! Two of them, one in the other. In the first he may mount, so that a step sees the file system read-only, without his
//! home, and its own directory under the fixed name; in the second, which the step runs in, he is himself again, without
//! any capability over the first. What is weaker than as root: a step has the user's own id and groups, so only what is
//! hidden keeps it from what is his.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::mount::MsFlags;
use nix::unistd::{User, getegid, geteuid};
use venvd_fs::atomic;

use super::mounts::mounts;
use super::namespaces::{KERNEL, SETPRIV, SETSID, SHARED, UNSHARE, leave_behind};
use super::script::{PLACE, quoted};
use super::{HOMES, Network, Run, Streams, confine};
use crate::error::Error;

const MOUNT: &str = "/usr/bin/mount";

/// Where the step's own directory and what is shown to it appear; an own tmpfs.
const SHM: &str = "/dev/shm";

/// Where what is shown elsewhere waits until its place is empty.
const STASH: &str = "/dev/shm/.shown";

/// Checks that the tools are there, and that this system lets its users have namespaces.
pub(super) fn require() -> Result<(), Error> {
    if ![SETPRIV, UNSHARE, SETSID, MOUNT]
        .iter()
        .all(|tool| Path::new(tool).exists())
    {
        return Err(Error::NoTool {
            tool: "setpriv, unshare, setsid or mount",
            hint: "install util-linux",
        });
    }
    let tried = Command::new(UNSHARE)
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "--pid",
            "--fork",
            "--ipc",
            "--net",
            "true",
        ])
        .env_clear()
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::NoUserNamespaces {
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
        Err(error) => Err(Error::NoUserNamespaces {
            said: error.to_string(),
        }),
    }
}

/// Runs the script to its end, and returns when none of its processes is left: they end with their PID namespace.
pub(super) fn run(run: &Run<'_>, streams: Streams) -> Result<ExitStatus, Error> {
    let broken = |action: &str, source: io::Error| confine(run.step, action.to_owned(), source);
    leave_behind().map_err(|error| broken("leave keys and open files behind", error))?;
    let mounted = fs::read_to_string("/proc/self/mountinfo").map_err(|error| broken("read what is mounted", error))?;
    let enter = run.outer.join("enter");
    atomic::write(&enter, &script(run, &mounted), 0o600)?;
    let errors = streams.output.try_clone().map_err(|error| broken("pipe", error))?;
    let mut command = Command::new(SETPRIV);
    command
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            UNSHARE,
            "--user",
            "--map-root-user",
            "--mount",
            "--ipc",
        ])
        .args(["--pid", "--fork", "--kill-child=KILL"]);
    if run.network == Network::None {
        command.arg("--net");
    }
    let mut child = command
        .args(["--", "/bin/sh"])
        .arg(&enter)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(streams.life)
        .stdout(streams.output)
        .stderr(errors)
        .spawn()
        .map_err(|error| broken(SETPRIV, error))?;
    let status = run.interrupt.wait(&mut child, Child::kill);
    status.map_err(|error| broken("wait", error))
}

/// Returns what is done in the first namespace before the step's own script is started in the second.
fn script(run: &Run<'_>, mounted: &str) -> Vec<u8> {
    let mut script = Script::default();
    script.line(&["mount", "--make-rprivate", "/"]);
    // Of mounts upon each other the last one counts.
    let all: BTreeMap<PathBuf, MsFlags> = mounts(mounted).into_iter().collect();
    script.tmpfs(Path::new(SHM));
    let kept = |path: &Path| {
        let mount = path.ancestors().find_map(|above| all.get(above));
        mount.copied().unwrap_or_else(MsFlags::empty)
    };
    let own = run.own();
    let mut elsewhere = Vec::new();
    for (number, shown) in std::iter::once(&own).chain(run.shown).enumerate() {
        let direct = shown.inside.parent() == Some(Path::new(SHM));
        let place = if direct {
            shown.inside.clone()
        } else {
            Path::new(STASH).join(number.to_string())
        };
        script.bind(&shown.host, &place);
        // The first is the step's own, which it may write to.
        if number > 0 {
            script.read_only(&place, kept(&shown.host));
        }
        if !direct {
            elsewhere.push((place, shown));
        }
    }
    // What was bound before stays as it is.
    for (place, kept) in &all {
        if !KERNEL.iter().any(|kernel| place.starts_with(kernel)) {
            script.read_only_if_it_matters(place, *kept);
        }
    }
    let hidden = hidden(run);
    for place in &hidden {
        script.tmpfs(place);
    }
    for (stash, shown) in &elsewhere {
        script.bind(stash, &shown.inside);
        script.read_only(&shown.inside, kept(&shown.host));
    }
    for place in hidden.iter().map(PathBuf::as_path).chain([Path::new(SHM)]) {
        script.read_only(place, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    }
    // Out of the caller's session, and with the caller's own name again, which forgets all capabilities.
    let (user, group) = (
        format!("--map-user={}", geteuid()),
        format!("--map-group={}", getegid()),
    );
    // To give one's own id a name in a namespace below takes a capability (CAP_SETFCAP), so that is dropped there, by the
    // change of id, and stays so without new privileges.
    script.line(
        &["exec", SETSID, UNSHARE, "--user", &user, &group, "--"]
            .into_iter()
            .chain(LAST)
            .collect::<Vec<_>>(),
    );
    script.0
}

/// What starts the step's own script, which thereby gains nothing any more.
const LAST: [&str; 7] = [SETPRIV, "--no-new-privs", "--pdeathsig", "KILL", "--", "/bin/sh", PLACE];

/// Returns the directories that are hidden, each below another left out: homes, and what all can write to.
fn hidden(run: &Run<'_>) -> Vec<PathBuf> {
    let mut places = run.covered();
    places.extend(SHARED.iter().map(PathBuf::from));
    let home = User::from_uid(geteuid()).ok().flatten().map(|user| user.dir);
    // Most homes are below the usual places, which are hidden as a whole.
    places.extend(home.filter(|home| {
        home != Path::new("/") && !HOMES.iter().any(|usual| home.starts_with(usual)) && !run.names(home)
    }));
    places.retain(|place| fs::symlink_metadata(place).is_ok_and(|metadata| metadata.is_dir()));
    places.sort();
    places.dedup();
    let all = places.clone();
    places.retain(|place| !all.iter().any(|other| other != place && place.starts_with(other)));
    places
}

/// A shell script in the making, that ends at the first command that fails.
#[derive(Debug)]
struct Script(Vec<u8>);

impl Default for Script {
    fn default() -> Self {
        Self(b"set -eu\nrefuse() { echo \"venvd: cannot $1\"; exit 99; }\n".to_vec())
    }
}

impl Script {
    fn line(&mut self, words: &[&str]) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        self.words(&words);
        self.0.push(b'\n');
    }

    fn words(&mut self, words: &[OsString]) {
        for word in words {
            self.0.extend_from_slice(quoted(word).as_bytes());
            self.0.push(b' ');
        }
    }

    /// A command on a path, and what is said when it fails.
    fn on(&mut self, (words, path): (&[&str], &Path), action: &str) {
        let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
        words.push(path.into());
        self.words(&words);
        let mut said = OsString::from(format!("{action} "));
        said.push(path);
        self.0.extend_from_slice(b"|| refuse ");
        self.words(&[said]);
        self.0.push(b'\n');
    }

    fn tmpfs(&mut self, place: &Path) {
        let words = ["mount", "-t", "tmpfs", "-o", "nosuid,nodev,mode=0755,size=1m", "tmpfs"];
        self.on((&words, place), "hide");
    }

    /// Mounts a file or directory at a place, which is made where it is missing.
    fn bind(&mut self, from: &Path, place: &Path) {
        let path = |path: &Path| quoted(path.as_os_str()).into_vec();
        let (from_word, place_word) = (path(from), path(place));
        let parent = path(place.parent().unwrap_or(place));
        let make = [
            b"if [ -d ".as_slice(),
            &from_word,
            b" ]; then mkdir -p ",
            &place_word,
            b"; elif ! [ -e ",
            &place_word,
            b" ]; then mkdir -p ",
            &parent,
            b"; : >",
            &place_word,
            b"; fi\n",
        ];
        self.0.extend_from_slice(&make.concat());
        let words = [OsString::from("mount"), "--bind".into(), from.into(), place.into()];
        self.words(&words);
        self.0.extend_from_slice(b"|| refuse 'show something to the step'\n");
    }

    /// As [`Script::read_only`], but a file that can't be written to anyway, or a place that is hidden by another mount or
    /// can't be reached, may stay as it is.
    fn read_only_if_it_matters(&mut self, place: &Path, kept: MsFlags) {
        self.0.extend_from_slice(b"if [ -d ");
        self.words(&[place.into()]);
        self.0.extend_from_slice(b" ] || [ -w ");
        self.words(&[place.into()]);
        self.0.extend_from_slice(b" ]; then\n");
        self.read_only(place, kept);
        self.0.extend_from_slice(b"fi\n");
    }

    /// Makes a mount read-only. Its other flags are named again: they are locked for who has no right over them, and a
    /// remount without them is refused, mount_namespaces(7).
    fn read_only(&mut self, place: &Path, kept: MsFlags) {
        let mut options = "remount,bind,ro".to_owned();
        for (flag, name) in FLAGS {
            if kept.contains(flag) {
                options.push(',');
                options.push_str(name);
            }
        }
        self.on((&["mount", "-o", &options], place), "make read-only");
    }
}

const FLAGS: [(MsFlags, &str); 6] = [
    (MsFlags::MS_NOSUID, "nosuid"),
    (MsFlags::MS_NODEV, "nodev"),
    (MsFlags::MS_NOEXEC, "noexec"),
    (MsFlags::MS_NOATIME, "noatime"),
    (MsFlags::MS_NODIRATIME, "nodiratime"),
    (MsFlags::MS_RELATIME, "relatime"),
];
