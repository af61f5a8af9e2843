use std::path::PathBuf;

use nix::errno::Errno;
use venvd_app::VenvName;
use venvd_app::links::LinkError;
use venvd_app::name::NameError;
use venvd_fs::{beneath, chain};

use crate::interpreter::ProbeError;
use crate::lock::LockError;
use crate::note::Note;

/// Why a venv could not be built, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// Somebody other than root could change what root will run.
    #[error(transparent)]
    Unsafe(#[from] chain::Error),
    /// A link of the app can't be read.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The tag that was made for this venv is not possible.
    #[error("no tag can be made for this venv: {0}; give one with the build")]
    Tag(#[from] NameError),
    /// The app's package is not in the lock, so that no tag can be made.
    #[error("no tag can be made for this venv: {package} is not in the lock, so there is no version; give a tag")]
    NoVersion {
        /// The distribution whose version was looked for.
        package: String,
    },
    /// The lock is not usable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The interpreter is missing or broken.
    #[error(transparent)]
    Python(#[from] ProbeError),
    /// The definition says neither what to install nor from which lock.
    #[error("the definition of {app} has neither [build] lock nor [build] packages: there is nothing to build")]
    Nothing {
        /// The app.
        app: String,
    },
    /// The build was asked to end, and has put nothing in place.
    #[error("interrupted by {}; nothing was changed, and nothing of it is left", signal_name(*.signal))]
    Interrupted {
        /// The signal.
        signal: u8,
    },
    /// Only root can make a user that nobody else is.
    #[error(
        "building a venv of the host needs root: its steps run as a user of their own; run this with sudo, or with \
         --user for a venv of your own"
    )]
    NotRoot,
    /// A venv's scripts would have first lines that not every kernel reads.
    #[error(
        "{path:?} is too long for the first line of the venv's scripts, which is at most 127 bytes; use a shorter tag, or XDG_DATA_HOME"
    )]
    LongPath {
        /// The venv's directory.
        path: PathBuf,
    },
    /// An ordinary user can't confine what it runs.
    #[error(
        "building a venv as an ordinary user needs user namespaces, to confine what the build runs, and this system \
         gives none ({said}): look at `sysctl user.max_user_namespaces kernel.unprivileged_userns_clone` and at the \
         rules of AppArmor or the container, or install a sealed venv with `venvctl install`"
    )]
    NoUserNamespaces {
        /// What unshare(1) said.
        said: String,
    },
    /// A tool that is needed is not installed.
    #[error("{tool} is not there: {hint}")]
    NoTool {
        /// What is missing.
        tool: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// The tag is in use for something else.
    #[error(
        "{venv} exists already and was built from something else; a tag names one content, choose another tag: {}",
        some(.differences)
    )]
    OtherLock {
        /// The venv.
        venv: VenvName,
        /// What differs, one phrase each.
        differences: Vec<String>,
    },
    /// A directory with that name is there, but is no sealed venv.
    #[error("{path:?} is no sealed venv: {reason}; remove it with `venvctl remove`, then build again")]
    NotSealed {
        /// The venv's directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is no venv with that name.
    #[error("there is no venv {venv}; `venvctl list {}` shows those that exist", .venv.app())]
    NoSuchVenv {
        /// The venv.
        venv: VenvName,
    },
    /// A file system can't hold a venv.
    #[error("the file system of {path:?} is mounted {flag}: {reason}")]
    FileSystem {
        /// A path on it.
        path: PathBuf,
        /// `noexec` or `read-only`.
        flag: &'static str,
        /// What that prevents.
        reason: &'static str,
    },
    /// There is not enough space.
    #[error(
        "not enough space on the file system of {path:?}: about {} MiB are needed, {} MiB are free; \
         `venvctl gc` removes what nothing needs, `venvctl remove` a venv; or enlarge it",
        .needed.div_ceil(1 << 20), .free >> 20
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is space, and no room for more files in it.
    #[error(
        "the file system of {path:?} takes only {free} files more (`df -i` tells); remove what nobody needs, or make it anew \
         with more inodes"
    )]
    NoInodes {
        /// Where.
        path: PathBuf,
        /// How many more files it takes.
        free: u64,
    },
    /// The space that there was went while something was written.
    #[error(
        "the file system of {path:?} is full ({} MiB are free now that the attempt is undone, or nearly so); \
         `venvctl gc` removes what nothing needs, or enlarge it",
        .free >> 20
    )]
    Full {
        /// Where.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
    },
    /// The tag's lock is kept, and is another one.
    #[error(
        "{venv} was built before from something else, and its lock is kept as {path:?}; a tag names one content: choose \
         another tag, make it as it was with `venvctl build {venv} --lock {}`, or remove that file if nothing needs it: {}",
        .path.display(), some(.differences)
    )]
    KeptLock {
        /// The venv.
        venv: VenvName,
        /// The lock.
        path: PathBuf,
        /// What differs, one phrase each.
        differences: Vec<String>,
    },
    /// A new lock was asked for, and the definition names one.
    #[error(
        "the definition of {app} names its lock, {lock:?}; --upgrade makes a new one from [build] packages: take [build] \
         lock out of the definition, or make that lock anew by the means it was made with"
    )]
    GivenLock {
        /// The app.
        app: String,
        /// The lock.
        lock: PathBuf,
    },
    /// No user id of the range for builders is free.
    #[error("no user id between {first} and {last} is free to build with; are that many builds running?")]
    NoUser {
        /// First of the range.
        first: u32,
        /// Last of the range.
        last: u32,
    },
    /// The sandbox for a step could not be set up.
    #[error("cannot confine the {step} step: {action}")]
    Confine {
        /// The step.
        step: Step,
        /// What failed.
        action: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A step's program failed.
    #[error("the {step} step failed ({program}: {status}); its last lines:\n{tail}\nThe whole log is {log:?}")]
    Step {
        /// The step.
        step: Step,
        /// The program that was run.
        program: String,
        /// How it ended.
        status: String,
        /// The end of its output.
        tail: String,
        /// Where all of its output is kept.
        log: PathBuf,
    },
    /// A step failed for a reason that is known, and there is a way on.
    #[error("{error}\n{hint}")]
    Hinted {
        /// What failed.
        error: Box<Error>,
        /// What to do.
        hint: &'static str,
    },
    /// Wheels of the lock are in none of the local places, and no index may be asked.
    #[error(
        "no {what} with a hash of the lock is in {} for: {}; put them there, or allow an index",
        .places.join(", "), .missing.join(", ")
    )]
    MissingWheels {
        /// `wheel` or `source distribution`.
        what: &'static str,
        /// Where was looked.
        places: Vec<String>,
        /// `name==version` each.
        missing: Vec<String>,
    },
    /// What a distribution is built with is not among the lock's wheels.
    #[error(
        "{distribution} can't be built: it needs {requirement} to build, and that is not in the lock; \
         add it to [build] packages and build with --upgrade, or add it to the lock. The whole log is {log:?}"
    )]
    BuildNeeds {
        /// `name==version` of what is built from source.
        distribution: String,
        /// What its build system asks for.
        requirement: String,
        /// Where the output of the attempt is kept.
        log: PathBuf,
    },
    /// Building a distribution from source made something else than its wheel.
    #[error(
        "building {distribution} made no wheel of it, or several ({}); this package can't be built from source here",
        if .wheels.is_empty() { "none".to_owned() } else { .wheels.join(", ") }
    )]
    NotBuilt {
        /// `name==version` of what is built from source.
        distribution: String,
        /// The wheels of its name that were there.
        wheels: Vec<String>,
    },
    /// What the installer left is not a tree of plain files.
    #[error("the installer left what can't be sealed")]
    Tree(#[source] beneath::Error),
    /// What was installed is not what the lock names.
    #[error("the venv does not hold what its lock names: {}", .differences.join("; "))]
    NotAsLocked {
        /// One phrase each.
        differences: Vec<String>,
    },
    /// A file could not be made to fit the venv's final place.
    #[error("{path:?} in the new venv {reason}; this package can't be sealed")]
    Relocation {
        /// The file, relative to the venv.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A module of the host can't be linked.
    #[error("the host module {module} {reason}")]
    HostModule {
        /// The module, as declared.
        module: String,
        /// What is wrong, as it reads after its name.
        reason: String,
    },
    /// The venv is in force, asked for, or the way back.
    #[error("{venv} is {role}: the {role} link of {} leads to it; activate another venv first", .venv.app())]
    Linked {
        /// The venv.
        venv: VenvName,
        /// `active`, `committed` or `previous`.
        role: &'static str,
    },
    /// An activation of the app is not over.
    #[error(
        "an activation of {} is going on, and {venv} may be its way back; try again when it is over (`venvctl status {}`)",
        .venv.app(), .venv.app()
    )]
    Pending {
        /// The venv.
        venv: VenvName,
    },
    /// A directory can't be taken over as a venv.
    #[error("{directory:?} is no sound sealed venv: {}", some(.reasons))]
    Foreign {
        /// The directory.
        directory: PathBuf,
        /// One phrase each.
        reasons: Vec<String>,
    },
    /// This host can't run the venv.
    #[error("{venv} does not fit this host: {}; build it here from its lock", some(.reasons))]
    Misfit {
        /// The venv.
        venv: VenvName,
        /// One phrase each.
        reasons: Vec<String>,
    },
    /// The tag is in use for another content.
    #[error(
        "{venv} exists already with another content; a tag names one content, give another one: {}",
        some(.differences)
    )]
    OtherContent {
        /// The venv.
        venv: VenvName,
        /// What differs, one phrase each.
        differences: Vec<String>,
    },
    /// A venv can't be repaired where it is.
    #[error(
        "{venv} can't be repaired: {}; remove it with `venvctl remove`, then build or install it again",
        some(.reasons)
    )]
    Irreparable {
        /// The venv.
        venv: VenvName,
        /// One phrase each.
        reasons: Vec<String>,
    },
    /// What lies around or over a venv is unsafe, so that nothing in it can be believed, nor be put right for good.
    #[error(
        "{venv} can't be repaired yet: {}; put the directories or mounts that are named right first, and run this again",
        some(.reasons)
    )]
    Exposed {
        /// The venv.
        venv: VenvName,
        /// One phrase each.
        reasons: Vec<String>,
    },
    /// The right content of damaged files is nowhere to be had.
    #[error(
        "{venv} is not repaired: the right content is in no other venv of this host, nor in the store{}, for {}; give a sound copy of the venv with --from{}",
        if *.given { ", nor in the directory that was given" } else { "" },
        some(.paths),
        .rebuild.as_ref().map(|reason| format!(" (rebuilding it from its lock failed: {reason})")).unwrap_or_default()
    )]
    NoSource {
        /// The venv.
        venv: VenvName,
        /// The files.
        paths: Vec<String>,
        /// Whether a directory was given.
        given: bool,
        /// Why a rebuild gave nothing.
        rebuild: Option<String>,
    },
    /// A file's content is nowhere to be had.
    #[error("the content of {path:?} is neither in the store nor in a source that was given")]
    NoContent {
        /// The file, relative to the venv.
        path: PathBuf,
    },
    /// Processes run from the venv.
    #[error("{venv} is in use by {}; stop or restart them first", .processes.join(", "))]
    InUse {
        /// The venv.
        venv: VenvName,
        /// What each is and how that is known, the first few.
        processes: Vec<String>,
    },
    /// Somebody said that the venv stays.
    #[error(
        "{venv} is held{}; `venvctl unhold {venv}` lets it go",
        .hold.reason.iter().map(|why| format!(": {why}")).collect::<String>()
    )]
    Held {
        /// The venv.
        venv: VenvName,
        /// Why, by whom, since when.
        hold: Note,
    },
    /// Whether the venv is needed can't be found out.
    #[error("whether {venv} is needed can't be found out: {why}")]
    Undecided {
        /// The venv.
        venv: VenvName,
        /// Why not.
        why: String,
    },
    /// The caller may not see what other processes use.
    #[error(
        "which venvs are in use can only be seen by root with CAP_SYS_PTRACE, and what can't be seen would look unused; \
         run this with sudo"
    )]
    MayNotLook,
    /// `/proc` does not show this host's processes.
    #[error("{path:?} does not show this process, so it is not where processes are to be seen; mount a /proc there")]
    NoProc {
        /// The directory.
        path: PathBuf,
    },
    /// Processes could not be looked into.
    #[error("{} can't be looked into and may use any venv, so nothing was removed; run this as root, outside of any container", some(.processes))]
    Blind {
        /// `name (pid)` each.
        processes: Vec<String>,
    },
}

/// The steps of a build that run a program of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Resolving packages and constraints to a lock.
    Lock,
    /// Getting the wheels.
    Download,
    /// Building what comes as source.
    Build,
    /// Installing them.
    Install,
    /// Compiling the sources.
    Compile,
    /// Trying what was installed.
    Check,
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Lock => "lock",
            Self::Download => "download",
            Self::Build => "build",
            Self::Install => "install",
            Self::Compile => "compile",
            Self::Check => "check",
        })
    }
}

impl From<beneath::Error> for Error {
    fn from(error: beneath::Error) -> Self {
        match error {
            // A full disk is not the installer's fault.
            beneath::Error::Io(error) => Self::Io(error),
            refused @ beneath::Error::Refused { .. } => Self::Tree(refused),
        }
    }
}

/// What the installers say when a distribution has no file that may be taken.
const NO_FILE: [&str; 3] = [
    // pip: not one version has a wheel. Where some have, another version is what is asked for.
    "(from versions: none)",
    "building from source is disabled",
    "no usable wheels",
];

/// What they say when no place that may be asked has a distribution.
const NOWHERE: [&str; 3] = [
    "No matching distribution found for ",
    "not found in the provided package locations",
    "network was disabled",
];

impl Error {
    /// Adds what to do about a distribution that no file was found of, if that is what a step failed of: it may exist as
    /// source only, or, where no index may be asked, be in none of the local places.
    pub(crate) fn hint_at_files(self, offline: bool) -> Self {
        let Self::Step { step, tail, .. } = &self else {
            return self;
        };
        let says = |texts: &[&str]| texts.iter().any(|text| tail.contains(text));
        let hint = if offline && (says(&NO_FILE) || says(&NOWHERE)) {
            "No index was asked: name a directory that has its wheels with --find-links, or allow an index"
        // What a lock has does exist.
        } else if says(&NO_FILE) || (*step == Step::Download && says(&NOWHERE)) {
            "If that exists as source only, name it in [build] sdists"
        } else {
            return self;
        };
        Self::Hinted {
            error: Box::new(self),
            hint,
        }
    }
}

/// How many differences an error names: the rest would hide what to do.
const NAMED: usize = 5;

fn some(differences: &[String]) -> String {
    let named = differences.get(..NAMED).unwrap_or(differences).join("; ");
    match differences.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

impl Error {
    /// Returns the word by which scripts tell errors apart.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(error) if is_full(&error.source) => "no-space",
            Self::Io(_) => "io",
            Self::Unsafe(_) => "unsafe-owner",
            Self::Link(_) => "bad-link",
            Self::Tag(_) | Self::NoVersion { .. } => "no-tag",
            Self::Lock(error) => error.code(),
            Self::Python(error) => error.code(),
            Self::Nothing { .. } => "nothing-to-build",
            Self::Interrupted { .. } => "interrupted",
            Self::NotRoot => "not-root",
            Self::LongPath { .. } => "long-path",
            Self::NoUserNamespaces { .. } => "no-namespaces",
            Self::NoTool { .. } => "no-tool",
            Self::OtherLock { .. } | Self::KeptLock { .. } => "other-lock",
            Self::GivenLock { .. } => "given-lock",
            Self::NotSealed { .. } => "not-sealed",
            Self::NoSuchVenv { .. } => "no-such-venv",
            Self::FileSystem { .. } => "file-system",
            Self::NoSpace { .. } | Self::NoInodes { .. } | Self::Full { .. } => "no-space",
            Self::NoUser { .. } | Self::Confine { .. } => "no-confinement",
            Self::Step { step, .. } => match step {
                Step::Lock => "lock-failed",
                Step::Download => "download-failed",
                Step::Build => "build-failed",
                Step::Install => "install-failed",
                Step::Compile => "compile-failed",
                Step::Check => "check-failed",
            },
            Self::Hinted { error, .. } => error.code(),
            Self::MissingWheels { .. } => "missing-wheel",
            Self::BuildNeeds { .. } => "build-needs",
            Self::NotBuilt { .. } => "not-built",
            Self::Tree(_) => "hostile-tree",
            Self::NotAsLocked { .. } => "not-as-locked",
            Self::Relocation { .. } => "relocation",
            Self::HostModule { .. } => "host-module",
            Self::Linked { .. } => "linked",
            Self::Pending { .. } => "pending",
            Self::InUse { .. } => "in-use",
            Self::Held { .. } => "held",
            Self::Undecided { .. } => "undecided",
            Self::MayNotLook => "not-root",
            Self::NoProc { .. } | Self::Blind { .. } => "blind",
            Self::Foreign { .. } => "unsound-venv",
            Self::Misfit { .. } => "python-mismatch",
            Self::OtherContent { .. } => "other-content",
            Self::Irreparable { .. } | Self::Exposed { .. } => "irreparable",
            Self::NoSource { .. } => "no-source",
            Self::NoContent { .. } => "no-content",
        }
    }
}

fn signal_name(signal: u8) -> String {
    let known = nix::sys::signal::Signal::try_from(i32::from(signal));
    known.map_or_else(|_| format!("signal {signal}"), |known| known.to_string())
}

/// Returns whether an error says that the file system, or somebody's share of it, is full.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| code == Errno::ENOSPC as i32 || code == Errno::EDQUOT as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_at_what_the_output_is_about() {
        let hint = |tail: &str, offline| {
            let error = Error::Step {
                step: Step::Lock,
                program: "pip".into(),
                status: "exit status: 1".into(),
                tail: tail.into(),
                log: "/log".into(),
            };
            match error.hint_at_files(offline) {
                Error::Hinted { hint, .. } => hint,
                _ => "",
            }
        };
        let none = "ERROR: Could not find a version that satisfies the requirement ovs==3 (from versions: none)";
        let other = "(from versions: 1.0, 2.0)\nERROR: No matching distribution found for ovs==3";
        assert!(hint(none, false).contains("[build] sdists"));
        assert!(hint("because ovs==3 has no usable wheels", false).contains("[build] sdists"));
        assert_eq!(hint(other, false), "");
        assert_eq!(hint("error: a proxy is down", false), "");
        for said in [none, other] {
            assert!(hint(said, true).contains("--find-links"), "{said}");
        }
        assert_eq!(hint("Killed", true), "");
    }
}
