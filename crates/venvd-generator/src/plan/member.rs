//! One unit of one app, and who may have it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use venvd_app::definition::{Restart, Unit, UnitKind};
use venvd_app::links::VenvPath;
use venvd_app::{AppName, VenvName};
use venvd_unit::UnitId;
use venvd_unit::effective::Trouble;

use super::InForce;

/// One unit of one app in force.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) in_force: &'a InForce<'a>,
    pub(crate) id: UnitId,
    pub(crate) unit: Cow<'a, Unit>,
}

/// Why a unit is left as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skip {
    #[error("masked by {}", .0.display())]
    Masked(PathBuf),
    #[error("systemd can't load it: {}", .0.diagnostic())]
    Broken(Trouble),
    #[error("switched off by {}", .0.display())]
    SwitchedOff(PathBuf),
    #[error("{}", .0.diagnostic())]
    Line(Trouble),
    #[error("its Exec lines name none of the programs {0} in a bin directory; give its command line with `exec`")]
    NoProgram(String),
    #[error("its ExecStart= names no program in a bin directory; give its command line with `exec`")]
    NoMainProgram,
    #[error("the venv {venv} has no program {program}")]
    NotInVenv { venv: VenvName, program: String },
    #[error("`exec`: {0}")]
    Exec(String),
    #[error("{by} has it already, and {} wants it too; only `environment` may come from several apps", own.display())]
    Claimed { by: Claimant, own: PathBuf },
    #[error("{by} sets {variable} on it already, and {} sets it too", own.display())]
    Variable {
        by: Claimant,
        own: PathBuf,
        variable: String,
    },
    #[error("another app writes it whole, and that is left out")]
    Whole,
    #[error("venvd writes its template {0} whole; set variables there")]
    OfWhole(UnitId),
    #[error("{} comes before what venvd would write", .0.display())]
    Hidden(PathBuf),
    #[error("[Install] {key}={value}: {why}")]
    Install {
        key: String,
        value: String,
        why: &'static str,
    },
}

/// An app that has a unit, and its definition.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    app: AppName,
    source: PathBuf,
}

impl fmt::Display for Claimant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the app {} ({})", self.app, self.source.display())
    }
}

impl<'a> Member<'a> {
    pub(crate) fn venv(&self) -> &'a VenvPath {
        self.in_force.venv
    }

    /// Returns the venv's directory as text; it has nothing that needs quoting, see `VenvPath`.
    pub(crate) fn directory(&self) -> &'a str {
        &self.in_force.directory
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

    /// Takes for an instance what its app says of the template, where that is not said of the instance itself.
    pub(crate) fn inherit(&mut self, template: &Unit) {
        let unit = self.unit.to_mut();
        if matches!(unit.kind, UnitKind::Environment) {
            unit.kind = template.kind.clone();
        }
        unit.restart = unit.restart.or(template.restart);
        for (name, value) in &template.environment {
            unit.environment.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }

    fn shares(&self) -> bool {
        matches!(self.unit.kind, UnitKind::Environment)
    }

    fn claimant(&self) -> Claimant {
        Claimant {
            app: self.in_force.app.name.clone(),
            source: self.in_force.app.source.clone(),
        }
    }

    /// Checks that the venv has a program, as far as that is known: `/var` can't be looked into.
    ///
    /// # Errors
    /// When the record beside the link lists others.
    pub(crate) fn has(&self, program: &str) -> Result<(), Skip> {
        let Some(record) = self.in_force.record else {
            return Ok(());
        };
        // The interpreter's own names are links, which no manifest counts among the programs.
        if program.starts_with("python") || record.programs.iter().any(|name| name.as_str() == program) {
            return Ok(());
        }
        Err(Skip::NotInVenv {
            venv: record.venv.clone(),
            program: program.to_owned(),
        })
    }
}

/// Members that may have their unit, and those that may not.
type Settled<'a> = (Vec<Member<'a>>, Vec<(Member<'a>, Skip)>);

/// Decides which of several members have the unit: one that changes what it runs, which comes first, and any number
/// that only set variables. Who was first by the app's name keeps it.
pub(crate) fn settle(members: Vec<Member<'_>>) -> Settled<'_> {
    let (sharing, mut owning): (Vec<_>, Vec<_>) = members.into_iter().partition(Member::shares);
    let mut refused = Vec::new();
    if let Some(by) = owning.first().map(Member::claimant) {
        for member in owning.split_off(1) {
            let own = member.in_force.app.source.clone();
            refused.push((member, Skip::Claimed { by: by.clone(), own }));
        }
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
            by: other.claimant(),
            own: member.in_force.app.source.clone(),
            variable: variable.to_string(),
        })
    })
}
