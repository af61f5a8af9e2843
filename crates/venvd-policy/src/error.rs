use std::path::PathBuf;

use venvd_app::{AppName, ProgramName, UserName, VenvName};
use venvd_fs::chain;

use crate::place::Place;

/// A text that must not get into a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} can't go into sudoers: {rule}")]
pub struct Refused {
    /// What it is: `the argument`.
    pub what: &'static str,
    /// The text itself.
    pub text: String,
    /// What it would have to be like.
    pub rule: &'static str,
}

/// Why a policy is not, or not wholly, written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file can't be read or written.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// The app has no rules any more, but something else that names its venvs could not be put back.
    #[error(
        "the rules of {app} are gone, but something that leads to its venvs could not be put back; mend that, then \
         `venvctl policy apply {app}`"
    )]
    LeftBehind {
        /// The app.
        app: AppName,
        /// What stays as it is, and why.
        #[source]
        source: Box<Error>,
    },
    /// `visudo` or `sudo` can't be run.
    #[error("cannot run {program:?}")]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `visudo` or `sudo` does not come to an end.
    #[error(
        "`{command}` gave no answer within {seconds} seconds and was killed; see what it waits for (`sudoers:` in \
         /etc/nsswitch.conf, LDAP, SSSD, name servers), then try again"
    )]
    Hangs {
        /// The program and its arguments.
        command: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Somebody who is not root could change what root would run or believe.
    #[error("the policy of {app} would rest on a path that is not in root's hands alone")]
    Unsafe {
        /// The app.
        app: AppName,
        /// The component at fault.
        #[source]
        source: chain::Error,
    },
    /// A link where only a file of the venv itself may be.
    #[error(
        "{path:?} leads to {target:?}, outside of its venv; root would run what is there, and the manifest has no such \
         host module; build the venv anew"
    )]
    Leaves {
        /// The path in the venv.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// What root would import can't be checked, since it is not where it usually is.
    #[error(
        "{interpreter:?}, the interpreter of {app}, has no standard library in lib or lib64 beside its bin, so what root \
         would import can't be checked; build the venv with the Python of a distribution"
    )]
    NoStandardLibrary {
        /// The app.
        app: AppName,
        /// The interpreter, without links.
        interpreter: PathBuf,
    },
    /// A file in `bin` that Python would import instead of a module of its own.
    #[error(
        "{path:?} would be imported in place of Python's own module {module}, by whatever root runs from this venv; build \
         the venv without what brings it"
    )]
    HidesModule {
        /// The file.
        path: PathBuf,
        /// The module.
        module: String,
    },
    /// An entry of `rootwrap.conf` that means another directory for every caller.
    #[error(
        "{config:?}: the entry {entry:?} of {key} is no absolute path: rootwrap would look below the caller's working \
         directory, and run as root what it finds there; write the list without blanks, line breaks and empty entries"
    )]
    Relative {
        /// The `rootwrap.conf`.
        config: PathBuf,
        /// `exec_dirs` or `filters_path`.
        key: &'static str,
        /// The entry, as rootwrap reads it.
        entry: String,
    },
    /// `rootwrap.conf` is not what oslo.rootwrap could read, or not unmistakably so.
    #[error("{config:?}, line {line}: {reason}")]
    Config {
        /// The `rootwrap.conf`.
        config: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A command calls rootwrap with a configuration that would not be looked at.
    #[error(
        "{place}: the command of {app} gives rootwrap {config:?}, which is not the config of [rootwrap], so nobody checks \
         who can write it and what it names; write [rootwrap] config = {config:?}, or the configuration of [rootwrap] into \
         the command"
    )]
    UncheckedRootwrap {
        /// The app.
        app: AppName,
        /// Where the command stands.
        place: Box<Place>,
        /// What the command names.
        config: PathBuf,
    },
    /// The definition names a `rootwrap.conf` that is not there.
    #[error("{config:?}, the rootwrap configuration of {app}, does not exist; install it, or take [rootwrap] out")]
    NoConfig {
        /// The app.
        app: AppName,
        /// The file.
        config: PathBuf,
    },
    /// There is no rootwrap configuration to adopt.
    #[error("{app} has no [rootwrap] config in its definition, so there is nothing to adopt")]
    NoRootwrap {
        /// The app.
        app: AppName,
    },
    /// Root should not read it for whoever put it there.
    #[error(
        "{path:?} can't be copied: {reason}; root copies plain files, reached without links, of root's and the app's user's"
    )]
    Unadoptable {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The rootwrap configuration is a copy already.
    #[error(
        "the definition of {app} names {config:?} already; edit that, or remove the fragment 80-rootwrap.toml to begin anew"
    )]
    Adopted {
        /// The app.
        app: AppName,
        /// The copy.
        config: PathBuf,
    },
    /// Without `exec_dirs` rootwrap takes the PATH of its caller, and without sudo commands that is not ours.
    #[error(
        "{config:?} has no exec_dirs, and {app} has no [sudo] commands whose PATH would lead to the venv; add \
         exec_dirs=/usr/local/sbin,/usr/local/bin,/usr/sbin,/usr/bin,/sbin,/bin to [DEFAULT]"
    )]
    NoExecDirs {
        /// The app.
        app: AppName,
        /// The `rootwrap.conf`.
        config: PathBuf,
    },
    /// Programs of the venv would stand in front of the system's.
    #[error(
        "{venv} would put programs in front of the system's, in what root looks through for this app: {}; if that is \
         meant, name them in the definition: [{table}] shadow = [{}]", list(.programs), quoted(.programs)
    )]
    Shadows {
        /// The venv.
        venv: VenvName,
        /// The programs of the venv, and which of the system's each hides.
        programs: Vec<(ProgramName, PathBuf)>,
        /// Where the definition names those that may.
        table: &'static str,
    },
    /// Two apps of one user call the same program, and `secure_path` leads to one of them only.
    #[error(
        "{place}: {other}, of {}, has a [sudo] command of {user} with {program}, too, and `sudo {program}` finds only the \
         venv of one of them; give the apps different users, or turn one of them off", definition.display()
    )]
    SharedProgram {
        /// Where the command stands.
        place: Box<Place>,
        /// The other app.
        other: AppName,
        /// Its definition.
        definition: PathBuf,
        /// The user of both.
        user: UserName,
        /// The program of both.
        program: ProgramName,
    },
    /// Two apps name one `rootwrap.conf`.
    #[error(
        "{app} and {other} both name {config:?} as their rootwrap.config ({} and {}), which can have the venv of one of \
         them in front; give one of them a file of its own, or turn it off",
        definitions[0].display(), definitions[1].display()
    )]
    SharedConfig {
        /// The app.
        app: AppName,
        /// The other app.
        other: AppName,
        /// The file.
        config: PathBuf,
        /// The definitions of both.
        definitions: [PathBuf; 2],
    },
    /// A rule would name a program that no admitted venv has.
    #[error("{place}: the [sudo] commands of {app} name {program}, but {venv} has no such program")]
    MissingProgram {
        /// The app.
        app: AppName,
        /// Where the command stands.
        place: Box<Place>,
        /// The program.
        program: ProgramName,
        /// The venv in front.
        venv: VenvName,
    },
    /// A venv of another app.
    #[error("{venv} is no venv of {app}")]
    Foreign {
        /// The app.
        app: AppName,
        /// The venv.
        venv: VenvName,
    },
    /// There is no sudo, but the app needs it.
    #[error(
        "{app} has [sudo] commands, but {missing:?} does not exist; install sudo, or take [sudo] out of the definition"
    )]
    NoSudo {
        /// The app.
        app: AppName,
        /// What is not there.
        missing: PathBuf,
    },
    /// There is no such user.
    #[error("{app} is to run as {user}, but there is no such user on this host; create it first")]
    NoUser {
        /// The app.
        app: AppName,
        /// The user.
        user: UserName,
    },
    /// The `visudo` that is there is not of the sudo that is there, so it can't tell what that one would read.
    #[error(
        "{sudo} is installed, but no visudo of the same family: {found}; install it, so that policies can be checked"
    )]
    NoVisudo {
        /// The sudo.
        sudo: String,
        /// What was found instead.
        found: String,
    },
    /// `sudo --version` or `visudo --version` says something that no known sudo says.
    #[error("cannot tell which sudo is installed: `{program:?} --version` says {output:?}")]
    UnknownSudo {
        /// The program.
        program: PathBuf,
        /// Its answer.
        output: String,
    },
    /// The installed sudo would accept the rule and never match it.
    #[error(
        "{place}: sudo-rs {version} reads the final * of {command:?} as a literal argument and would refuse every call \
         (it works from 0.2.13 on); with this sudo use the daemon: a command without *, such as \
         {app}-rootwrap-daemon CONFIG, and the service's own setting for it"
    )]
    OpenEnded {
        /// The app.
        app: AppName,
        /// Where the command stands.
        place: Box<Place>,
        /// The installed version.
        version: String,
        /// The command of the definition.
        command: String,
    },
    /// A file of ours is not as we wrote it.
    #[error(
        "{path:?} was edited by hand and is left as it is; `venvctl policy diff {app}` shows what would change, \
         `venvctl policy apply --force {app}` writes it anew and keeps a copy"
    )]
    Edited {
        /// The app.
        app: AppName,
        /// The file.
        path: PathBuf,
    },
    /// A character or form that is on no allowlist.
    #[error("{place}: the policy of {app} is refused")]
    Refused {
        /// The app.
        app: AppName,
        /// Where in the definition.
        place: Box<Place>,
        /// What and why.
        #[source]
        source: Refused,
    },
    /// The directory that stands in for `/` has a name that can't be handed to `visudo`.
    #[error("cannot have the policy checked: choose a --root of plain characters")]
    Unwrappable {
        /// What and why.
        #[source]
        source: Refused,
    },
    /// The system's own `secure_path` can't be repeated in ours.
    #[error("the secure_path of the system's own sudoers can't be taken over")]
    SystemPath {
        /// What and why.
        #[source]
        source: Refused,
    },
    /// `visudo` finds fault with what would be written.
    #[error("visudo refuses the policy of {app}, nothing was changed: {report}")]
    Invalid {
        /// The app.
        app: AppName,
        /// The lines that it says only because of our files.
        report: String,
    },
    /// The rules are written, and sudo does not follow them.
    #[error(
        "sudo does not follow the new policy of {app}, so the old one was put back: {reason}; `sudo -l -U {user}` shows \
         what it follows: a later file in /etc/sudoers.d wins, and /etc/sudoers must include that directory"
    )]
    NotInForce {
        /// The app.
        app: AppName,
        /// The user.
        user: UserName,
        /// What sudo was asked and said.
        reason: String,
    },
    /// A file changed between planning and writing.
    #[error("{path:?} was changed by somebody else just now, nothing was written; try again")]
    Conflict {
        /// The file.
        path: PathBuf,
    },
    /// What says which venvs still are admitted is not what venvd writes.
    #[error("{path:?} does not say which venvs keep their rights for a while ({reason}); remove it, and they end now")]
    Leaving {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// After a failure, an earlier file could not be put back.
    #[error("{path:?} could not be put back ({undo}) after: {failure}; the policy is half the new one: look at it")]
    HalfWritten {
        /// The file.
        path: PathBuf,
        /// Why it could not be put back.
        undo: String,
        /// What failed in the first place.
        #[source]
        failure: Box<Error>,
    },
}

impl Error {
    /// Returns a short name for the case, which stays the same when the message gets better.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::Run { .. } => "policy-io",
            Self::Unsafe { .. } | Self::Leaves { .. } | Self::Relative { .. } | Self::Unadoptable { .. } => {
                "policy-unsafe-path"
            }
            Self::NoRootwrap { .. } | Self::Adopted { .. } => "policy-nothing-to-adopt",
            Self::Config { .. } | Self::NoConfig { .. } | Self::NoExecDirs { .. } | Self::UncheckedRootwrap { .. } => {
                "policy-rootwrap-conf"
            }
            Self::Shadows { .. } => "policy-shadow",
            Self::SharedProgram { .. } | Self::SharedConfig { .. } => "policy-shared",
            Self::HidesModule { .. } | Self::NoStandardLibrary { .. } => "policy-stdlib-module",
            Self::MissingProgram { .. } => "policy-missing-program",
            Self::Hangs { .. } => "policy-hangs",
            Self::NoSudo { .. } => "policy-no-sudo",
            Self::NoUser { .. } => "policy-no-user",
            Self::UnknownSudo { .. } | Self::NoVisudo { .. } | Self::OpenEnded { .. } => "policy-unsupported",
            Self::Edited { .. } => "policy-edited",
            Self::Foreign { .. }
            | Self::Refused { .. }
            | Self::Unwrappable { .. }
            | Self::SystemPath { .. }
            | Self::Invalid { .. } => "policy-invalid",
            Self::NotInForce { .. } => "policy-not-in-force",
            Self::Conflict { .. } => "policy-conflict",
            Self::Leaving { .. } => "policy-leaving",
            Self::HalfWritten { .. } => "policy-half-written",
            Self::LeftBehind { .. } => "policy-left-behind",
        }
    }
}

fn list(programs: &[(ProgramName, PathBuf)]) -> String {
    let each = programs
        .iter()
        .map(|(program, hidden)| format!("{program} ({})", hidden.display()));
    each.collect::<Vec<_>>().join(", ")
}

fn quoted(programs: &[(ProgramName, PathBuf)]) -> String {
    let each = programs.iter().map(|(program, _)| format!("{:?}", program.as_str()));
    each.collect::<Vec<_>>().join(", ")
}
