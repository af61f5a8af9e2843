//! What a job is and how it ended, as `GetJob` and `venvctl --json` say it, and as its journal file holds it.

use std::fmt;

use serde::{Deserialize, Serialize};
use venvd_app::definition::HookStage;
use venvd_app::{AppName, Tag, UnitName, VenvName};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A venv is to be in force.
    Activate,
    /// The units, sudoers and rootwrap of an app are to follow its venv.
    Enable,
    /// They are to be as the distribution made them.
    Disable,
}

/// What asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A method call, by `venvctl activate` for one.
    Dbus,
    /// A flip of the active link.
    Link,
    /// `venvctl apply`.
    Apply,
    /// A flip that venvd found when it started.
    Boot,
    /// `venvctl rollback`.
    Rollback,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// In force and healthy.
    Done,
    /// Nothing was changed.
    Refused,
    /// It failed, and what ran before runs again.
    RolledBack,
    /// It failed, and so did the way back, or there was none to go: somebody has to look.
    Failed,
}

impl Outcome {
    /// Returns the exit status of a client that waited for the job.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::RolledBack => 3,
            Self::Failed => 4,
        }
    }
}

/// Where a job is. The order is that of the way forward, then of the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It waits for the job before it.
    Queued,
    /// The venv is looked at; nothing is changed.
    Preflight,
    /// The marker of an open activation is written, and the running units are noted.
    Pending,
    /// sudoers and rootwrap are written.
    Policy,
    /// The app's units are stopped.
    Stopping,
    /// The links, or the app's switch, are moved.
    Committing,
    /// systemd reads the units anew.
    Reloading,
    /// The units are restarted, or started.
    Restarting,
    /// The units must stay up, unchanged.
    Settling,
    /// A hook runs; it may be before the units are stopped, while they are, or when they have settled.
    Hooks,
    /// The health commands run.
    Health,
    /// What is no longer needed is taken away.
    Finishing,
    /// What was changed is put back.
    RollingBack,
    /// It is over; the outcome says how.
    Ended,
}

/// Why a job was refused or failed, one word per case, never renamed.
///
/// A refusal of the venv itself has the code of that check (`no-such-venv`, `missing-program`, …).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub String);

impl Code {
    /// No definition has this name.
    pub const UNKNOWN_APP: &str = "unknown-app";
    /// The definition can't be used as it is.
    pub const APP_BROKEN: &str = "app-broken";
    /// No venv of this name is on the host.
    pub const NO_SUCH_VENV: &str = "no-such-venv";
    /// A link leads to something that is no venv of the app, or can't be read.
    pub const BAD_LINK: &str = "bad-link";
    /// There is no venv to go back to.
    pub const NO_PREVIOUS: &str = "no-previous";
    /// sudoers or rootwrap.conf can't be made as the definition wants them.
    pub const POLICY: &str = "policy-refused";
    /// Another process works on this app.
    pub const LOCKED: &str = "locked";
    /// Somewhere on the way a file could not be written, or systemd did not answer.
    pub const INTERNAL: &str = "internal";
    /// A job of systemd did not end well.
    pub const JOB_FAILED: &str = "job-failed";
    /// The settings turn every app off.
    pub const HOST_DISABLED: &str = "host-disabled";
    /// The generator left a unit as it was, so that it can't run from the venv.
    pub const UNIT_SKIPPED: &str = "unit-skipped";
    /// A hook did not exit with status 0.
    pub const HOOK_FAILED: &str = "hook-failed";
    /// A health command did not exit with status 0.
    pub const UNHEALTHY: &str = "unhealthy";
    /// A unit did not stay up.
    pub const NOT_SETTLED: &str = "not-settled";
    /// A unit runs, but not from the venv that is in force.
    pub const WRONG_VENV: &str = "wrong-venv";
    /// It took longer than the definition allows.
    pub const TIMEOUT: &str = "timeout";
    /// It asks for no restart, and something in the definition needs one.
    pub const NEEDS_RESTART: &str = "needs-restart";
    /// An administrator keeps the app at what is in force.
    pub const FROZEN: &str = "frozen";
    /// The venv did not run well on this host before.
    pub const KNOWN_BAD: &str = "known-bad";
    /// Under its name there is another venv than the one that was asked for.
    pub const CONTENT_CHANGED: &str = "content-changed";
    /// An administrator took the app out of venvd's hands.
    pub const DETACHED: &str = "detached";
    /// An administrator has revoked the venv.
    pub const REVOKED: &str = "revoked";
    /// venvd or the machine went down in the middle.
    pub const INTERRUPTED: &str = "interrupted";

    /// Returns a code.
    pub fn new(code: impl Into<String>) -> Self {
        Self(code.into())
    }

    /// Returns the code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How one unit fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitReport {
    /// The unit.
    pub unit: UnitName,
    /// `done`, or what went wrong: a job result of systemd or its `Result=` with the exit status.
    pub result: String,
}

/// When a command of the definition runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStage {
    /// A hook, while the old venv still serves.
    BeforeStop,
    /// A hook, while the units are stopped.
    WhileStopped,
    /// A hook, when the units have settled.
    AfterStart,
    /// A health command.
    Health,
}

impl From<HookStage> for CheckStage {
    fn from(stage: HookStage) -> Self {
        match stage {
            HookStage::BeforeStop => Self::BeforeStop,
            HookStage::WhileStopped => Self::WhileStopped,
            HookStage::AfterStart => Self::AfterStart,
        }
    }
}

/// How a hook or a health command fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When it was run.
    pub stage: CheckStage,
    /// The command, as the definition has it.
    pub command: String,
    /// `done`, `skipped`, or how it ended.
    pub result: String,
    /// The last lines that it wrote.
    pub output: Vec<String>,
}

impl Check {
    /// The result of a command that exited with status 0.
    pub const DONE: &str = "done";
    /// The result of a hook whose `when-unit` is not enabled on this host.
    pub const SKIPPED: &str = "skipped";
    /// The result of a command that was ended because it took too long.
    pub const TIMEOUT: &str = "timeout";

    /// Returns whether the command was run and did not end well.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        ![Self::DONE, Self::SKIPPED].contains(&self.result.as_str())
    }
}

/// A process that still runs a venv that is in force no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The process.
    pub pid: u32,
    /// The unit in whose cgroup it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its short name.
    pub program: String,
    /// The venv.
    pub venv: VenvName,
}

impl fmt::Display for Leftover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.program, self.pid)?;
        self.unit.iter().try_for_each(|unit| write!(formatter, " of {unit}"))
    }
}

/// What a job is about in one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppChange {
    /// The app.
    pub app: AppName,
    /// The tag that was in force before, if any.
    pub from: Option<Tag>,
    /// The tag that was asked for, if any.
    pub to: Option<Tag>,
}

impl AppChange {
    /// Returns the venv that was in force before, as a sentence has it: `nova:1`, or `no venv of nova`.
    #[must_use]
    pub fn before(&self) -> String {
        self.venv(self.from.as_ref())
    }

    /// Returns the venv that was asked for.
    #[must_use]
    pub fn after(&self) -> String {
        self.venv(self.to.as_ref())
    }

    fn venv(&self, tag: Option<&Tag>) -> String {
        let app = &self.app;
        tag.map_or_else(|| format!("no venv of {app}"), |tag| format!("{app}:{tag}"))
    }
}

impl fmt::Display for AppChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {}", self.before(), self.after())
    }
}

/// All that is known of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// Its number, unique on the host.
    pub id: u32,
    /// The apps, by their names; more than one where they change together.
    pub apps: Vec<AppChange>,
    /// What was asked for.
    pub kind: Kind,
    /// What asked.
    pub cause: Cause,
    /// Who asked, where that is known.
    pub caller_uid: Option<u32>,
    /// Where it is.
    pub state: Stage,
    /// How it ended; nothing while it is open.
    pub result: Option<Outcome>,
    /// Why it was refused or failed.
    pub code: Option<Code>,
    /// The same for an operator, with what to do next.
    pub message: Option<String>,
    /// The units that it touched.
    pub units: Vec<UnitReport>,
    /// The hooks and health commands that it came to, in order.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What its units left behind of the venvs before, at its end.
    #[serde(default)]
    pub leftovers: Vec<Leftover>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// When it ended.
    pub ended: Option<u64>,
}

impl JobReport {
    /// Returns the names of its apps, as a sentence has them.
    #[must_use]
    pub fn names(&self) -> String {
        self.each(|change| change.app.to_string())
    }

    /// Returns what is said of each app, as a sentence has it.
    #[must_use]
    pub fn each(&self, say: impl Fn(&AppChange) -> String) -> String {
        let each: Vec<String> = self.apps.iter().map(say).collect();
        each.join(", ")
    }

    /// Reads what `GetJob` returned.
    ///
    /// # Errors
    /// When it is no report of a job.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Returns the report as `GetJob` says it.
    ///
    /// # Errors
    /// Never in practice: all of its parts have a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

macro_rules! as_written {
    ($($type:ident { $($variant:ident => $text:literal),+ $(,)? })+) => { $(
        impl $type {
            /// Returns the word that JSON and D-Bus have for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        #[cfg(test)]
        impl $type {
            const ALL: &[Self] = &[$(Self::$variant),+];
        }
    )+ };
}

as_written! {
    Kind { Activate => "activate", Enable => "enable", Disable => "disable" }
    Cause { Dbus => "dbus", Link => "link", Apply => "apply", Boot => "boot", Rollback => "rollback" }
    CheckStage {
        BeforeStop => "before-stop", WhileStopped => "while-stopped", AfterStart => "after-start", Health => "health",
    }
    Outcome { Done => "done", Refused => "refused", RolledBack => "rolled-back", Failed => "failed" }
    Stage {
        Queued => "queued", Preflight => "preflight", Pending => "pending", Policy => "policy",
        Stopping => "stopping", Committing => "committing", Reloading => "reloading", Restarting => "restarting",
        Settling => "settling", Hooks => "hooks", Health => "health", Finishing => "finishing", RollingBack => "rolling-back", Ended => "ended",
    }
}

impl std::str::FromStr for Outcome {
    type Err = serde_json::Error;

    /// Reads the `result` of `JobRemoved`.
    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_value(serde_json::Value::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_json_say_the_same() {
        fn check<T: Serialize + fmt::Display>(all: &[T]) {
            for value in all {
                assert_eq!(serde_json::to_value(value).unwrap(), value.to_string());
            }
        }
        check(Kind::ALL);
        check(Cause::ALL);
        check(Outcome::ALL);
        check(CheckStage::ALL);
        check(Stage::ALL);
    }

    #[test]
    fn outcomes_are_read_back_and_have_their_exit_status() {
        let expected = [(0, "done"), (1, "refused"), (3, "rolled-back"), (4, "failed")];
        for (status, text) in expected {
            assert_eq!(text.parse::<Outcome>().unwrap().exit_status(), status);
        }
        assert!("canceled".parse::<Outcome>().is_err());
    }

    #[test]
    fn a_report_survives_the_wire() {
        let report = JobReport {
            id: 7,
            apps: vec![AppChange {
                app: "nova".parse().unwrap(),
                from: Some("1".parse().unwrap()),
                to: Some("2".parse().unwrap()),
            }],
            kind: Kind::Activate,
            cause: Cause::Dbus,
            caller_uid: Some(0),
            state: Stage::Ended,
            result: Some(Outcome::RolledBack),
            code: Some(Code::new(Code::JOB_FAILED)),
            message: Some("nova-api.service: failed".to_owned()),
            units: vec![UnitReport {
                unit: "nova-api.service".parse().unwrap(),
                result: "exit-code, status 1".to_owned(),
            }],
            checks: vec![Check {
                stage: CheckStage::Health,
                command: "nova-status upgrade check".to_owned(),
                result: Check::DONE.to_owned(),
                output: vec!["all is well".to_owned()],
            }],
            leftovers: vec![Leftover {
                pid: 7,
                unit: Some("nova-compute.service".to_owned()),
                program: "qemu".to_owned(),
                venv: "nova:1".parse().unwrap(),
            }],
            started: 1,
            ended: Some(2),
        };
        let json = report.to_json().unwrap();
        assert!(json.contains(r#""result":"rolled-back","code":"job-failed""#), "{json}");
        assert_eq!(JobReport::from_json(&json).unwrap(), report);
        assert!(JobReport::from_json("{}").is_err());
    }
}
