//! Which venv an app's units, policies and commands are to use at this boot.
//!
//! There is one answer, and everybody asks here, so that they never disagree: generator, `venvctl`, `venv-activate`,
//! the policies and venvd. It looks at `/etc`, `/usr` and `/run` only, as `/var` is not there when generators run.
//! It is the committed venv, unless the interpreter it was built for has gone from `/usr` (an upgrade of the
//! distribution, an image with another Python): a service that would start with no or another Python does not start
//! at all, so then the previous venv is used if its interpreter is there, else what the distribution installed. The same
//! holds of a venv that is revoked: it must not start any more.

use std::fmt;

use venvd_fs::report;

use crate::App;
use crate::Layout;
use crate::cmdline::Switch;
use crate::interpreter::{self, Unfit};
use crate::links::{self, Link, LinkError, VenvPath};
use crate::name::AppName;
use crate::record::{Record, RecordError};
use crate::revoked::is_revoked;

/// What stands above an app's own switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switches {
    /// Whether venvd is on at all on this host: `enabled` of the settings.
    pub host: bool,
    /// What the kernel command line says.
    pub kernel: Switch,
}

/// What is in force for an app at this boot.
#[derive(Debug)]
pub struct InForce {
    /// The venv; none where the distribution's units, or none, are in force.
    pub venv: Option<VenvPath>,
    /// What is known of that venv.
    pub record: Option<Record>,
    /// How it came to this.
    pub why: Why,
}

/// How it came to what is in force.
#[derive(Debug)]
pub enum Why {
    /// The committed link says so.
    Committed,
    /// The committed venv can't run on this host.
    FellBackToPrevious {
        /// The committed venv.
        committed: VenvPath,
        /// Why it can't run.
        reason: Unfit,
    },
    /// Neither the committed venv nor the previous one can run on this host.
    Distribution {
        /// The committed venv.
        committed: VenvPath,
        /// Why it can't run.
        reason: Unfit,
        /// Why the previous one is no help.
        previous: Box<NoWayBack>,
    },
    /// No venv was ever put in force.
    NoVenv,
    /// It is switched off.
    Off(Off),
}

/// What switched an app off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// Its definition.
    Definition,
    /// The settings, for all apps.
    Host,
    /// The kernel command line, for this boot.
    KernelCommandLine,
}

/// Why the previous venv can't stand in for the committed one.
#[derive(Debug, thiserror::Error)]
pub enum NoWayBack {
    /// There is none.
    #[error("there is no previous venv")]
    None,
    /// Its link is not what it should be.
    #[error("{}", report(.0))]
    Link(LinkError),
    /// Nothing is known of it.
    #[error("of the previous venv {} nothing is known: {}", venv.name(), report(&**error))]
    Unknown {
        /// The previous venv.
        venv: VenvPath,
        /// Why not.
        error: Box<RecordError>,
    },
    /// It can't run either.
    #[error("the previous venv {} can't run either: {reason}", venv.name())]
    Unfit {
        /// The previous venv.
        venv: VenvPath,
        /// Why it can't run.
        reason: Unfit,
    },
}

impl InForce {
    fn nothing(why: Why) -> Self {
        Self {
            venv: None,
            record: None,
            why,
        }
    }

    /// Returns what to tell an operator when something else is in force than what was committed.
    #[must_use]
    pub fn fallen_back(&self) -> Option<String> {
        match &self.why {
            Why::Committed | Why::NoVenv | Why::Off(_) => None,
            Why::FellBackToPrevious { .. } | Why::Distribution { .. } => Some(self.why.to_string()),
        }
    }
}

impl Why {
    /// Returns whether something else is in force because the committed venv is revoked.
    #[must_use]
    pub fn is_for_revocation(&self) -> bool {
        match self {
            Self::FellBackToPrevious { reason, .. } | Self::Distribution { reason, .. } => *reason == Unfit::Revoked,
            Self::Committed | Self::NoVenv | Self::Off(_) => false,
        }
    }

    /// Returns whether something else is in force instead of this committed venv, which can't run.
    #[must_use]
    pub fn stands_in_for(&self, venv: &VenvPath) -> bool {
        match self {
            Self::FellBackToPrevious { committed, .. } | Self::Distribution { committed, .. } => committed == venv,
            Self::Committed | Self::NoVenv | Self::Off(_) => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => write!(formatter, "it is committed"),
            Self::FellBackToPrevious { committed, reason } => write!(
                formatter,
                "{} can't run: {reason}; the previous venv stands in for it. {}",
                committed.name(),
                advice(committed, reason)
            ),
            Self::Distribution {
                committed,
                reason,
                previous,
            } => write!(
                formatter,
                "{} can't run: {reason}; {previous}: the units are as the distribution made them. {}",
                committed.name(),
                advice(committed, reason)
            ),
            Self::NoVenv => write!(formatter, "no venv was put in force yet"),
            Self::Off(Off::Definition) => write!(formatter, "its definition has it off"),
            Self::Off(Off::Host) => write!(
                formatter,
                "`enabled = false` in the settings (venvd.toml) has all apps off"
            ),
            Self::Off(Off::KernelCommandLine) => write!(formatter, "the kernel command line has it off"),
        }
    }
}

fn advice(committed: &VenvPath, reason: &Unfit) -> String {
    let app = committed.name().app();
    match reason {
        Unfit::Revoked => format!("Activate another one: `venvctl activate {app}:TAG`"),
        _ => format!("Install that python again, or build {app} anew and activate that"),
    }
}

/// Returns why a venv can't run on this host or must not, as far as can be told at boot. Without a record nothing is known
/// of its interpreter.
#[must_use]
pub fn unfit(layout: &Layout, venv: &VenvPath, record: Option<&Record>) -> Option<Unfit> {
    if is_revoked(layout, venv.name()) {
        return Some(Unfit::Revoked);
    }
    interpreter::unfit(layout, record?)
}

/// Returns what is in force for an app, its switches considered.
///
/// # Errors
/// When its committed link is not what it should be; then nothing is in force.
pub fn of_app(layout: &Layout, app: &App, switches: &Switches) -> Result<InForce, LinkError> {
    let off = if !app.enabled {
        Off::Definition
    } else if !switches.host {
        Off::Host
    } else if !switches.kernel.admits(&app.name) {
        Off::KernelCommandLine
    } else {
        return of_links(layout, &app.name);
    };
    Ok(InForce::nothing(Why::Off(off)))
}

/// Returns what is in force as far as links and interpreters tell, whether the app is on or off.
///
/// # Errors
/// When its committed link is not what it should be; then nothing is in force.
pub fn of_links(layout: &Layout, app: &AppName) -> Result<InForce, LinkError> {
    let Some(committed) = links::read(layout, Link::Committed, app)? else {
        return Ok(InForce::nothing(Why::NoVenv));
    };
    // Without a record nothing speaks against it: it was put in force by somebody.
    let record = Record::load(layout, Link::Committed, &committed).ok();
    let Some(reason) = unfit(layout, &committed, record.as_ref()) else {
        return Ok(InForce {
            venv: Some(committed),
            record,
            why: Why::Committed,
        });
    };
    Ok(match way_back(layout, &committed) {
        Ok((venv, record)) => InForce {
            venv: Some(venv),
            record: Some(record),
            why: Why::FellBackToPrevious { committed, reason },
        },
        Err(previous) => InForce::nothing(Why::Distribution {
            committed,
            reason,
            previous,
        }),
    })
}

/// Returns the previous venv if it is known to be able to run.
fn way_back(layout: &Layout, committed: &VenvPath) -> Result<(VenvPath, Record), Box<NoWayBack>> {
    let venv = links::read(layout, Link::Previous, committed.name().app())
        .map_err(NoWayBack::Link)?
        .filter(|venv| venv != committed)
        .ok_or(NoWayBack::None)?;
    match Record::load(layout, Link::Previous, &venv).map_err(Box::new) {
        Ok(record) => match unfit(layout, &venv, Some(&record)) {
            None => Ok((venv, record)),
            Some(reason) => Err(NoWayBack::Unfit { venv, reason }.into()),
        },
        Err(error) => Err(NoWayBack::Unknown { venv, error }.into()),
    }
}

#[cfg(test)]
mod tests;
