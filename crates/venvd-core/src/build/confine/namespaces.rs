//! Confinement by namespaces of our own: where no systemd runs (a chroot, a container, an image build).
//!
//! Its processes end with the first of them, and with the build: `PR_SET_PDEATHSIG`, and the end of a PID namespace,
//! pid_namespaces(7).

use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use venvd_app::Layout;
use venvd_fs::IoContext;

use super::script::{Outside, PLACE};
use super::user::FreeUser;
use super::{INSIDE, Network, Shown, confine};
use crate::error::{Error, Step};

/// Places that are hidden from steps which need no files of the host: those that all can write to, and `/run`, whose
/// sockets would be a way to the network (a resolver, the bus, a container manager) without any network device.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

pub(in crate::build) const SETPRIV: &str = "/usr/bin/setpriv";
pub(in crate::build) const UNSHARE: &str = "/usr/bin/unshare";
const SETSID: &str = "/usr/bin/setsid";

/// This backend.
#[derive(Debug)]
pub(super) struct Namespaces {
    layout: Layout,
}

/// A user for one phase.
#[derive(Debug)]
pub(super) struct Prepared {
    user: FreeUser,
}

/// What to run a phase's script with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) step: Step,
    pub(super) network: Network,
    pub(super) work: &'a Path,
    pub(super) shown: &'a [Shown],
}

impl Namespaces {
    pub(super) fn new(layout: &Layout) -> Result<Self, Error> {
        for tool in [SETPRIV, UNSHARE, SETSID] {
            if !Path::new(tool).exists() {
                return Err(Error::NoTool {
                    tool: "setpriv, unshare or setsid",
                    hint: "install util-linux",
                });
            }
        }
        Ok(Self { layout: layout.clone() })
    }

    pub(super) fn prepare(&self) -> Result<Prepared, Error> {
        Ok(Prepared {
            user: FreeUser::take(&self.layout)?,
        })
    }
}

impl Prepared {
    /// Lets the phase's user write to a directory.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.user.uid), Some(self.user.uid)).at("set the owner of", path)?;
        Ok(())
    }

    /// Returns the namespaces that the script must not find itself in.
    pub(super) fn outside(&self, network: Network) -> io::Result<Outside> {
        let mut kinds = vec!["mnt", "pid", "ipc"];
        if network == Network::None {
            kinds.push("net");
        }
        let of = |kind: &str| {
            Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?
                .to_string_lossy()
                .into_owned())
        };
        Ok(Outside(kinds.into_iter().map(of).collect::<io::Result<_>>()?))
    }

    /// Runs the script to its end, and all that it started with it.
    pub(super) fn run(
        &self,
        run: &Run<'_>,
        hear: impl FnOnce(PipeReader) -> Result<(), Error>,
    ) -> Result<ExitStatus, Error> {
        let broken = |action: &str, source: io::Error| confine(run.step, action.to_owned(), source);
        let (reader, writer) = io::pipe().map_err(|error| broken("pipe", error))?;
        std::thread::scope(|scope| {
            // Namespaces are entered by this thread alone, and the child dies with it.
            let runner = scope.spawn(move || self.enter_and_run(run, writer));
            let heard = hear(reader);
            let status = runner
                .join()
                .unwrap_or_else(|_| Err(broken("thread", io::Error::other("it panicked"))));
            heard.and(status)
        })
    }

    fn enter_and_run(&self, run: &Run<'_>, output: PipeWriter) -> Result<ExitStatus, Error> {
        enter(run)?;
        let broken = |action: &str, source: io::Error| confine(run.step, action.to_owned(), source);
        let errors = output.try_clone().map_err(|error| broken("pipe", error))?;
        let user = self.user.uid.to_string();
        // Twice: a change of user forgets the signal, PR_SET_PDEATHSIG(2const).
        let die_with_parent = ["--pdeathsig", "KILL"];
        let mut child = Command::new(SETPRIV)
            .args(die_with_parent)
            .args(["--", UNSHARE, "--pid", "--fork", "--kill-child=KILL", "--"])
            // Out of the caller's session: whoever can open its terminal may type into it (TIOCSTI, ioctl_tty(2)).
            .args([SETSID, SETPRIV])
            .args(die_with_parent)
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"])
            .args(["--bounding-set=-all", "--inh-caps=-all", "--", "/bin/sh", PLACE])
            .env_clear()
            .current_dir(INSIDE)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| broken(SETPRIV, error))?;
        child.wait().map_err(|error| broken("wait", error))
    }
}

/// Puts the calling thread into namespaces in which nothing but the phase's directory is its user's.
fn enter(run: &Run<'_>) -> Result<(), Error> {
    let broken = |action: &str, source: io::Error| confine(run.step, action.to_owned(), source);
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    if run.network == Network::None {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|error| broken("unshare(2); is this a container without CAP_SYS_ADMIN?", error.into()))?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(|error| broken("make all mounts private", error.into()))?;
    // Opened in the new namespace, and before anything is hidden by what is mounted next.
    let mut shown = vec![(run.work.to_owned(), PathBuf::from(INSIDE))];
    shown.extend(run.shown.iter().map(|shown| (shown.host.clone(), shown.inside.clone())));
    let mut opened = Vec::new();
    for (host, inside) in shown {
        let file = rustix::fs::open(&host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        opened.push((
            file.map_err(|error| broken(&format!("open {host:?}"), error.into()))?,
            inside,
        ));
    }
    cover("/dev/shm", MsFlags::empty()).map_err(|error| broken("mount a tmpfs on /dev/shm", error))?;
    if run.network == Network::None {
        for place in SHARED.into_iter().filter(|place| is_directory(Path::new(place))) {
            cover(place, MsFlags::MS_RDONLY).map_err(|error| broken(&format!("hide {place}"), error))?;
        }
    }
    for (index, (file, inside)) in opened.iter().enumerate() {
        let writable = index == 0;
        bind(file, inside, writable).map_err(|error| broken(&format!("mount {inside:?}"), error))?;
    }
    Ok(())
}

/// Mounts an empty tmpfs over a directory.
fn cover(place: &str, flags: MsFlags) -> io::Result<()> {
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(
        Some("tmpfs"),
        place,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=1m"),
    )?)
}

/// Mounts an open file or directory at `inside`.
fn bind(file: &OwnedFd, inside: &Path, writable: bool) -> io::Result<()> {
    let nothing: Option<&str> = None;
    let source = PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()));
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir(inside)?;
    } else {
        fs::write(inside, "")?;
    }
    mount(Some(&source), inside, nothing, MsFlags::MS_BIND, nothing)?;
    // A bind mount takes flags only when it is mounted anew: mount(2).
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    Ok(mount(nothing, inside, nothing, flags, nothing)?)
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}
