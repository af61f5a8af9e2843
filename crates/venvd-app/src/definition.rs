//! App definitions: the file's form (`RawApp`), and what it means ([`App`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

mod hooks;
mod unit;

pub use hooks::{CommandLine, Hook, HookStage, Hooks};
use unit::RawUnit;

use crate::exposed;
use crate::later::Later;
use crate::name::{AppName, ProgramName, Tag, UnitName, UserName};
use crate::scope::Scope;
use crate::value::{
    AbsolutePath, DistributionName, IndexUrl, Line, Location, ModuleName, Requirement, Span, SudoCommand,
    UnsafeCommand, VariableName, VariableValue,
};

/// An app, as the administrator declared it.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name, which is the file's.
    pub name: AppName,
    /// The definition file, as a path of the host.
    pub source: PathBuf,
    /// One line for people.
    pub description: Option<String>,
    /// Whether units, sudoers and rootwrap follow the committed venv.
    pub enabled: bool,
    /// The service user.
    pub user: Option<UserName>,
    /// How its venvs are built.
    pub build: Build,
    /// The units that belong to it.
    pub units: BTreeMap<UnitName, Unit>,
    /// What its user may run as root.
    pub sudo: Sudo,
    /// Its rootwrap configuration.
    pub rootwrap: Option<Rootwrap>,
    /// What an activation runs around the restart of its units.
    pub hooks: Hooks,
    /// When it counts as healthy.
    pub health: Health,
    /// The programs of its venv that everybody can type, see [`crate::exposed`].
    pub expose: Vec<ProgramName>,
}

impl App {
    /// Returns what an app is that nobody declares: it is off, and has nothing.
    #[must_use]
    pub fn undeclared(name: AppName) -> Self {
        Self {
            name,
            source: PathBuf::new(),
            description: None,
            enabled: false,
            user: None,
            build: Build::default(),
            units: BTreeMap::new(),
            sudo: Sudo::default(),
            rootwrap: None,
            hooks: Hooks::default(),
            health: Health::default(),
            expose: Vec::new(),
        }
    }

    /// Returns the programs that a venv must have, as far as the definition alone tells.
    ///
    /// A unit that is spliced by its main program's name needs a look at the unit file to know more.
    #[must_use]
    pub fn needed_programs(&self) -> BTreeSet<ProgramName> {
        let of_units = self.units.values().flat_map(|unit| match &unit.kind {
            UnitKind::Spliced(programs) => programs.clone(),
            UnitKind::Exec(exec) => bare_program(exec).into_iter().collect(),
            UnitKind::Whole(whole) => whole.exec.iter().filter_map(|exec| bare_program(exec)).collect(),
            UnitKind::Environment => Vec::new(),
        });
        let of_commands = self.commands().filter_map(CommandLine::program_of_venv).cloned();
        of_units
            .chain(self.sudo.all().map(|command| command.program.clone()))
            .chain(of_commands)
            .collect()
    }

    /// Returns all commands that an activation runs.
    fn commands(&self) -> impl Iterator<Item = &CommandLine> {
        self.hooks.all().map(|hook| &hook.run).chain(&self.health.commands)
    }
}

/// Returns the first word of a command line, behind systemd's prefixes, if it has no path and so means the venv's.
fn bare_program(exec: &str) -> Option<ProgramName> {
    let word = exec.split_ascii_whitespace().next()?;
    word.trim_start_matches(['-', '@', ':', '+', '!', '|']).parse().ok()
}

/// How venvs of an app are built.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// Requirements with hashes, or a pylock.toml.
    pub lock: Option<AbsolutePath>,
    /// What to install; the first gives the default tag its version.
    pub packages: Vec<Requirement>,
    /// Constraints files for making a lock.
    pub constraints: Vec<AbsolutePath>,
    /// The interpreter that venvs are bound to.
    pub python: PathBuf,
    /// Modules of the interpreter's own that are linked into the venv, one by one.
    pub host_modules: Vec<ModuleName>,
    /// Distributions that may be built from source; of all others only wheels are taken.
    pub sdists: Vec<DistributionName>,
    /// Which installer builds.
    pub builder: Builder,
    /// Where distributions come from.
    pub index: Index,
}

/// Which installer builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builder {
    /// uv if there is one, else pip.
    #[default]
    Auto,
    /// uv.
    Uv,
    /// `python -m venv` and pip.
    Pip,
}

/// Where distributions come from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Index {
    /// The index, where it is not the client's own.
    pub url: Option<IndexUrl>,
    /// Further places with wheels.
    pub find_links: Vec<Location>,
    /// Ask no index at all.
    pub no_index: bool,
}

/// A unit of an app.
#[derive(Debug, Clone)]
pub struct Unit {
    /// How it comes to run from the venv.
    pub kind: UnitKind,
    /// Variables to set; `{venv}` stands for the venv's directory.
    pub environment: BTreeMap<VariableName, VariableValue>,
    /// What an activation does with it; `None` means by its type: `none` for `Type=oneshot`, else `restart`.
    pub restart: Option<Restart>,
}

/// How a unit comes to run from the venv.
#[derive(Debug, Clone)]
pub enum UnitKind {
    /// An existing unit: these programs in its Exec lines become the venv's. None means the main program's name.
    Spliced(Vec<ProgramName>),
    /// An existing unit whose `ExecStart=` becomes this line.
    Exec(Line),
    /// An existing unit that only gets variables.
    Environment,
    /// A unit written by venvd.
    Whole(Whole),
}

/// A unit written by venvd.
#[derive(Debug, Clone)]
pub struct Whole {
    /// Its command line; only a service has one.
    pub exec: Option<Line>,
    /// Section, key, values, passed through.
    pub sections: Sections,
}

/// Section, key, values.
pub type Sections = BTreeMap<Section, BTreeMap<String, Vec<String>>>;

/// A section of a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[Unit]`
    Unit,
    /// `[Service]`
    Service,
    /// `[Socket]`
    Socket,
    /// `[Timer]`
    Timer,
    /// `[Install]`
    Install,
}

/// What an activation does with a running unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Restarts it.
    Restart,
    /// Leaves it; its next start picks the venv up.
    None,
}

/// What an app's user may run as root.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sudo {
    /// Commands with pinned arguments.
    pub commands: Vec<SudoCommand>,
    /// Commands that can't be pinned: they make the user root.
    #[serde(rename = "unsafe")]
    pub unsafe_commands: Vec<UnsafeCommand>,
    /// Programs of the venv that may stand in front of the system's; with `[rootwrap]` they may be named there as well.
    pub shadow: Vec<ProgramName>,
}

impl Sudo {
    /// Returns whether there is no command at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.unsafe_commands.is_empty()
    }

    /// Returns all commands.
    pub fn all(&self) -> impl Iterator<Item = &SudoCommand> {
        self.commands
            .iter()
            .chain(self.unsafe_commands.iter().map(|command| &**command))
    }
}

/// The rootwrap side of an app.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rootwrap {
    /// The `rootwrap.conf` whose `exec_dirs` follows the venv.
    pub config: AbsolutePath,
    /// Programs of the venv that may stand in front of the system's.
    #[serde(default)]
    pub shadow: Vec<ProgramName>,
}

/// When an app counts as healthy.
#[derive(Debug, Clone)]
pub struct Health {
    /// How long its units must stay up, unchanged.
    pub settle: Duration,
    /// How long the units may take until they have settled, and each command.
    pub timeout: Duration,
    /// What must exit with status 0 when they have.
    pub commands: Vec<CommandLine>,
    /// Whether a failure brings the previous venv back.
    pub rollback: bool,
}

impl Default for Health {
    fn default() -> Self {
        // Longer than the start limit's interval would be better still, but an operator waits for this.
        Self {
            settle: Duration::from_secs(10),
            timeout: Duration::from_secs(120),
            commands: Vec::new(),
            rollback: true,
        }
    }
}

/// A definition file as written. Every file must be one by itself; then they are merged.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RawApp {
    description: Option<Line>,
    enabled: Option<bool>,
    tag: Option<Later<Tag>>,
    user: Option<UserName>,
    pin: Option<Pin>,
    build: RawBuild,
    bundle: Option<Later<RawBundle>>,
    units: BTreeMap<UnitName, RawUnit>,
    sudo: Sudo,
    rootwrap: Option<Rootwrap>,
    hooks: Hooks,
    health: RawHealth,
    commands: RawCommands,
}

/// What goes into units: the tagged path. The committed link (`pin = "link"`) comes later.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pin;

impl TryFrom<String> for Pin {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.as_str() {
            "tag" => Ok(Self),
            "link" => {
                Err("pin = \"link\" is not supported yet by this version of venvd; leave it out, or write \"tag\"")
            }
            _ => Err("expected \"tag\" or \"link\""),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawBuild {
    lock: Option<AbsolutePath>,
    packages: Vec<Requirement>,
    constraints: Vec<AbsolutePath>,
    python: Option<AbsolutePath>,
    host_modules: Vec<ModuleName>,
    sdists: Vec<DistributionName>,
    builder: Builder,
    index: Index,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "read only to be validated, then refused")]
struct RawBundle {
    from: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawHealth {
    settle: Option<Span>,
    timeout: Option<Span>,
    commands: Vec<CommandLine>,
    rollback: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawCommands {
    expose: Vec<ProgramName>,
}

/// A contradiction between keys, and the path of the key to point at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contradiction {
    pub(crate) key: Vec<String>,
    pub(crate) message: String,
}

impl RawApp {
    /// Turns what was written (all files merged) into what it means.
    pub(crate) fn resolve(self, name: AppName, source: PathBuf) -> Result<App, Contradiction> {
        let defaults = Health::default();
        let units = self.units.into_iter().map(|(unit, raw)| {
            let meaning = raw.resolve(&unit)?;
            Ok((unit, meaning))
        });
        let app = App {
            name,
            source,
            description: self.description.map(|line| line.to_string()),
            enabled: self.enabled.unwrap_or(false),
            user: self.user,
            build: Build {
                lock: self.build.lock,
                packages: self.build.packages,
                constraints: self.build.constraints,
                python: self
                    .build
                    .python
                    .map_or_else(|| PathBuf::from("/usr/bin/python3"), |path| path.to_path_buf()),
                host_modules: sorted(self.build.host_modules),
                sdists: sorted(self.build.sdists),
                builder: self.build.builder,
                index: self.build.index,
            },
            units: units.collect::<Result<_, Contradiction>>()?,
            sudo: self.sudo,
            rootwrap: self.rootwrap,
            hooks: self.hooks,
            health: Health {
                settle: self.health.settle.map_or(defaults.settle, |span| *span),
                timeout: self.health.timeout.map_or(defaults.timeout, |span| *span),
                commands: self.health.commands,
                rollback: self.health.rollback.unwrap_or(defaults.rollback),
            },
            expose: sorted(self.commands.expose),
        };
        if app.user.is_none() && !app.sudo.is_empty() {
            return contradiction(&["sudo"], "sudo commands need `user`, whose rules they are");
        }
        if app.expose.iter().any(|name| name.as_str() == exposed::PROGRAM) {
            return contradiction(
                &["commands", "expose"],
                "venv-activate is what exposed commands lead to: take it out",
            );
        }
        if app.health.timeout <= app.health.settle {
            return contradiction(&["health"], "`timeout` must be longer than `settle`");
        }
        app.hooks.fit(&app.units)?;
        Ok(app)
    }
}

impl App {
    /// Refuses what only the host's apps can have: a user's services run as that user, and nobody else's rights are his
    /// to give. The host's apps must say as whom their commands run.
    pub(crate) fn fit(self, scope: Scope) -> Result<Self, Contradiction> {
        if scope == Scope::System {
            let is_root = self.user.as_ref().is_none_or(|user| user.as_str() == "root");
            if is_root && let Some(command) = self.commands().next() {
                let key = if self.user.is_some() {
                    "user"
                } else if self.hooks.all().next().is_some() {
                    "hooks"
                } else {
                    "health"
                };
                let message =
                    format!("`{command}` runs code of the venv, and never as root: name a service user in `user`");
                return contradiction(&[key], &message);
            }
            return Ok(self);
        }
        if self.user.is_some() {
            return contradiction(&["user"], "a user's own services run as that user: take `user` out");
        }
        if !self.sudo.is_empty() {
            return contradiction(
                &["sudo"],
                "sudo rules are the administrator's: no app of a user has any",
            );
        }
        if self.rootwrap.is_some() {
            return contradiction(
                &["rootwrap"],
                "rootwrap.conf is the administrator's: no app of a user changes it",
            );
        }
        if !self.expose.is_empty() {
            return contradiction(
                &["commands", "expose"],
                "what everybody can type is the administrator's to say: no app of a user exposes commands",
            );
        }
        for (name, unit) in &self.units {
            let UnitKind::Whole(whole) = &unit.kind else { continue };
            let keys = whole.sections.get(&Section::Service);
            let identity = ["User", "Group", "DynamicUser"];
            if let Some(key) = identity
                .into_iter()
                .find(|key| keys.is_some_and(|keys| keys.contains_key(*key)))
            {
                return contradiction(
                    &["units", name.as_str(), "Service", key],
                    "a user's own services run as that user: take it out",
                );
            }
        }
        Ok(self)
    }
}

/// The order in which names were written means nothing.
fn sorted<T: Ord>(mut names: Vec<T>) -> Vec<T> {
    names.sort();
    names.dedup();
    names
}

fn contradiction<T>(key: &[&str], message: &str) -> Result<T, Contradiction> {
    Err(Contradiction {
        key: key.iter().map(|&part| part.to_owned()).collect(),
        message: message.to_owned(),
    })
}
