//! What a transaction does with files: links, the app's switch, the marker, policies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use venvd_app::cmdline::Switch;
use venvd_app::detached::is_detached;
use venvd_app::exposed;
use venvd_app::in_force::{self, InForce};
use venvd_app::interpreter::Unfit;
use venvd_app::links::{self, Link, LinkError, VenvPath};
use venvd_app::search::{self, LoadError};
use venvd_app::{App, AppName, Layout, ProgramName, Record};
use venvd_bus::{Code, Kind, Outcome};
use venvd_core::brake;
use venvd_core::note::Note;
use venvd_core::preflight::{self, PreflightError};
use venvd_core::space;
use venvd_fs::{atomic, report};
use venvd_policy::Edited;

use crate::machine::{Failure, Side};
use crate::transaction::{Part, Transaction};

impl From<venvd_fs::Error> for Failure {
    fn from(error: venvd_fs::Error) -> Self {
        Self::new(Code::INTERNAL, report(&error))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let code = match error {
            LoadError::Unknown { .. } => Code::UNKNOWN_APP,
            _ => Code::APP_BROKEN,
        };
        Self::new(code, report(&error))
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::new(Code::BAD_LINK, report(&error))
    }
}

impl From<PreflightError> for Failure {
    fn from(error: PreflightError) -> Self {
        Self::new(error.code(), report(&error))
    }
}

impl From<venvd_core::Error> for Failure {
    fn from(error: venvd_core::Error) -> Self {
        Self::new(error.code(), report(&error))
    }
}

impl From<venvd_policy::Error> for Failure {
    fn from(error: venvd_policy::Error) -> Self {
        Self::new(error.code(), report(&error))
    }
}

impl From<exposed::Problem> for Failure {
    fn from(problem: exposed::Problem) -> Self {
        Self::new(exposed::Problem::CODE, report(&problem))
    }
}

/// Whether an app is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct On {
    /// By its own switch and the host's.
    pub(crate) enabled: bool,
    /// By the kernel command line, for this boot.
    pub(crate) admitted: bool,
}

/// The files of a host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    layout: Layout,
}

impl Host {
    /// Returns the files below a layout's root.
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    /// Returns where everything lies.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns an app, and whether it is on.
    ///
    /// # Errors
    /// When its definition or the settings can't be used.
    pub(crate) fn app(&self, app: &AppName) -> Result<(App, On), Failure> {
        self.with_switches(search::load_app(&self.layout, app)?)
    }

    fn with_switches(&self, app: App) -> Result<(App, On), Failure> {
        let on = On {
            enabled: app.enabled && search::load_settings(&self.layout)?.enabled,
            admitted: Switch::of_this_boot(&self.layout).admits(&app.name),
        };
        Ok((app, on))
    }

    /// As [`Host::app`], but with the definition that was accepted last where the files are broken: what is in force
    /// must not be out of reach because of a typo.
    ///
    /// # Errors
    /// The first error, when there is no accepted one either.
    pub(crate) fn app_in_force(&self, app: &AppName) -> Result<(App, On), Failure> {
        self.app(app)
            .or_else(|failure| self.with_switches(search::load_accepted(&self.layout, app)?.ok_or(failure)?))
    }

    /// Checks all that can be known before something is changed.
    ///
    /// # Errors
    /// Whatever speaks against it.
    pub(crate) fn check(&self, transaction: &Transaction, part: &Part) -> Result<(), Failure> {
        let kind = transaction.case.kind;
        if is_detached(&self.layout, &part.app) {
            let name = &part.app;
            let message = format!("{name} is detached, it runs without venvd; `venvctl attach {name}` takes it back");
            return Err(Failure::new(Code::DETACHED, message));
        }
        if kind == Kind::Disable {
            self.app_in_force(&part.app)?;
            return Ok(());
        }
        let (app, _) = self.app(&part.app)?;
        self.check_room(&app)?;
        if kind == Kind::Enable && !search::load_settings(&self.layout)?.enabled {
            return Err(Failure::new(
                Code::HOST_DISABLED,
                format!(
                    "`enabled = false` in {} turns every app off; take it out first",
                    self.layout.settings().display()
                ),
            ));
        }
        let Some(to) = &part.to else {
            // Why not is known to whoever asked; this one was cut off, and has nothing to go to.
            return match kind {
                Kind::Enable => Ok(()),
                _ => Err(Failure::new(
                    Code::BAD_LINK,
                    format!("{} has no venv to go to; name one", part.app),
                )),
            };
        };
        let needed: Vec<ProgramName> = app.needed_programs().into_iter().collect();
        if let Some(note) = brake::revoked(&self.layout, to.name())? {
            return Err(Failure::new(Code::REVOKED, brake::revoked_text(to.name(), &note)));
        }
        if !part.is_same() {
            self.check_brakes(transaction, to)?;
        }
        let manifest = preflight::check(&self.layout, to, &needed)?;
        if let Some(digest) = &part.digest
            && manifest.digest() != digest.to_string()
        {
            return Err(Failure::new(
                Code::CONTENT_CHANGED,
                format!(
                    "{} is not what it was when it was asked for; look at it, and ask again",
                    to.name()
                ),
            ));
        }
        if self.layout.has_policies() && (part.enabled || kind == Kind::Enable) {
            venvd_policy::plan(&self.layout, &app, std::slice::from_ref(to), Edited::Refuse)?;
            exposed::check(&self.layout, &app)?;
        }
        Ok(())
    }

    /// Refuses what there is no room for.
    fn check_room(&self, app: &App) -> Result<(), Failure> {
        let layout = &self.layout;
        let mut places = vec![layout.transactions(), layout.pending_markers(), layout.runtime_units()];
        if layout.has_policies() && !app.sudo.is_empty() {
            places.extend(layout.sudoers(&app.name).parent().map(Path::to_owned));
        }
        let confs = app.rootwrap.iter().filter(|_| layout.has_policies());
        places.extend(
            confs.filter_map(|rootwrap| layout.on_disk(rootwrap.config.as_path()).parent().map(Path::to_owned)),
        );
        Ok(space::require_for_activation(places)?)
    }

    /// Refuses what an administrator has stopped, or what failed on this host before.
    fn check_brakes(&self, transaction: &Transaction, to: &VenvPath) -> Result<(), Failure> {
        let app = to.name().app();
        if let Some(note) = brake::frozen(&self.layout, app)? {
            return Err(Failure::new(
                Code::FROZEN,
                format!("{app} is frozen{note}; `venvctl thaw {app}` lets it be activated again"),
            ));
        }
        if !transaction.force
            && let Some(note) = brake::known_bad(&self.layout, to.name())?
        {
            let venv = to.name();
            return Err(Failure::new(
                Code::KNOWN_BAD,
                format!("{venv} did not run well on this host{note}; `venvctl activate --force {venv}` tries it again"),
            ));
        }
        Ok(())
    }

    /// Remembers how the venvs did that were asked for, so that no flip tries a bad one again.
    pub(crate) fn judge(&self, transaction: &Transaction) -> Result<(), Failure> {
        let failure = transaction.state.condemns();
        let is_done = transaction.state.outcome() == Some(Outcome::Done);
        for part in &transaction.parts {
            let Some(to) = &part.to else { continue };
            match failure {
                Some(failure) if transaction.concerns(part, failure) => {
                    let note = Note {
                        reason: Some(failure.message.clone()),
                        by: None,
                        since: transaction.ended,
                    };
                    brake::condemn(&self.layout, to.name(), &note)?;
                }
                // What did not run is not found well.
                None if is_done && !transaction.units.is_empty() => drop(brake::acquit(&self.layout, to.name())?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Points the active link at one side. Back only if it still says what was asked: a newer flip stays.
    pub(crate) fn set_active(&self, part: &Part, side: Side) -> Result<(), Failure> {
        let path = Link::Active.path(&self.layout, &part.app);
        let said = match fs::read_link(&path) {
            Ok(target) => Some(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(link_unreadable(path, &error)),
        };
        let by_link = part.asked.is_some();
        let ours = part.to.as_ref().map(VenvPath::path);
        match side {
            // It was flipped by somebody; by now perhaps once more.
            Side::New if by_link || part.to.is_none() => return Ok(()),
            Side::Old if said.is_some() && said != part.asked && said != ours => return Ok(()),
            _ => {}
        }
        Ok(links::set(&self.layout, Link::Active, &part.app, part.venv(side))?)
    }

    /// Points the committed link at one side, with the record beside it.
    pub(crate) fn set_committed(&self, part: &Part, side: Side) -> Result<(), Failure> {
        if part.is_same() {
            return Ok(());
        }
        let (app, venv) = (&part.app, part.venv(side));
        let path = Link::Committed.record(&self.layout, app);
        match venv.map(|venv| self.record(venv)) {
            Some(Ok(record)) => record.write(&path)?,
            // The way back must not hang on it: without a record the generator knows less, that is all.
            Some(Err(failure)) if side == Side::Old => {
                tracing::warn!("{app}: no record beside the committed link: {}", failure.message);
                atomic::remove(&path)?;
            }
            Some(Err(failure)) => return Err(failure),
            None => drop(atomic::remove(&path)?),
        }
        if side == Side::New {
            search::accept(&self.layout, app)?;
        }
        Ok(links::set(&self.layout, Link::Committed, app, venv)?)
    }

    pub(crate) fn record(&self, venv: &VenvPath) -> Result<Record, Failure> {
        let broken = |error: String| Failure::new(Code::INTERNAL, format!("the manifest of {}: {error}", venv.name()));
        let manifest = venvd_core::Manifest::load(&self.layout.on_disk(venv.path())).map_err(|e| broken(report(&e)))?;
        venvd_core::committed_record(&manifest).map_err(|error| broken(error.to_string()))
    }

    /// Lets the previous link name what was in force, with the record beside it: by it the generator falls back when
    /// the interpreter of what is in force has gone.
    pub(crate) fn set_previous(&self, part: &Part) -> Result<(), Failure> {
        if part.is_same() || part.from.is_none() {
            return Ok(());
        }
        let (app, venv) = (&part.app, part.from.as_ref());
        if let (Some(venv), Some(unfit)) = (venv, self.keeps_previous(part)) {
            tracing::info!(
                "{app}: {} is no way back, so previous stays as it is: {unfit}",
                venv.name()
            );
            return Ok(());
        }
        let path = Link::Previous.record(&self.layout, app);
        let record = venv.map(|venv| self.record(venv));
        match record {
            Some(Ok(record)) => record.write(&path)?,
            // What was activated is in force and healthy; without this there is no fall-back at boot, that is all.
            Some(Err(failure)) => {
                tracing::warn!("{app}: no record beside the previous link: {}", failure.message);
                atomic::remove(&path)?;
            }
            None => drop(atomic::remove(&path)?),
        }
        Ok(links::set(&self.layout, Link::Previous, app, venv)?)
    }

    /// Returns why what was in force is no way back, where the previous venv is a better one.
    pub(crate) fn keeps_previous(&self, part: &Part) -> Option<Unfit> {
        let from = part.from.as_ref()?;
        let record = self.record(from).ok()?;
        let unfit = in_force::unfit(&self.layout, from, Some(&record))?;
        self.has_way_back(part).then_some(unfit)
    }

    /// Returns whether the previous venv is another than what is in force now and can run on this host, as far as is known.
    fn has_way_back(&self, part: &Part) -> bool {
        let previous = links::read(&self.layout, Link::Previous, &part.app);
        let Some(venv) = previous.ok().flatten().filter(|venv| Some(venv) != part.to.as_ref()) else {
            return false;
        };
        let record = Record::load(&self.layout, Link::Previous, &venv).ok();
        record.is_some_and(|record| in_force::unfit(&self.layout, &venv, Some(&record)).is_none())
    }

    /// Returns the text of the fragment that turns an app on and off, to put it back.
    pub(crate) fn switch(&self, app: &AppName) -> Result<Option<String>, Failure> {
        let text = atomic::read(&self.layout.enabled_fragment(app))?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Turns the app on or off, or back to what it was.
    pub(crate) fn set_switch(&self, (kind, part): (Kind, &Part), side: Side) -> Result<(), Failure> {
        let path = self.layout.enabled_fragment(&part.app);
        let text = match (side, kind) {
            (Side::Old, _) => part.switch.clone(),
            (Side::New, Kind::Disable) => Some(search::switch_text(false)),
            (Side::New, _) => Some(search::switch_text(true)),
        };
        match text {
            Some(text) => atomic::write(&path, text.as_bytes(), 0o644)?,
            None => atomic::remove(&path)?,
        };
        // Whatever the files say: the copy follows the switch, and the files too where they are sound.
        let on = (side == Side::New) == (kind == Kind::Enable);
        search::switch_accepted(&self.layout, &part.app, on)?;
        if side == Side::New && kind == Kind::Enable {
            search::accept(&self.layout, &part.app)?;
        }
        Ok(())
    }

    /// Marks an open activation.
    pub(crate) fn mark_pending(&self, transaction: u32, app: &AppName) -> Result<(), Failure> {
        let text = format!("{transaction}\n");
        atomic::write(&self.layout.pending(app), text.as_bytes(), 0o644)?;
        Ok(())
    }

    /// Takes that mark away.
    pub(crate) fn clear_pending(&self, app: &AppName) -> Result<(), Failure> {
        let marker = self.layout.pending(app);
        atomic::remove(&marker)?;
        // What a venvd that was killed had begun to write of it; we hold the app's lock.
        atomic::sweep(&marker)?;
        Ok(())
    }
}

/// Returns what units run where that venv is the committed one: itself, or what stands in for it because it can't run.
pub(crate) fn what_runs(layout: &Layout, committed: VenvPath) -> Option<VenvPath> {
    match in_force::of_links(layout, committed.name().app()) {
        Ok(InForce { venv, why, .. }) if why.stands_in_for(&committed) => venv,
        // Either nothing stands in for it, or the link says something else by now.
        _ => Some(committed),
    }
}

fn link_unreadable(path: PathBuf, error: &io::Error) -> Failure {
    Failure::new(
        Code::BAD_LINK,
        format!("{path:?} can't be read as a symbolic link: {error}; remove what is there"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use venvd_fs::Root;

    fn host() -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::new(&Layout::new(Root::at(directory.path())));
        (directory, host)
    }

    fn active(host: &Host) -> Option<PathBuf> {
        fs::read_link(Link::Active.path(&host.layout, &"nova".parse().unwrap())).ok()
    }

    #[test]
    fn the_active_link_is_put_back_unless_it_was_flipped_again() {
        let (_directory, host) = host();
        let mut part = crate::transaction::tests::part();
        let link = Link::Active.path(&host.layout, &part.app);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let asked = part.asked.clone().unwrap();
        symlink(&asked, &link).unwrap();
        host.set_active(&part, Side::Old).unwrap();
        assert_eq!(active(&host), part.from.as_ref().map(VenvPath::path));

        let newer = Path::new("/var/lib/venvd/venvs/nova/3");
        atomic::symlink(newer, &link).unwrap();
        host.set_active(&part, Side::Old).unwrap();
        host.set_active(&part, Side::New).unwrap();
        assert_eq!(active(&host).as_deref(), Some(newer), "a newer flip is a newer wish");

        part.asked = None;
        host.set_active(&part, Side::New).unwrap();
        assert_eq!(active(&host), Some(asked), "asked for by name, the link follows");
        part.from = None;
        host.set_active(&part, Side::Old).unwrap();
        assert_eq!(active(&host), None, "nothing was in force");
    }

    #[test]
    fn a_foreign_active_link_is_put_back() {
        let (_directory, host) = host();
        let mut part = crate::transaction::tests::part();
        let link = Link::Active.path(&host.layout, &part.app);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("/tmp/evil", &link).unwrap();
        (part.to, part.asked) = (None, Some(PathBuf::from("/tmp/evil")));
        host.set_active(&part, Side::Old).unwrap();
        assert_eq!(active(&host), part.from.as_ref().map(VenvPath::path));
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        let failure = host.set_active(&part, Side::Old).unwrap_err();
        assert_eq!(failure.code.as_str(), Code::BAD_LINK);
    }

    #[test]
    fn the_switch_is_put_back_byte_for_byte() {
        let (_directory, host) = host();
        let mut part = crate::transaction::tests::part();
        let app = part.app.clone();
        for before in [None, Some("enabled = true # mine\n".to_owned())] {
            part.switch = before.clone();
            host.set_switch((Kind::Disable, &part), Side::New).unwrap();
            assert!(host.switch(&app).unwrap().unwrap().contains("enabled = false"));
            host.set_switch((Kind::Disable, &part), Side::Old).unwrap();
            assert_eq!(host.switch(&app).unwrap(), before);
        }
        let path = host.layout.on_disk("/etc/venvd/apps/nova.toml");
        fs::write(&path, "user = \"nova\"\n").unwrap();
        host.set_switch((Kind::Enable, &part), Side::New).unwrap();
        let enabled = |app: (App, On)| app.1.enabled;
        assert!(enabled(host.app(&app).unwrap()), "the definition says so now");
        fs::write(path, "usr = \"nova\"\n").unwrap();
        assert!(host.app(&app).is_err());
        assert!(enabled(host.app_in_force(&app).unwrap()), "what was accepted goes on");
        host.set_switch((Kind::Disable, &part), Side::New).unwrap();
        assert!(!enabled(host.app_in_force(&app).unwrap()), "and can be turned off");
    }

    #[test]
    fn the_marker_names_the_transaction() {
        let (_directory, host) = host();
        let app: AppName = "nova".parse().unwrap();
        host.mark_pending(42, &app).unwrap();
        let marker = host.layout.pending(&app);
        assert_eq!(fs::read_to_string(&marker).unwrap(), "42\n");
        host.clear_pending(&app).unwrap();
        host.clear_pending(&app).unwrap();
        assert!(!marker.exists());
    }

    #[test]
    fn unknown_and_broken_apps_have_their_codes() {
        let (_directory, host) = host();
        let transaction = crate::transaction::tests::example(1);
        assert_eq!(
            host.check(&transaction, &transaction.parts[0])
                .unwrap_err()
                .code
                .as_str(),
            Code::UNKNOWN_APP
        );
        let path = host.layout.on_disk("/etc/venvd/apps/nova.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "colour = \"blue\"\n").unwrap();
        let failure = host.check(&transaction, &transaction.parts[0]).unwrap_err();
        assert_eq!(failure.code.as_str(), Code::APP_BROKEN);
        assert!(failure.message.contains("colour"), "{}", failure.message);
        fs::write(&path, "description = \"x\"\n").unwrap();
        assert_eq!(
            host.check(&transaction, &transaction.parts[0])
                .unwrap_err()
                .code
                .as_str(),
            Code::NO_SUCH_VENV
        );
    }
}
