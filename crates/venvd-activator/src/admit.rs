//! Which venvs sudoers and rootwrap admit while a transaction goes on, and behind it.

use std::time::Duration;

use venvd_app::links::VenvPath;
use venvd_app::{App, Layout, in_force, search};
use venvd_core::usage::{Usage, Use};
use venvd_fs::report;
use venvd_policy::Edited;
use venvd_policy::leaving::{self, Leaving};

use crate::host::Host;
use crate::machine::{Admit, Failure, When};
use crate::transaction::Transaction;

impl Host {
    /// Writes sudoers and rootwrap.conf.
    pub(crate) fn write_policies(&self, transaction: &Transaction, admit: Admit) -> Result<(), Failure> {
        let layout = self.layout();
        if !layout.has_policies() {
            return Ok(());
        }
        let (app, on) = self.app_in_force(&transaction.app)?;
        let is_on = on.enabled && on.admitted;
        let (old, new) = (transaction.outgoing.iter(), transaction.to.iter());
        let venvs: Vec<VenvPath> = match admit {
            Admit::None => Vec::new(),
            Admit::New => new.cloned().collect(),
            Admit::Both => behind(old.chain(new), leaving::read(layout, &app.name)?),
            Admit::Turned => behind(new.chain(old), leaving::read(layout, &app.name)?),
            Admit::InForce | Admit::Leaving if !is_on => Vec::new(),
            Admit::InForce => leaving::admitted(layout, &app.name, self.in_force(&app)?)?,
            Admit::Leaving => {
                let in_force = self.in_force(&app)?;
                let leaving = self.leave(&app, transaction, in_force.as_ref())?;
                // Before the policy: what is cut off between the two is admitted by the policy that is there.
                leaving::write(layout, &app.name, &leaving)?;
                behind(in_force.iter(), leaving)
            }
        };
        if admit == Admit::New || venvs.is_empty() {
            leaving::write(layout, &app.name, &[])?;
        }
        if venvs.is_empty() {
            match venvd_policy::remove(layout, &app) {
                // It must be possible to turn an app off, whatever became of its rootwrap.conf; said at the end.
                Err(venvd_policy::Error::LeftBehind { .. }) if admit == Admit::None => {}
                result => drop(result?),
            }
        } else {
            // Preflight refused what was edited before; what is edited meanwhile must not stop the way back.
            venvd_policy::write(layout, &app, &venvs, Edited::SetAside)?;
        }
        Ok(())
    }

    /// Returns what the generator writes into the units: not the committed one, where its interpreter has gone.
    pub(crate) fn in_force(&self, app: &App) -> Result<Option<VenvPath>, Failure> {
        Ok(in_force::of_links(self.layout(), &app.name)?.venv)
    }

    /// Returns the venvs whose rights still last when another is in force: those that left earlier and the one that does
    /// now, as far as processes run them. Units that nobody restarts need theirs for as long as they run.
    fn leave(
        &self,
        app: &App,
        transaction: &Transaction,
        in_force: Option<&VenvPath>,
    ) -> Result<Vec<Leaving>, Failure> {
        let layout = self.layout();
        if !has_rights(app) {
            return Ok(Vec::new());
        }
        let (outgoing, now) = (transaction.outgoing.as_ref(), leaving::now());
        let until = match transaction.case.restart {
            When::Now => now + search::load_settings(layout)?.policy_grace,
            When::Later => Duration::MAX,
        };
        let mut venvs = leaving::read(layout, &app.name)?;
        venvs.retain(|leaving| Some(&leaving.venv) != outgoing);
        venvs.extend(outgoing.map(|venv| Leaving {
            venv: venv.clone(),
            until,
        }));
        venvs.retain(|leaving| Some(&leaving.venv) != in_force);
        let looked = look(layout, venvs, now);
        Ok(looked.into_iter().map(|(leaving, _)| leaving).collect())
    }
}

/// A venv whose rights last, and the processes that run it.
pub(crate) type Running = (Leaving, Vec<Use>);

/// Returns whether a definition grants anything.
fn has_rights(app: &App) -> bool {
    !app.sudo.is_empty() || app.rootwrap.is_some()
}

/// Returns these venvs, and behind them those that are leaving, each once.
fn behind<'a>(front: impl Iterator<Item = &'a VenvPath>, leaving: Vec<Leaving>) -> Vec<VenvPath> {
    let mut venvs: Vec<VenvPath> = Vec::new();
    for venv in front.cloned().chain(leaving.into_iter().map(|leaving| leaving.venv)) {
        if !venvs.contains(&venv) {
            venvs.push(venv);
        }
    }
    venvs
}

/// Returns those of the venvs whose time is not over and that processes of the app's units still run, with these.
///
/// Where processes can't be looked at, their time alone decides.
pub(crate) fn look(layout: &Layout, venvs: Vec<Leaving>, now: Duration) -> Vec<Running> {
    let venvs: Vec<Leaving> = venvs.into_iter().filter(|leaving| now < leaving.until).collect();
    if venvs.is_empty() {
        return Vec::new();
    }
    let paths: Vec<VenvPath> = venvs.iter().map(|leaving| leaving.venv.clone()).collect();
    let usage = match Usage::scan(layout, &paths) {
        Ok(usage) => usage,
        Err(error) => {
            tracing::warn!(
                "it is not known who still runs what was in force before: {}",
                report(&error)
            );
            return venvs.into_iter().map(|leaving| (leaving, Vec::new())).collect();
        }
    };
    let with_processes = venvs.into_iter().map(|leaving| {
        let processes: Vec<Use> = usage.members_of(&leaving.venv).cloned().collect();
        (leaving, processes)
    });
    with_processes.filter(|(_, processes)| !processes.is_empty()).collect()
}

#[cfg(test)]
pub(crate) mod tests;
