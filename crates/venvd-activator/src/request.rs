//! What was asked for, and the transaction that follows from it.

use std::path::PathBuf;
use std::time::Duration;

use venvd_app::definition::Health;
use venvd_app::links::{self, Link, VenvPath};
use venvd_app::revoked::is_revoked;
use venvd_app::{AppName, Tag, VenvName};
use venvd_bus::{AppChange, Cause, Code, JobReport, Kind, Stage};
use venvd_fs::report;

use crate::commands::Commands;
use crate::digest::Digest;
use crate::host::{Host, On, what_runs};
use crate::machine::{self, Case, Failure, OldRights, Rollback, State, When};
use crate::transaction::{Journal, Part, Transaction, boot_id, now};

/// What was asked for, by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Of each app, by their names, and never none.
    pub(crate) wants: Vec<Want>,
    pub(crate) caller_uid: Option<u32>,
    pub(crate) options: Options,
}

/// What was asked for of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) app: AppName,
    pub(crate) ask: Ask,
    /// What the manifest of the venv must have: the yes was for that.
    pub(crate) digest: Option<Digest>,
}

/// How it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) cause: Cause,
    pub(crate) old_rights: OldRights,
    pub(crate) restart: When,
    /// Whether a venv may be tried that did not run well before.
    pub(crate) force: bool,
}

impl Options {
    /// Returns the usual ones.
    pub(crate) fn of(cause: Cause) -> Self {
        Self {
            cause,
            old_rights: OldRights::UntilGone,
            restart: When::Now,
            force: false,
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// This venv.
    Activate(Tag),
    /// What the active link says, read as this just now.
    Follow(PathBuf),
    /// The venv that was in force before.
    Rollback,
    /// The app on.
    Enable,
    /// The app off.
    Disable,
}

impl Request {
    /// Returns a request for one app.
    pub(crate) fn one(app: AppName, ask: Ask, options: Options) -> Self {
        Self {
            wants: vec![Want::new(app, ask)],
            caller_uid: None,
            options,
        }
    }

    /// Returns the request that a transaction was about, by the names of its venvs.
    pub(crate) fn again(transaction: &Transaction) -> Self {
        let want = |part: &Part| {
            let venv = part.to.as_ref()?;
            Some(Want {
                app: part.app.clone(),
                ask: Ask::Activate(venv.name().tag().clone()),
                digest: part.digest,
            })
        };
        Self {
            wants: transaction.parts.iter().filter_map(want).collect(),
            caller_uid: transaction.caller_uid,
            options: Options {
                cause: transaction.cause,
                old_rights: transaction.case.old_rights,
                restart: transaction.case.restart,
                force: transaction.force,
            },
        }
    }

    fn kind(&self) -> Kind {
        match self.wants.first().map(|want| &want.ask) {
            Some(Ask::Enable) => Kind::Enable,
            Some(Ask::Disable) => Kind::Disable,
            _ => Kind::Activate,
        }
    }

    /// Returns the names of the apps, as a sentence has them.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.wants.iter().map(|want| want.app.as_str()).collect();
        names.join(", ")
    }

    /// Returns the report of a job that waits for the one before it.
    pub(crate) fn queued(&self, id: u32) -> JobReport {
        let change = |want: &Want| AppChange {
            app: want.app.clone(),
            from: None,
            to: match &want.ask {
                Ask::Activate(tag) => Some(tag.clone()),
                _ => None,
            },
        };
        JobReport {
            id,
            apps: self.wants.iter().map(change).collect(),
            kind: self.kind(),
            cause: self.options.cause,
            caller_uid: self.caller_uid,
            state: Stage::Queued,
            result: None,
            code: None,
            message: None,
            units: Vec::new(),
            checks: Vec::new(),
            leftovers: Vec::new(),
            started: now(),
            ended: None,
        }
    }

    /// Returns the transaction, and why it can't work where that is plain already; only reads.
    pub(crate) fn prepare(&self, host: &Host, id: u32) -> (Transaction, Option<Failure>) {
        let (mut parts, mut health, mut objection) = (Vec::new(), None, None);
        for want in &self.wants {
            let (part, of_app, against) = self.part(host, want);
            objection = objection.or(against);
            health = Some(health.map_or(of_app.clone(), |health| stricter(health, of_app)));
            parts.push(part);
        }
        let health = health.unwrap_or_default();
        let case = Case {
            rollback: if parts.iter().any(|part| runs_revoked(host, part)) {
                Rollback::Revoked
            } else if health.rollback {
                Rollback::Automatic
            } else {
                Rollback::Never
            },
            timeout: health.timeout.max(Duration::from_millis(1)),
            old_rights: self.options.old_rights,
            restart: self.options.restart,
            ..case(self.kind(), &parts)
        };
        let transaction = Transaction {
            id,
            boot: boot_id(host.layout()),
            cause: self.options.cause,
            caller_uid: self.caller_uid,
            force: self.options.force,
            case,
            state: State::default(),
            parts,
            settle: health.settle,
            outside: Vec::new(),
            units: Vec::new(),
            checks: Vec::new(),
            leftovers: Vec::new(),
            started: now(),
            ended: None,
        };
        (transaction, objection)
    }

    /// Returns what it is about in one app, how that app's health is judged, and what speaks against it.
    fn part(&self, host: &Host, want: &Want) -> (Part, Health, Option<Failure>) {
        let mut objection = None;
        let mut object = |failure: Failure| {
            objection.get_or_insert(failure);
        };
        let name = &want.app;
        let from = links::read(host.layout(), Link::Committed, name).unwrap_or_else(|error| {
            // The generator does not follow it either, so nothing is in force; and this is how it gets right again.
            tracing::warn!("{name}: nothing is in force: {}", report(&error));
            None
        });
        let to = want.target(host, from.as_ref()).unwrap_or_else(|failure| {
            object(failure);
            None
        });
        let app = match want.ask {
            Ask::Disable => host.app_in_force(name),
            _ => host.app(name),
        };
        let (health, on, commands) = match app {
            Ok((app, on)) => {
                let commands = Commands::of(&app);
                (app.health, on, commands)
            }
            Err(failure) => {
                object(failure);
                (Health::default(), On::default(), Commands::default())
            }
        };
        let commands = match want.ask {
            // What it goes back to was in force, so its hooks have run; and they migrate forward.
            Ask::Rollback => commands.without_hooks(),
            _ => commands,
        };
        if self.options.restart == When::Later && commands.needs_restart() {
            object(Failure::new(
                Code::NEEDS_RESTART,
                "hooks that run while the units are stopped, or after their start, need the restart: leave --at-next-restart out",
            ));
        }
        let switch = host.switch(name).unwrap_or_else(|failure| {
            object(failure);
            None
        });
        let part = Part {
            app: name.clone(),
            enabled: on.enabled,
            admitted: on.admitted,
            again: has_failed(host, name),
            // Of an app that is off no unit needs any rights.
            outgoing: from
                .clone()
                .filter(|_| on.enabled)
                .and_then(|from| what_runs(host.layout(), from)),
            from,
            to,
            digest: want.digest,
            asked: match &want.ask {
                Ask::Follow(target) => Some(target.clone()),
                _ => None,
            },
            switch,
            commands,
            captured: Vec::new(),
        };
        (part, health, objection)
    }
}

/// Returns whether units may be down that an activation was to bring back.
fn has_failed(host: &Host, app: &AppName) -> bool {
    let failed = Journal::new(host.layout()).last_failed(app);
    // What can't be read is said by whoever looks for what was left down.
    failed.is_ok_and(|failed| failed.is_some())
}

/// Returns whether units run from a venv that must not start again.
fn runs_revoked(host: &Host, part: &Part) -> bool {
    let from = part.from.as_ref().filter(|_| part.enabled && !part.is_same());
    from.is_some_and(|from| is_revoked(host.layout(), from.name()))
}

/// Returns what holds for the units of two apps that change together.
fn stricter(one: Health, other: Health) -> Health {
    Health {
        settle: one.settle.max(other.settle),
        timeout: one.timeout.max(other.timeout),
        // What must not go back by itself keeps the others with it.
        rollback: one.rollback && other.rollback,
        ..one
    }
}

/// Returns what the course depends on in the apps: in those that change, if any does.
fn case(kind: Kind, parts: &[Part]) -> Case {
    let all: Vec<&Part> = parts.iter().collect();
    let same = parts.iter().all(Part::is_same);
    let moving: Vec<&Part> = parts.iter().filter(|part| !part.is_same() || part.again).collect();
    let parts = if moving.is_empty() { all } else { moving };
    let enabled = parts.iter().any(|part| part.enabled);
    let mut commands = machine::Commands::default();
    for part in parts.iter().filter(|part| part.changes_units(kind)) {
        commands += part.commands.summary();
    }
    Case {
        kind,
        enabled,
        admitted: parts.iter().any(|part| part.admitted && (part.enabled || !enabled)),
        from: parts.iter().any(|part| part.from.is_some()),
        to: parts.iter().any(|part| part.to.is_some()),
        same,
        again: parts.iter().any(|part| part.again),
        rollback: Rollback::Automatic,
        timeout: Duration::ZERO,
        old_rights: OldRights::UntilGone,
        restart: When::Now,
        commands,
    }
}

impl Ask {
    /// Returns what venvctl calls it.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Activate(_) | Self::Follow(_) => "activate",
            Self::Rollback => "rollback",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

impl Want {
    /// Returns what is wanted whatever the venv's content is.
    pub(crate) fn new(app: AppName, ask: Ask) -> Self {
        Self { app, ask, digest: None }
    }

    /// Holds on to the content that the venv has now: from here on it is that or nothing. What is no sealed venv is
    /// refused anyhow.
    pub(crate) fn freeze(&mut self, host: &Host) {
        let committed = links::read(host.layout(), Link::Committed, &self.app).ok().flatten();
        let venv = self.target(host, committed.as_ref()).ok().flatten();
        let now = venv.and_then(|venv| Digest::of(host.layout(), &venv));
        self.digest = self.digest.or(now);
    }

    fn target(&self, host: &Host, committed: Option<&VenvPath>) -> Result<Option<VenvPath>, Failure> {
        let layout = host.layout();
        match &self.ask {
            Ask::Activate(tag) => {
                let name = VenvName::new(self.app.clone(), tag.clone())
                    .map_err(|error| Failure::new(Code::NO_SUCH_VENV, error.to_string()))?;
                let found = VenvPath::find(layout, &name);
                Ok(Some(found.unwrap_or_else(|| VenvPath::local(layout, name))))
            }
            Ask::Follow(_) => Ok(links::read(layout, Link::Active, &self.app)?),
            Ask::Rollback => match links::read(layout, Link::Previous, &self.app)? {
                Some(previous) => Ok(Some(previous)),
                None => Err(Failure::new(
                    Code::NO_PREVIOUS,
                    format!(
                        "{} has no previous venv; name one: `venvctl activate {}:TAG`",
                        self.app, self.app
                    ),
                )),
            },
            Ask::Enable => {
                let active = links::read(layout, Link::Active, &self.app)?;
                Ok(active.or_else(|| committed.cloned()))
            }
            Ask::Disable => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use venvd_app::Layout;
    use venvd_fs::Root;

    fn host(definition: Option<&str>) -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        if let Some(text) = definition {
            let path = layout.on_disk("/etc/venvd/apps/nova.toml");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (directory, Host::new(&layout))
    }

    fn request(ask: Ask) -> Request {
        Request::one("nova".parse().unwrap(), ask, Options::of(Cause::Dbus))
    }

    fn venv(tag: &str) -> VenvPath {
        VenvPath::local(&Layout::new(Root::host()), format!("nova:{tag}").parse().unwrap())
    }

    #[test]
    fn objections() {
        let table = [
            (None, Ask::Disable, Code::UNKNOWN_APP),
            (Some("x = 1"), Ask::Enable, Code::APP_BROKEN),
            (Some("enabled = true"), Ask::Rollback, Code::NO_PREVIOUS),
        ];
        for (definition, ask, code) in table {
            let (_directory, host) = host(definition);
            let (transaction, objection) = request(ask.clone()).prepare(&host, 1);
            assert_eq!(objection.unwrap().code.as_str(), code, "{ask:?}");
            assert!(!transaction.case.to);
        }
        let (_directory, host) = host(Some("enabled = true"));
        let link = Link::Active.path(host.layout(), &"nova".parse().unwrap());
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        let (transaction, objection) = request(Ask::Follow("/tmp".into())).prepare(&host, 1);
        assert_eq!(objection.unwrap().code.as_str(), Code::BAD_LINK);
        assert_eq!(transaction.parts[0].asked, Some("/tmp".into()));
    }

    #[test]
    fn what_is_asked_for_and_what_it_is_compared_with() {
        let (_directory, host) = host(Some("enabled = true\n[health]\nsettle = \"300ms\"\nrollback = false"));
        let app: AppName = "nova".parse().unwrap();
        for (link, tag) in [(Link::Committed, "1"), (Link::Active, "2"), (Link::Previous, "3")] {
            links::set(host.layout(), link, &app, Some(&venv(tag))).unwrap();
        }
        let table = [
            (Ask::Activate("1".parse().unwrap()), Some("1"), true),
            (Ask::Activate("9".parse().unwrap()), Some("9"), false),
            (Ask::Follow(venv("2").path()), Some("2"), false),
            (Ask::Rollback, Some("3"), false),
            (Ask::Enable, Some("2"), false),
            (Ask::Disable, None, false),
        ];
        for (ask, to, same) in table {
            let (transaction, objection) = request(ask.clone()).prepare(&host, 1);
            assert_eq!(objection, None);
            assert_eq!(transaction.parts[0].to, to.map(venv), "{ask:?}");
            assert_eq!(transaction.parts[0].from, Some(venv("1")));
            let case = transaction.case;
            assert_eq!(
                (case.same, case.enabled, case.rollback),
                (same, true, Rollback::Never),
                "{ask:?}"
            );
            assert_eq!(transaction.settle, Duration::from_millis(300));
        }
    }
}
