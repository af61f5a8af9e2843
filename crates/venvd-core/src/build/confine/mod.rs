//! Running what a package, an index or an installer might have a say in: never as root, never near anything else.
//!
//! A build goes in phases (lock, download, build, install), and each has a user id that nobody else has and a directory of
//! its own, so that what one leaves behind can't meet another. Its programs see that directory under one fixed name, with
//! the rest of the file system read-only, have no network unless it is their job, have no terminal, and end, all of them,
//! when the phase does or when the build is killed.
//!
//! The types tell the order: a [`Phase`] is prepared, [`Phase::run`] turns it into [`Left`], and only then, when none of
//! its processes is there any more, can root look at what it left.

mod mounts;
mod namespaces;
mod script;
mod unit;
mod unprivileged;
mod user;

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use venvd_app::{Layout, Scope};
use venvd_fs::beneath::{self, Choice, Copied, Kind, Tree};
use venvd_fs::{IoContext, atomic};

use super::interrupt::Interrupt;
use super::log::Log;
use super::progress::Listener;
use super::{Progress, Stage};
use crate::error::{Error, Step};
use script::Outside;
use unit::Unit;
use user::FreeUser;

pub(super) use namespaces::{SETPRIV, UNSHARE};
pub(super) use unit::stop_all;

/// Places of people, which no step has any business in.
const HOMES: [&str; 2] = ["/home", "/root"];

/// Places that all can write to.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Its sockets would be a way to the network (a resolver, the bus, a container manager) without any network device.
const RUN: &str = "/run";

/// Where a phase's directory appears to its programs. The same for every build, so that nothing of the real path gets
/// into what they write.
pub(crate) const INSIDE: &str = "/dev/shm/venvd";

/// The longest line of output that is taken as one.
const MAX_LINE: u64 = 64 << 10;

/// The largest file that root reads whole: a lock, or a resolver's report, which for nova has 2 MiB.
const MAX_READ: u64 = 256 << 20;

/// Whether a step may talk to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// It may; it also sees the host's shared directories, where local wheels may lie.
    Host,
    /// It may not.
    None,
}

/// What a step is allowed, and what it is called for people.
fn nature(step: Step) -> (Network, Stage) {
    match step {
        Step::Lock => (Network::Host, Stage::Lock),
        Step::Download => (Network::Host, Stage::Download),
        Step::Build => (Network::None, Stage::Build),
        Step::Install => (Network::None, Stage::Install),
        Step::Compile => (Network::None, Stage::Compile),
        Step::Check => (Network::None, Stage::Seal),
    }
}

/// How the phases of one build are confined.
#[derive(Debug)]
pub(super) struct Confined {
    backend: Backend,
    layout: Layout,
    /// The build's own directory, in which those of the phases are made; only root can look into it.
    base: PathBuf,
    /// Files and directories of the host that are shown inside, read-only.
    shown: Vec<Shown>,
    interrupt: Interrupt,
}

/// What confines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    /// systemd, by transient units.
    Unit,
    /// We, by namespaces.
    Namespaces,
    /// We, by namespaces that an ordinary user may have.
    Unprivileged,
}

impl Backend {
    /// Returns the one for this system.
    pub(super) fn choose() -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            unprivileged::require()?;
            return Ok(Self::Unprivileged);
        }
        if unit::is_usable() {
            return Ok(Self::Unit);
        }
        namespaces::require()?;
        Ok(Self::Namespaces)
    }

    /// Returns whether it leaves units.
    pub(super) fn is_unit(self) -> bool {
        self == Self::Unit
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Unit => "steps are confined by transient units of systemd",
            Self::Namespaces => "steps are confined by namespaces, since no systemd runs this system",
            Self::Unprivileged => "steps are confined by namespaces of an ordinary user",
        })
    }
}

/// What a backend has made ready for one phase.
#[derive(Debug)]
enum Prepared {
    Unit(Unit),
    Namespaces(FreeUser),
    Unprivileged,
}

impl Prepared {
    /// Lets the phase's user write to a directory.
    fn give(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Unit(_) => Unit::give(path),
            Self::Namespaces(user) => namespaces::give(user, path),
            // It is whose it should be.
            Self::Unprivileged => Ok(()),
        }
    }

    /// Runs the phase's script to its end, and that of all that it started.
    fn run(&self, run: &Run<'_>, streams: Streams) -> Result<ExitStatus, Error> {
        match self {
            Self::Unit(unit) => unit.run(run, streams),
            Self::Namespaces(user) => namespaces::run(user, run, streams),
            Self::Unprivileged => unprivileged::run(run, streams),
        }
    }

    /// Returns the namespaces that the script must not find itself in: ours, and those of the system.
    fn outside(&self, network: Network) -> io::Result<Outside> {
        let mut kinds = vec!["mnt", "ipc"];
        if matches!(self, Self::Unprivileged) {
            // There its end is that of its PID namespace: there is no user id that only it has.
            kinds.extend(["user", "pid"]);
        }
        if network == Network::None {
            kinds.push("net");
        }
        let mut outside = Vec::new();
        for kind in kinds {
            for process in ["self", "1"] {
                match fs::read_link(format!("/proc/{process}/ns/{kind}")) {
                    Ok(namespace) => outside.push(namespace.to_string_lossy().into_owned()),
                    // A container may keep us from looking at its first process.
                    Err(error) if process == "1" && error.kind() == io::ErrorKind::PermissionDenied => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Outside(outside))
    }
}

/// What a phase's script is run with.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    step: Step,
    network: Network,
    /// The phase's directory, for root.
    outer: &'a Path,
    /// The one in it that the phase sees and can write to.
    work: &'a Path,
    shown: &'a [Shown],
    jobs: &'a [Job],
    interrupt: &'a Interrupt,
}

/// A script's standard input and output.
#[derive(Debug)]
struct Streams {
    /// Closed when the build ends.
    life: PipeReader,
    output: PipeWriter,
}

impl Run<'_> {
    /// Returns the phase's directory as what is shown.
    fn own(&self) -> Shown {
        Shown {
            host: self.work.to_owned(),
            inside: INSIDE.into(),
        }
    }

    /// Returns the directories that are hidden, whatever confines; what is shown is shown in them.
    fn covered(&self) -> Vec<PathBuf> {
        let mut places: Vec<PathBuf> = HOMES.iter().map(PathBuf::from).collect();
        if self.network == Network::None {
            places.push(RUN.into());
        }
        // A place that is not there can only be made in an empty directory.
        let missing = self.shown.iter().filter(|shown| !shown.inside.exists());
        let above = missing.filter_map(|shown| shown.inside.ancestors().find(|above| above.exists()));
        places.extend(above.map(Path::to_owned));
        places.retain(|place| place.is_dir() && !self.needs(place) && place != Path::new("/dev/shm"));
        places.sort();
        places.dedup();
        places
    }

    /// Returns whether a job names something below a place: an interpreter in somebody's home.
    fn needs(&self, place: &Path) -> bool {
        HOMES.iter().any(|home| Path::new(home) == place) && self.names(place)
    }

    /// Returns whether a job names something below a place.
    fn names(&self, place: &Path) -> bool {
        let words = |job: &'_ Job| job.arguments.iter().any(|word| Path::new(word).starts_with(place));
        self.jobs.iter().any(|job| job.program.starts_with(place) || words(job))
    }
}

/// A file or directory of the host, and where it appears inside.
#[derive(Debug, Clone)]
struct Shown {
    host: PathBuf,
    inside: PathBuf,
}

/// A program to run, and how.
#[derive(Debug)]
pub(super) struct Job {
    /// What people call it, whatever its path is inside: `uv`, `pip`.
    pub(super) name: &'static str,
    /// Its path inside.
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Besides the few variables that all have; nothing of the caller's.
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// Who hears what a program says.
pub(super) struct Ears<'a> {
    pub(super) log: &'a mut Log,
    pub(super) progress: &'a mut dyn Progress,
}

impl Confined {
    /// Chooses how to confine; `base` is a directory that only root can look into.
    pub(super) fn new(layout: &Layout, base: &Path, interrupt: &Interrupt) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() && layout.scope() == Scope::System {
            return Err(Error::NotRoot);
        }
        Ok(Self {
            backend: Backend::choose()?,
            layout: layout.clone(),
            base: base.to_owned(),
            shown: Vec::new(),
            interrupt: interrupt.clone(),
        })
    }

    /// Returns what confines.
    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// Shows a file or directory of the host inside all phases from now on, under a fixed name, which is returned.
    pub(super) fn show(&mut self, host: &Path, name: &str) -> PathBuf {
        show(&mut self.shown, host, name)
    }

    /// Begins a phase: an empty directory, and a user to whom nothing else belongs.
    pub(super) fn phase(&self, step: Step) -> Result<Phase, Error> {
        let (network, stage) = nature(step);
        // A directory that root made and only root can look into; below it, the one that the phase can write to.
        let outer = tempfile::Builder::new()
            .prefix(&format!("{step}."))
            .tempdir_in(&self.base)
            .at("create a directory in", &self.base)?;
        let prepared = match self.backend {
            Backend::Unit => Prepared::Unit(Unit::new(outer.path())),
            Backend::Namespaces => Prepared::Namespaces(FreeUser::take(&self.layout)?),
            Backend::Unprivileged => Prepared::Unprivileged,
        };
        let phase = Phase {
            step,
            stage,
            network,
            outer,
            shown: self.shown.clone(),
            prepared,
            interrupt: self.interrupt.clone(),
        };
        for name in ["", "home", "tmp"] {
            phase.directory(name)?;
        }
        Ok(phase)
    }
}

fn show(shown: &mut Vec<Shown>, host: &Path, name: &str) -> PathBuf {
    let inside = Path::new("/dev/shm").join(name);
    shown.push(Shown {
        host: host.to_owned(),
        inside: inside.clone(),
    });
    inside
}

/// A phase in which nothing has run yet. Dropping it removes its directory.
#[derive(Debug)]
pub(super) struct Phase {
    step: Step,
    stage: Stage,
    network: Network,
    outer: tempfile::TempDir,
    shown: Vec<Shown>,
    prepared: Prepared,
    interrupt: Interrupt,
}

impl Phase {
    /// Makes a directory that the phase's programs can write to, below [`INSIDE`], and returns its path there.
    ///
    /// Only before one of them has run: what they left may be links to anywhere.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.work().join(name);
        fs::create_dir(&path).at("create", &path)?;
        self.prepared.give(&path)?;
        Ok(Path::new(INSIDE).join(name))
    }

    /// Takes the network away, whatever the step is allowed.
    pub(super) fn isolate(&mut self) {
        self.network = Network::None;
    }

    /// Shows a file or directory of the host inside this phase, read-only, under a fixed name, which is returned.
    pub(super) fn show(&mut self, host: &Path, name: &str) -> PathBuf {
        show(&mut self.shown, host, name)
    }

    fn work(&self) -> PathBuf {
        self.outer.path().join("work")
    }

    /// Shows a file or directory of the host inside this phase, read-only, in its own place, where that is hidden.
    pub(super) fn show_in_place(&mut self, path: &Path) {
        let hidden = HOMES.iter().chain(&TEMPORARY).any(|place| path.starts_with(place));
        // Others would need quoting that not all versions of systemd know.
        let plain = |character: char| character.is_alphanumeric() || "/._-+@=,~".contains(character);
        if hidden && path.to_string_lossy().chars().all(plain) {
            self.show_at(path, path);
        }
    }

    /// Shows a file or directory of the host inside this phase, read-only, at any place; what else there is in the
    /// directory above it that exists is hidden, where the place does not exist.
    pub(super) fn show_at(&mut self, host: &Path, inside: &Path) {
        self.shown.push(Shown {
            host: host.to_owned(),
            inside: inside.to_owned(),
        });
    }

    /// Runs programs one after the other, as long as each succeeds, and ends all that they started.
    pub(super) fn run(mut self, jobs: &[Job], ears: &mut Ears<'_>) -> Result<Left, Error> {
        let lines: Vec<String> = jobs
            .iter()
            .map(|job| format!("{}: {}", self.step, spelled(job)))
            .collect();
        ears.log.heading(&lines.join("\n== "))?;
        self.interrupt.check()?;
        ears.progress.report(self.stage, "");
        let script = self.outer.path().join("job");
        let outside = self
            .prepared
            .outside(self.network)
            .at("read the namespaces of", Path::new("/proc/self"))?;
        // Closed to others by the directory above it.
        atomic::write(&script, &script::render(jobs, &outside), 0o644)?;
        self.show(&script, script::NAME);
        let status = self.start(jobs, ears)?;
        self.interrupt.check()?;
        if status.success() {
            return Ok(Left {
                outer: self.outer,
                _prepared: self.prepared,
                interrupt: self.interrupt,
            });
        }
        if ears.log.says_full() {
            return Err(crate::space::full(self.outer.path()));
        }
        if !self.work().join(script::STARTED).exists() {
            let source = io::Error::other(format!("{status}: {}", ears.log.tail().trim()));
            return Err(confine(self.step, "start the first program".to_owned(), source));
        }
        Err(Error::Step {
            step: self.step,
            program: names(jobs),
            status: status.to_string(),
            tail: ears.log.tail(),
            log: ears.log.kept().to_owned(),
        })
    }
}

impl Phase {
    /// Runs the script while its output is heard.
    fn start(&self, jobs: &[Job], ears: &mut Ears<'_>) -> Result<ExitStatus, Error> {
        let broken = |source: io::Error| confine(self.step, "pipe".to_owned(), source);
        let (reader, output) = io::pipe().map_err(broken)?;
        let (life, held) = io::pipe().map_err(broken)?;
        let work = self.work();
        let run = Run {
            step: self.step,
            network: self.network,
            outer: self.outer.path(),
            work: &work,
            shown: &self.shown,
            jobs,
            interrupt: &self.interrupt,
        };
        let result = std::thread::scope(|scope| {
            // A thread of its own: it may enter namespaces, and its children die with it.
            let runner = scope.spawn(|| self.prepared.run(&run, Streams { life, output }));
            let heard = hear(reader, self.stage, ears);
            let status = runner
                .join()
                .unwrap_or_else(|_| Err(broken(io::Error::other("the thread that runs it panicked"))));
            heard.and(status)
        });
        drop(held);
        result
    }
}

/// Who has a say in a copy, and who hears of it.
pub(super) struct Hooks<'a> {
    pub(super) choose: &'a mut dyn FnMut(&Path, Kind) -> Choice,
    pub(super) tell: &'a mut dyn FnMut(Copied),
}

/// What a phase left, when none of its processes is there any more. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Left {
    outer: tempfile::TempDir,
    /// Nobody else gets the user while files of his are here.
    _prepared: Prepared,
    interrupt: Interrupt,
}

impl Left {
    /// Reads a file that the phase left in its own directory: never through a link.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(Tree::open(&self.path(""))?.read(Path::new(name), MAX_READ)?)
    }

    /// Copies a directory that the phase left to root's own new files in `to`, as [`beneath::copy_tree`].
    pub(super) fn take(
        &self,
        name: &str,
        to: &Path,
        choose: &mut dyn FnMut(&Path, Kind) -> Choice,
    ) -> Result<Copied, Error> {
        let tell = &mut |_| {};
        self.take_and_tell(name, to, Hooks { choose, tell })
    }

    /// As [`Left::take`], and tells after each file how much was copied.
    pub(super) fn take_and_tell(&self, name: &str, to: &Path, hooks: Hooks<'_>) -> Result<Copied, Error> {
        let Hooks { choose, tell } = hooks;
        let mut choose = |path: &Path, kind| match self.interrupt.signal() {
            // To the end at once, and then the error.
            Some(_) => Choice::Skip,
            None => choose(path, kind),
        };
        let copied = beneath::copy_tree_and_tell(&self.path(name), to, &mut choose, tell)?;
        self.interrupt.check()?;
        Ok(copied)
    }

    /// Removes it now.
    pub(super) fn remove(self) -> Result<(), Error> {
        let path = self.outer.path().to_owned();
        Ok(self.outer.close().at("remove", &path)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join("work").join(name)
    }
}

/// Returns a job's command line for the log.
fn spelled(job: &Job) -> String {
    let words: Vec<_> = job.arguments.iter().map(|word| word.to_string_lossy()).collect();
    format!("{} {}", job.program.display(), words.join(" "))
}

/// Returns what people call some programs.
fn names(jobs: &[Job]) -> String {
    let mut names: Vec<&str> = jobs.iter().map(|job| job.name).collect();
    names.dedup();
    names.join(" and ")
}

/// Passes on what a program says, line by line, until it and all that it started have closed their output.
fn hear(reader: PipeReader, stage: Stage, ears: &mut Ears<'_>) -> Result<(), Error> {
    let mut listener = Listener::new(stage);
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        // In pieces, where it never ends: it is not us who decide how much a program says.
        let mut piece = (&mut reader).take(MAX_LINE);
        piece
            .read_until(b'\n', &mut line)
            .at("read the output of a program for", ears.log.path())?;
        if line.is_empty() {
            return Ok(());
        }
        let line = printable(&String::from_utf8_lossy(&line));
        ears.log.line(&line)?;
        listener.hear(&line, ears.progress);
    }
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

#[cfg(test)]
mod tests;
