//! Confinement by namespaces of our own: where no systemd runs (a chroot, a container, an image build).
//!
//! Its processes end with the first of them, and with the build: `PR_SET_PDEATHSIG`, and the end of a PID namespace,
//! pid_namespaces(7).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use venvd_fs::IoContext;

use super::mounts::mounts;
use super::script::PLACE;
use super::user::FreeUser;
use super::{Network, Run, Streams, confine};
use crate::error::Error;

/// Places that are hidden because all can write to them. (A unit has its own ones.)
pub(super) const SHARED: [&str; 4] = ["/tmp", "/var/tmp", "/dev/mqueue", "/run/user"];

/// File systems of the kernel's own, which a mode can't make safer; what they let a user do is said by their owners.
pub(super) const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How long processes that were sent SIGKILL may take to go: a disk that hangs keeps them.
const END: Duration = Duration::from_secs(30);

pub(in crate::build) const SETPRIV: &str = "/usr/bin/setpriv";
pub(in crate::build) const UNSHARE: &str = "/usr/bin/unshare";
pub(super) const SETSID: &str = "/usr/bin/setsid";

/// Checks that the tools are there.
pub(super) fn require() -> Result<(), Error> {
    if [SETPRIV, UNSHARE, SETSID].iter().all(|tool| Path::new(tool).exists()) {
        return Ok(());
    }
    Err(Error::NoTool {
        tool: "setpriv, unshare or setsid",
        hint: "install util-linux",
    })
}

/// Lets a phase's user write to a directory.
pub(super) fn give(user: &FreeUser, path: &Path) -> Result<(), Error> {
    chown(path, Some(user.uid), Some(user.uid)).at("set the owner of", path)?;
    Ok(())
}

/// Runs the script to its end, and returns when none of its processes is left. The calling thread enters the namespaces,
/// and stays there.
pub(super) fn run(user: &FreeUser, run: &Run<'_>, streams: Streams) -> Result<ExitStatus, Error> {
    let broken = |action: &str, source: io::Error| confine(run.step, action.to_owned(), source);
    enter(run)?;
    leave_behind().map_err(|error| broken("leave keys and open files behind", error))?;
    let errors = streams.output.try_clone().map_err(|error| broken("pipe", error))?;
    let uid = user.uid.to_string();
    // Twice: a change of user forgets the signal, PR_SET_PDEATHSIG(2const).
    let die_with_parent = ["--pdeathsig", "KILL"];
    let mut child = Command::new(SETPRIV)
        .args(die_with_parent)
        .args(["--", UNSHARE, "--pid", "--fork", "--kill-child=KILL", "--"])
        // Out of the caller's session: whoever can open its terminal may type into it (TIOCSTI, ioctl_tty(2)).
        .args([SETSID, SETPRIV])
        .args(die_with_parent)
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--no-new-privs"])
        .args(["--bounding-set=-all", "--inh-caps=-all", "--", "/bin/sh", PLACE])
        .env_clear()
        .current_dir("/")
        .stdin(streams.life)
        .stdout(streams.output)
        .stderr(errors)
        .spawn()
        .map_err(|error| broken(SETPRIV, error))?;
    let status = run.interrupt.wait(&mut child, Child::kill);
    // The end of the namespace has killed them; whoever was in the kernel goes when it leaves that.
    let limit = Instant::now() + END;
    while user.has_processes()? {
        if Instant::now() > limit {
            let source = io::Error::other(format!("its user {uid} has processes still"));
            return Err(broken("end all of its programs", source));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    status.map_err(|error| broken("wait", error))
}

/// Makes the calling thread's children start without what this process was started with: descriptors that whoever
/// called us left open (Rust's own are closed anyhow), and the keys of root's session, session-keyring(7).
pub(super) fn leave_behind() -> io::Result<()> {
    const FIRST_AFTER_STDERR: i32 = 3;
    close_fds::set_fds_cloexec_threadsafe(FIRST_AFTER_STDERR, &[]);
    // A kernel without keys, or a container that may not use them, which then holds for the children as well.
    let without = [Errno::ENOSYS, Errno::EPERM, Errno::EACCES].map(|errno| errno as i32);
    match keyutils::Keyring::join_anonymous_session() {
        Ok(_) => Ok(()),
        Err(error) if without.contains(&error.0) => Ok(()),
        Err(error) => Err(io::Error::from_raw_os_error(error.0)),
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
    let mut opened = Vec::new();
    for shown in std::iter::once(&run.own()).chain(run.shown) {
        let file = rustix::fs::open(&shown.host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let file = file.map_err(|error| broken(&format!("open {:?}", shown.host), error.into()))?;
        opened.push((file, shown.inside.clone()));
    }
    read_only().map_err(|error| broken("make all mounts read-only", error))?;
    let hidden = SHARED.into_iter().chain(["/dev/shm"]).map(PathBuf::from);
    for place in run.covered().into_iter().chain(hidden) {
        // Or it went with what was hidden above it.
        if is_directory(&place) {
            cover(&place).map_err(|error| broken(&format!("hide {place:?}"), error))?;
        }
    }
    for (index, (file, inside)) in opened.iter().enumerate() {
        let writable = index == 0;
        bind(file, inside, writable).map_err(|error| broken(&format!("mount {inside:?}"), error))?;
    }
    Ok(())
}

/// Makes all that is mounted read-only, as `ProtectSystem=strict` does, systemd.exec(5).
fn read_only() -> io::Result<()> {
    let nothing: Option<&str> = None;
    for (place, kept) in mounts(&fs::read_to_string("/proc/thread-self/mountinfo")?) {
        if KERNEL.iter().any(|kernel| place.starts_with(kernel)) {
            continue;
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept;
        match mount(nothing, &place, nothing, flags, nothing) {
            // Nobody can reach it: something else was mounted above it.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL | Errno::EACCES | Errno::ENOTDIR) => {}
            Err(errno) => return Err(io::Error::other(format!("{}: {errno}", place.display()))),
        }
    }
    Ok(())
}

/// Mounts an empty tmpfs over a directory; only root can write to it.
fn cover(place: &Path) -> io::Result<()> {
    let (name, flags) = (Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    Ok(mount(name, place, name, flags, Some("mode=0755,size=1m"))?)
}

/// Mounts an open file or directory at `inside`, which is made where it is missing.
fn bind(file: &OwnedFd, inside: &Path, writable: bool) -> io::Result<()> {
    let nothing: Option<&str> = None;
    let source = PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()));
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(inside)?;
    } else if !inside.exists() {
        fs::create_dir_all(inside.parent().unwrap_or(inside))?;
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
