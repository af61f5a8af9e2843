//! Which venvs sudoers and rootwrap admit while a transaction goes on, and behind it.

use std::time::Duration;

use venvd_app::links::VenvPath;
use venvd_app::revoked::is_revoked;
use venvd_app::{App, Layout, in_force, search};
use venvd_core::leftovers;
use venvd_core::usage::{Usage, Use};
use venvd_fs::report;
use venvd_policy::Edited;
use venvd_policy::leaving::{self, Leaving};

use crate::host::Host;
use crate::machine::{Admit, Failure, When};
use crate::transaction::{Part, Transaction};

impl Host {
    /// Writes sudoers and rootwrap.conf.
    pub(crate) fn write_policies(
        &self,
        (transaction, part): (&Transaction, &Part),
        admit: Admit,
    ) -> Result<(), Failure> {
        let layout = self.layout();
        if !layout.has_policies() || !self.concerns_policies((transaction, part), admit) {
            return Ok(());
        }
        let (app, on) = self.app_in_force(&part.app)?;
        let is_on = on.enabled && on.admitted;
        let venvs: Vec<VenvPath> = match admit {
            Admit::InForce | Admit::Leaving if !is_on => Vec::new(),
            Admit::InForce => leaving::admitted(layout, &app.name, self.in_force(&app)?)?,
            Admit::Leaving => return self.let_leave(&app, (part, transaction.case.restart)),
            on_the_way => self.admits(part, on_the_way)?,
        };
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
        if admit == Admit::New || venvs.is_empty() {
            let gone = leaving::read(layout, &app.name)?;
            leaving::write(layout, &app.name, &[])?;
            let gone = gone.into_iter().map(|leaving| leaving.venv);
            let gone: Vec<VenvPath> = gone.chain(part.outgoing.clone()).collect();
            if let Err(error) = leftovers::end_daemons(layout, &gone) {
                tracing::warn!("daemons of root's may be left: {}", report(&error));
            }
        }
        Ok(())
    }

    /// Returns whether the policies of an app are written: on the way, only of those whose units change.
    pub(crate) fn concerns_policies(&self, (transaction, part): (&Transaction, &Part), admit: Admit) -> bool {
        let at_the_end = matches!(admit, Admit::InForce | Admit::Leaving);
        at_the_end || part.changes_units(transaction.case.kind)
    }

    /// Returns which venvs of an app are admitted on the way, the first one in front.
    pub(crate) fn admits(&self, part: &Part, admit: Admit) -> Result<Vec<VenvPath>, Failure> {
        let (old, new) = (part.outgoing.iter(), part.to.iter());
        let leaving = || leaving::read(self.layout(), &part.app);
        Ok(match admit {
            Admit::Both => behind(old.chain(new), leaving()?),
            Admit::Turned => behind(new.chain(old), leaving()?),
            Admit::New => new.cloned().collect(),
            Admit::None | Admit::InForce | Admit::Leaving => Vec::new(),
        })
    }

    /// Admits what is in force, and what was before as long as it has processes.
    fn let_leave(&self, app: &App, (part, restart): (&Part, When)) -> Result<(), Failure> {
        let layout = self.layout();
        let Some(in_force) = self.in_force(app)? else {
            // None can run here any more: the rights went with the one that could.
            venvd_policy::remove(layout, app)?;
            return Ok(());
        };
        let leaving = self.leave(app, (part, restart), &in_force)?;
        // All that may have rights now, so that somebody ends them should the next step fail; then what keeps them.
        leaving::write(layout, &app.name, &leaving)?;
        let stay: Vec<Leaving> = look(layout, leaving.clone(), leaving::now())
            .into_iter()
            .map(|(stays, _)| stays)
            .collect();
        venvd_policy::write(layout, app, &leaving::in_order(&in_force, &stay), Edited::SetAside)?;
        leaving::write(layout, &app.name, &stay)?;
        end_daemons(layout, (&leaving, &stay));
        Ok(())
    }

    /// Returns what the generator writes into the units: not the committed one, where its interpreter has gone.
    pub(crate) fn in_force(&self, app: &App) -> Result<Option<VenvPath>, Failure> {
        Ok(in_force::of_links(self.layout(), &app.name)?.venv)
    }

    /// Returns the venvs that had rights until now, and when those end at the latest. Units that nobody restarts need theirs
    /// for as long as they run.
    fn leave(&self, app: &App, (part, restart): (&Part, When), in_force: &VenvPath) -> Result<Vec<Leaving>, Failure> {
        let layout = self.layout();
        if !has_rights(app) {
            return Ok(Vec::new());
        }
        let outgoing = part.outgoing.as_ref();
        let until = match restart {
            When::Now => leaving::now() + search::load_settings(layout)?.policy_grace,
            When::Later => leaving::UNTIL_RESTARTED,
        };
        let mut venvs = leaving::read(layout, &app.name)?;
        venvs.retain(|leaving| Some(&leaving.venv) != outgoing);
        venvs.extend(outgoing.map(|venv| Leaving {
            venv: venv.clone(),
            until,
        }));
        venvs.retain(|leaving| leaving.venv != *in_force);
        Ok(venvs)
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

/// Ends the daemons of root's that are left of venvs that stay no more. Behind the write that took their rights: whoever is
/// served by one could start it anew until then.
pub(crate) fn end_daemons(layout: &Layout, (before, stay): (&[Leaving], &[Leaving])) {
    let gone = before.iter().filter(|leaving| !stay.contains(leaving));
    let gone: Vec<VenvPath> = gone.map(|leaving| leaving.venv.clone()).collect();
    if let Err(error) = leftovers::end_daemons(layout, &gone) {
        tracing::warn!("daemons of root's may be left: {}", report(&error));
    }
}

/// Returns those of the venvs whose time is not over and that processes of the app's units still run, with these; daemons of
/// root's don't count, whom they served is gone or has no rights any more.
///
/// Where processes can't be looked at, their time alone decides.
pub(crate) fn look(layout: &Layout, venvs: Vec<Leaving>, now: Duration) -> Vec<Running> {
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
            let in_time = venvs.into_iter().filter(|leaving| now < leaving.until);
            return in_time.map(|leaving| (leaving, Vec::new())).collect();
        }
    };
    let mut stay = Vec::new();
    for leaving in venvs {
        let members = usage.members_of(&leaving.venv);
        let others: Vec<Use> = members.filter(|one| !leftovers::is_daemon(one.pid)).cloned().collect();
        let may_stay = now < leaving.until && !is_revoked(layout, leaving.venv.name());
        if may_stay && !others.is_empty() {
            stay.push((leaving, others));
        }
    }
    stay
}

#[cfg(test)]
pub(crate) mod tests;
