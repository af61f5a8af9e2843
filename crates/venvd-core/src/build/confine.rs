//! Running what a package, an index or an installer might have a say in: never as root, never near anything else.
//!
//! Each build has a user id that nobody else has, from systemd's range for such users, so that nothing but the build's
//! own directory belongs to it. Its programs run in namespaces of their own: they see that directory under one fixed
//! name, have no network unless it is their job, have no terminal, and end, all of them, when the first of them does or
//! when the build is killed (`PR_SET_PDEATHSIG` and the end of a PID namespace, pid_namespaces(7)). It works alike on a
//! booted machine, in a chroot and in a container, as it needs no service manager.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, User};
use rustix::fs::{Mode, OFlags};
use venvd_app::Layout;
use venvd_fs::IoContext;
use venvd_fs::lock::Lock;

use super::log::Log;
use super::{Progress, Stage};
use crate::error::{Error, Step};

/// Where a build's directory appears to its programs. The same for every build, so that nothing of the real path gets
/// into what they write.
pub(crate) const INSIDE: &str = "/dev/shm/venvd";

/// Places that are hidden from steps which need no files of the host: those that all can write to, and `/run`, whose
/// sockets would be a way to the network (a resolver, the bus, a container manager) without any network device.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// The range of systemd's `DynamicUser=`: no package and no administrator gives these to anybody, systemd.exec(5).
const USERS: std::ops::RangeInclusive<u32> = 61184..=65519;

pub(super) const SETPRIV: &str = "/usr/bin/setpriv";
pub(super) const UNSHARE: &str = "/usr/bin/unshare";
const SETSID: &str = "/usr/bin/setsid";

/// Whether a step may talk to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// It may; it also sees the host's shared directories, where local wheels may lie.
    Host,
    /// It may not.
    None,
}

/// A user and a directory for the steps of one build.
#[derive(Debug)]
pub(super) struct Confined {
    uid: u32,
    /// Keeps other builds from taking the same user.
    _taken: Lock,
    work: PathBuf,
    /// Files and directories of the host that are shown inside, read-only.
    shown: Vec<(PathBuf, PathBuf)>,
}

/// A program to run, and how.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) step: Step,
    pub(super) stage: Stage,
    pub(super) network: Network,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// Who hears what a program says.
pub(super) struct Ears<'a> {
    pub(super) log: &'a mut Log,
    pub(super) progress: &'a mut dyn Progress,
}

impl Confined {
    /// Makes `work` and gives it to a user that nobody else is.
    pub(super) fn new(layout: &Layout, work: &Path) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        for tool in [SETPRIV, UNSHARE, SETSID] {
            if !Path::new(tool).exists() {
                return Err(Error::NoTool {
                    tool: "setpriv, unshare or setsid",
                    hint: "install util-linux",
                });
            }
        }
        let (uid, taken) = free_user(layout)?;
        let confined = Self {
            uid,
            _taken: taken,
            work: work.to_owned(),
            shown: Vec::new(),
        };
        confined.directory("")?;
        for name in ["home", "tmp", "download"] {
            confined.directory(name)?;
        }
        Ok(confined)
    }

    /// Makes a directory that the build's programs can write to. Never after one of them has run: what they left may be
    /// links to anywhere.
    fn directory(&self, name: &str) -> Result<(), Error> {
        let path = self.work.join(name);
        fs::create_dir(&path).at("create", &path)?;
        chown(&path, Some(self.uid), Some(self.uid)).at("set the owner of", &path)?;
        Ok(())
    }

    /// Shows a file or directory of the host inside, under a fixed name, which is returned.
    pub(super) fn show(&mut self, host: &Path, name: &str) -> PathBuf {
        let inside = Path::new("/dev/shm").join(name);
        self.shown.push((host.to_owned(), inside.clone()));
        inside
    }

    /// Runs a program to its end, and all that it started with it.
    pub(super) fn run(&self, job: &Job, ears: &mut Ears<'_>) -> Result<(), Error> {
        let words: Vec<_> = job.arguments.iter().map(|word| word.to_string_lossy()).collect();
        ears.log
            .heading(&format!("{}: {} {}", job.step, job.program.display(), words.join(" ")))?;
        ears.progress.report(job.stage, "");
        let broken = |action: &str, source: io::Error| confine(job.step, action.to_owned(), source);
        let (reader, writer) = io::pipe().map_err(|error| broken("pipe", error))?;
        let status = std::thread::scope(|scope| {
            // Namespaces are entered by this thread alone, and the child dies with it.
            let runner = scope.spawn(move || self.enter_and_run(job, writer));
            let heard = hear(reader, job.stage, ears);
            let status = runner
                .join()
                .unwrap_or_else(|_| Err(broken("thread", io::Error::other("it panicked"))));
            heard.and(status)
        })?;
        if status.success() {
            return Ok(());
        }
        if ears.log.says_full() {
            return Err(crate::space::full(&self.work));
        }
        Err(Error::Step {
            step: job.step,
            program: job.program.display().to_string(),
            status: status.to_string(),
            tail: ears.log.tail(),
            log: ears.log.kept().to_owned(),
        })
    }

    fn enter_and_run(&self, job: &Job, output: PipeWriter) -> Result<ExitStatus, Error> {
        self.enter(job)?;
        let broken = |action: &str, source: io::Error| confine(job.step, action.to_owned(), source);
        let errors = output.try_clone().map_err(|error| broken("pipe", error))?;
        let user = self.uid.to_string();
        // Twice: a change of user forgets the signal, PR_SET_PDEATHSIG(2const).
        let die_with_parent = ["--pdeathsig", "KILL"];
        let mut child = Command::new(SETPRIV)
            .args(die_with_parent)
            .args(["--", UNSHARE, "--pid", "--fork", "--kill-child=KILL", "--"])
            // Out of the caller's session: whoever can open its terminal may type into it (TIOCSTI, ioctl_tty(2)).
            .args([SETSID, SETPRIV])
            .args(die_with_parent)
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"])
            .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
            .arg(&job.program)
            .args(&job.arguments)
            .env_clear()
            .envs(base_environment())
            .envs(job.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(INSIDE)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| broken(SETPRIV, error))?;
        child.wait().map_err(|error| broken("wait", error))
    }

    /// Puts the calling thread into namespaces in which nothing but the build's directory is its user's.
    fn enter(&self, job: &Job) -> Result<(), Error> {
        let broken = |action: &str, source: io::Error| confine(job.step, action.to_owned(), source);
        let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
        if job.network == Network::None {
            flags |= CloneFlags::CLONE_NEWNET;
        }
        unshare(flags)
            .map_err(|error| broken("unshare(2); is this a container without CAP_SYS_ADMIN?", error.into()))?;
        let nothing: Option<&str> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .map_err(|error| broken("make all mounts private", error.into()))?;
        // Opened in the new namespace, and before anything is hidden by what is mounted next.
        let mut shown = vec![(self.work.clone(), PathBuf::from(INSIDE))];
        shown.extend(self.shown.iter().cloned());
        let mut opened = Vec::new();
        for (host, inside) in shown {
            let file = rustix::fs::open(&host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            opened.push((
                file.map_err(|error| broken(&format!("open {host:?}"), error.into()))?,
                inside,
            ));
        }
        cover("/dev/shm", MsFlags::empty()).map_err(|error| broken("mount a tmpfs on /dev/shm", error))?;
        if job.network == Network::None {
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

fn base_environment() -> [(&'static str, String); 6] {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", format!("{INSIDE}/home")),
        ("TMPDIR", format!("{INSIDE}/tmp")),
        ("LANG", "C.UTF-8".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
}

/// Passes on what a program says, line by line, until it and all that it started have closed their output.
fn hear(reader: io::PipeReader, stage: Stage, ears: &mut Ears<'_>) -> Result<(), Error> {
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.at("read the output of a program for", ears.log.path())?;
        let line = printable(&String::from_utf8_lossy(&line));
        ears.log.line(&line)?;
        ears.progress.report(stage, &line);
    }
    Ok(())
}

/// Returns a line without what a terminal would take for an order: an index says what it likes, and it is root who reads
/// it, on his terminal or in the log.
fn printable(line: &str) -> String {
    let plain = |character: char| match character {
        control if control.is_control() && control != '\t' => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    line.trim_end().chars().map(plain).collect()
}

fn confine(step: Step, action: String, source: io::Error) -> Error {
    Error::Confine { step, action, source }
}

/// Returns a user id of the range that no entry, no process and no other build has, with the lock that keeps it ours.
fn free_user(layout: &Layout) -> Result<(u32, Lock), Error> {
    let used = users_of_processes()?;
    let count = USERS.end() - USERS.start() + 1;
    // Builds that begin together look at different places first.
    let first = std::process::id().wrapping_mul(2_654_435_761) % count;
    for offset in 0..count {
        let uid = USERS.start() + (first + offset) % count;
        let known = User::from_uid(Uid::from_raw(uid)).is_ok_and(|user| user.is_some());
        let systemd = Path::new("/run/systemd/dynamic-uid").join(uid.to_string()).exists();
        if used.contains(&uid) || known || systemd {
            continue;
        }
        // No app name begins with an underscore, so this is no app's lock.
        let path = layout.on_disk(format!("/run/venvd/_builder-{uid}.lock"));
        if let Some(lock) = Lock::try_exclusive(&path)? {
            return Ok((uid, lock));
        }
    }
    Err(Error::NoUser {
        first: *USERS.start(),
        last: *USERS.end(),
    })
}

fn users_of_processes() -> Result<BTreeSet<u32>, Error> {
    let proc = Path::new("/proc");
    let mut users = BTreeSet::new();
    for entry in fs::read_dir(proc).at("list", proc)? {
        // A process that has ended meanwhile uses nothing.
        if let Ok(metadata) = entry.at("list", proc)?.metadata() {
            users.insert(metadata.uid());
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Silent;
    use std::time::Duration;
    use venvd_app::Layout;
    use venvd_fs::Root;

    /// Runs a shell script, confined; returns how that went and what it said.
    fn run(directory: &Path, network: Network, script: &str) -> (Result<(), Error>, String) {
        let work = directory.join("work");
        let mut log = Log::begin(directory.join("log"), directory.join("kept")).unwrap();
        let confined = Confined::new(&Layout::new(Root::at(directory)), &work).unwrap();
        let job = Job {
            step: Step::Install,
            stage: Stage::Install,
            network,
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
        };
        let mut ears = Ears {
            log: &mut log,
            progress: &mut Silent,
        };
        let result = confined.run(&job, &mut ears);
        let said = fs::read_to_string(directory.join("log")).unwrap();
        (
            result,
            said.split_once('\n').unwrap().1.split_once('\n').unwrap().1.to_owned(),
        )
    }

    #[test]
    fn a_step_is_nobody_and_sees_nothing_of_others() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), "x").unwrap();
        let script = format!(
            "id -u; id -G; grep -h -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; pwd; touch here && echo wrote; \
             for place in / /tmp /var/tmp /dev/shm /etc /run /run/lock {0}; do touch $place/x 2>/dev/null && echo wrote to $place; done; \
             cat {0}/secret 2>/dev/null; ls /tmp; grep -c : /proc/net/dev; env | cut -d= -f1 | sort | tr '\\n' ' '",
            directory.path().display()
        );
        let (result, said) = run(directory.path(), Network::None, &script);
        result.unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let uid: u32 = lines[0].parse().unwrap();
        assert!(USERS.contains(&uid) && lines[1] == lines[0], "{said}");
        assert_eq!(
            lines[2..5],
            [
                "CapEff:\t0000000000000000",
                "CapBnd:\t0000000000000000",
                "NoNewPrivs:\t1"
            ]
        );
        // One network device: the loopback, down.
        assert_eq!(lines[5..8], [INSIDE, "wrote", "1"], "{said}");
        assert_eq!(
            lines[8].trim_end(),
            "HOME LANG LC_ALL PATH PWD PYTHONDONTWRITEBYTECODE TMPDIR"
        );
        assert_eq!(fs::metadata(directory.path().join("work/here")).unwrap().uid(), uid);
    }

    #[test]
    fn a_step_has_no_terminal_and_no_sockets_of_the_host() {
        let directory = tempfile::tempdir().unwrap();
        // Session and terminal, proc_pid_stat(5).
        let script = "cut -d' ' -f6,7 /proc/self/stat; ls -A /run; (: </dev/tty) 2>&1";
        let (result, said) = run(directory.path(), Network::None, script);
        result.unwrap_err();
        let lines: Vec<&str> = said.lines().collect();
        let (session, terminal) = lines[0].split_once(' ').unwrap();
        let ours = nix::unistd::getsid(None).unwrap();
        assert_ne!(session, ours.to_string(), "{said}");
        assert_eq!(terminal, "0", "{said}");
        assert!(lines.len() == 2 && lines[1].contains("/dev/tty"), "{said}");
    }

    #[test]
    fn what_a_step_leaves_running_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let script = "(trap '' TERM HUP; setsid sleep 300 & while :; do echo alive > beat; sleep 0.02; done) & \
                      until [ -e beat ]; do sleep 0.01; done; echo done";
        let started = std::time::Instant::now();
        let (result, said) = run(directory.path(), Network::None, script);
        result.unwrap();
        assert_eq!(said, "done\n");
        assert!(started.elapsed() < Duration::from_secs(60));
        let beat = directory.path().join("work/beat");
        fs::remove_file(&beat).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(!beat.exists(), "a process of the step still runs");
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_names_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let (result, _) = run(directory.path(), Network::Host, "seq 100; echo why >&2; exit 3");
        let error = result.unwrap_err();
        assert_eq!(error.code(), "install-failed");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("    100\n    why\n"),
            "{text}"
        );
        assert!(text.contains("kept") && !text.contains("    80\n"), "{text}");
        let other = tempfile::tempdir().unwrap();
        let (result, _) = run(
            other.path(),
            Network::None,
            "echo 'cp: No space left on device'; exit 1",
        );
        assert_eq!(result.unwrap_err().code(), "no-space");
    }

    #[test]
    fn what_a_step_says_gives_no_orders_to_a_terminal() {
        let directory = tempfile::tempdir().unwrap();
        let script = r"printf 'a\tb\033]0;title\007\302\2332J\303\251\377\r\n'";
        let (result, said) = run(directory.path(), Network::None, script);
        result.unwrap();
        assert_eq!(said, "a\tb\u{fffd}]0;title\u{fffd}\u{fffd}2J\u{e9}\u{fffd}\n");
    }

    #[test]
    fn builds_at_the_same_time_have_users_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let taken: Vec<_> = (0..3).map(|_| free_user(&layout).unwrap()).collect();
        let users: BTreeSet<u32> = taken.iter().map(|(uid, _)| *uid).collect();
        assert_eq!(users.len(), 3);
    }
}
