//! One unit of one app, and who may have it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use venvd_app::definition::{Restart, Unit, UnitKind};
use venvd_app::links::VenvPath;
use venvd_unit::UnitId;
use venvd_unit::effective::Trouble;
use venvd_unit::splice::Refusal;

use super::InForce;

/// One unit of one app in force.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) in_force: InForce<'a>,
    pub(crate) id: UnitId,
    pub(crate) unit: &'a Unit,
}

/// Why a unit is left as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skip {
    #[error("masked by {}", .0.display())]
    Masked(PathBuf),
    #[error("systemd can't load it: {0}")]
    Broken(Trouble),
    #[error("switched off by {}", .0.display())]
    SwitchedOff(PathBuf),
    #[error("{place}: {refusal}")]
    Line { place: String, refusal: Refusal },
    #[error("its Exec lines name none of the programs {0} in a bin directory; give its command line with `exec`")]
    NoProgram(String),
    #[error("its ExecStart= names no program in a bin directory; give its command line with `exec`")]
    NoMainProgram,
    #[error("`exec`: {0}")]
    Exec(String),
    #[error("it belongs to the app {0} already; only `environment` may come from several apps")]
    Claimed(String),
    #[error("the app {app} sets {variable} on it already")]
    Variable { app: String, variable: String },
    #[error("another app writes it whole")]
    Whole,
    #[error("{} comes before what venvd would write", .0.display())]
    Hidden(PathBuf),
    #[error("[Install] {key}={value}: {why}")]
    Install {
        key: String,
        value: String,
        why: &'static str,
    },
}

impl<'a> Member<'a> {
    pub(crate) fn venv(&self) -> &'a VenvPath {
        self.in_force.venv
    }

    /// Returns the venv's directory as text; it has nothing that needs quoting, see `VenvPath`.
    pub(crate) fn directory(&self) -> String {
        self.venv().path().display().to_string()
    }

    /// Returns the directory of its programs as text.
    pub(crate) fn bin(&self) -> String {
        self.venv().bin().display().to_string()
    }

    /// Replaces `{venv}`.
    pub(crate) fn expand(&self, text: &str) -> String {
        text.replace("{venv}", &self.directory().replace('%', "%%"))
    }

    /// Returns whether an activation restarts the unit: a oneshot has nothing running that would be old.
    pub(crate) fn restarts(&self, service_type: &str) -> bool {
        match self.unit.restart {
            Some(restart) => restart == Restart::Restart,
            None => service_type != "oneshot",
        }
    }

    fn shares(&self) -> bool {
        matches!(self.unit.kind, UnitKind::Environment)
    }

    fn app(&self) -> String {
        self.in_force.app.name.to_string()
    }
}

/// Members that may have their unit, and those that may not.
type Settled<'a> = (Vec<Member<'a>>, Vec<(Member<'a>, Skip)>);

/// Decides which of several members have the unit: one that changes what it runs, which comes first, and any number
/// that only set variables. Who was first by the app's name keeps it.
pub(crate) fn settle(members: Vec<Member<'_>>) -> Settled<'_> {
    let (sharing, mut owning): (Vec<_>, Vec<_>) = members.into_iter().partition(Member::shares);
    let mut refused = Vec::new();
    if let Some(owner) = owning.first().map(Member::app) {
        let others = owning.split_off(1);
        refused.extend(others.into_iter().map(|member| (member, Skip::Claimed(owner.clone()))));
    }
    let mut settled = owning;
    for member in sharing {
        match conflict(&settled, &member) {
            Some(skip) => refused.push((member, skip)),
            None => settled.push(member),
        }
    }
    (settled, refused)
}

fn conflict(settled: &[Member<'_>], member: &Member<'_>) -> Option<Skip> {
    let mine: BTreeSet<&str> = member.unit.environment.keys().map(|name| name.as_str()).collect();
    settled.iter().find_map(|other| {
        let variable = other
            .unit
            .environment
            .keys()
            .find(|name| mine.contains(name.as_str()))?;
        Some(Skip::Variable {
            app: other.app(),
            variable: variable.to_string(),
        })
    })
}
