//! The D-Bus interface `org.venvd1.Manager`.

#![expect(
    clippy::too_many_arguments,
    reason = "a method has those of its D-Bus signature, and the header"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use venvd_app::{AppName, Tag};
use venvd_bus::{Cause, JobReport, MANAGER_PATH, job_path};
use venvd_fs::chain::Owners;
use venvd_fs::report;
use zbus::fdo::{self, DBusProxy};
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, interface};

use crate::actor::Announce;
use crate::desk::Desk;
use crate::driver::Driver;
use crate::machine::{OldRights, When};
use crate::request::{Ask, Options, Request, Want};
use crate::systemd::Systemd;

/// The object at `/org/venvd1`.
#[derive(Debug)]
pub(crate) struct Manager {
    desk: Arc<Desk>,
    /// Tells what would be done.
    driver: Driver<Systemd>,
    connection: Connection,
    /// Who may ask.
    owners: Owners,
}

impl Manager {
    /// Returns the object in front of a desk.
    pub(crate) fn new(desk: &Arc<Desk>, driver: &Driver<Systemd>, (connection, owners): (&Connection, Owners)) -> Self {
        Self {
            desk: Arc::clone(desk),
            driver: driver.clone(),
            connection: connection.clone(),
            owners,
        }
    }

    /// Takes a request of this caller, if he may: without polkit, root alone, and for a user's venvs that user.
    async fn submit(
        &self,
        header: &Header<'_>,
        (wants, options): (Vec<Want>, Options),
    ) -> fdo::Result<OwnedObjectPath> {
        let caller_uid = self.caller(header).await?;
        if !self.owners.admit(caller_uid) {
            return Err(fdo::Error::AccessDenied(
                "only root may change which venv is in force, or the user whose venvs they are".to_owned(),
            ));
        }
        let request = Request {
            wants,
            caller_uid: Some(caller_uid),
            options,
        };
        let id = self
            .desk
            .submit(request)
            .ok_or_else(|| fdo::Error::Failed("venvd is about to end; ask again".to_owned()))?;
        OwnedObjectPath::try_from(job_path(id)).map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    async fn caller(&self, header: &Header<'_>) -> fdo::Result<u32> {
        let sender = header
            .sender()
            .ok_or_else(|| fdo::Error::AccessDenied("the call has no sender".to_owned()))?;
        DBusProxy::new(&self.connection)
            .await?
            .get_connection_unix_user(BusName::from(sender.clone()))
            .await
    }
}

// The comments on methods are part of the introspection data.
#[interface(name = "org.venvd1.Manager")]
impl Manager {
    /// Asks for the venv `app:tag` to be in force. Options: `cause` (string), `dbus` or `apply`; and booleans: `revoke`,
    /// whether the rights of the venv before end first, with its units stopped; `at-next-restart`, whether units run on
    /// as they do until somebody restarts them; `force`, whether a venv may be tried that failed before.
    #[zbus(out_args("job"))]
    async fn activate(
        &self,
        #[zbus(header)] header: Header<'_>,
        app: &str,
        tag: &str,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.activate_many(header, vec![(app.to_owned(), tag.to_owned())], options)
            .await
    }

    /// Asks for venvs of several apps, pairs of app and tag, to be in force: together, or none of them. The options are those
    /// of Activate.
    #[zbus(out_args("job"))]
    async fn activate_many(
        &self,
        #[zbus(header)] header: Header<'_>,
        venvs: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<OwnedObjectPath> {
        let wants = activations(&venvs)?;
        self.submit(&header, (wants, options_of(&options)?)).await
    }

    /// Asks for the venv that was in force before.
    #[zbus(out_args("job"))]
    async fn rollback(&self, #[zbus(header)] header: Header<'_>, app: &str) -> fdo::Result<OwnedObjectPath> {
        self.submit(&header, (one(app, Ask::Rollback)?, Options::of(Cause::Rollback)))
            .await
    }

    /// Makes units, sudoers and rootwrap of an app follow its venv.
    #[zbus(out_args("job"))]
    async fn enable(&self, #[zbus(header)] header: Header<'_>, app: &str) -> fdo::Result<OwnedObjectPath> {
        self.submit(&header, (one(app, Ask::Enable)?, Options::of(Cause::Dbus)))
            .await
    }

    /// Puts units, sudoers and rootwrap of an app back to what the distribution made them.
    #[zbus(out_args("job"))]
    async fn disable(&self, #[zbus(header)] header: Header<'_>, app: &str) -> fdo::Result<OwnedObjectPath> {
        self.submit(&header, (one(app, Ask::Disable)?, Options::of(Cause::Dbus)))
            .await
    }

    /// Returns what would be done, as JSON; nothing is changed. The verb is `activate`, `rollback`, `enable` or `disable`; but
    /// for the first, tags are empty. The options are those of Activate.
    #[zbus(out_args("plan"))]
    async fn plan(
        &self,
        #[zbus(header)] header: Header<'_>,
        verb: &str,
        venvs: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<String> {
        // What speaks against it may name files that only root may read.
        let caller_uid = self.caller(&header).await?;
        if !self.owners.admit(caller_uid) {
            return Err(fdo::Error::AccessDenied(
                "only root may look at plans, or the user whose venvs they are".to_owned(),
            ));
        }
        let request = Request {
            wants: wants(verb, &venvs)?,
            caller_uid: Some(caller_uid),
            options: options_of(&options)?,
        };
        let plan = self.driver.plan(&request).await;
        plan.to_json().map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    /// Returns how a job is, or how it ended, as JSON.
    #[zbus(out_args("report"))]
    async fn get_job(&self, #[zbus(header)] header: Header<'_>, id: u32) -> fdo::Result<String> {
        // What failed, and why, may name files that only root may read.
        if !self.owners.admit(self.caller(&header).await?) {
            return Err(fdo::Error::AccessDenied(
                "only root may look at jobs, or the user whose venvs they are".to_owned(),
            ));
        }
        let found = self
            .desk
            .report(id)
            .map_err(|error| fdo::Error::Failed(report(&error)))?;
        let found = found.ok_or_else(|| fdo::Error::InvalidArgs(format!("there is no job {id}, or it is long ago")))?;
        found.to_json().map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    /// A job has ended: done, refused, rolled-back or failed.
    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        app: &str,
        result: &str,
    ) -> zbus::Result<()>;

    /// The version of venvd that runs.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }
}

/// Announces the ends of jobs on a bus.
#[derive(Debug)]
pub(crate) struct Bus(pub(crate) Connection);

impl Announce for Bus {
    async fn announce(&self, report: &JobReport) {
        let Some(result) = report.result else { return };
        let told = async {
            let emitter = SignalEmitter::new(&self.0, MANAGER_PATH)?;
            let job = OwnedObjectPath::try_from(job_path(report.id))?;
            Manager::job_removed(&emitter, report.id, job, &report.names(), result.as_str()).await
        };
        if let Err(error) = told.await {
            tracing::warn!("nobody is told that job {} ended: {error}", report.id);
        }
    }
}

/// Returns what a verb asks for.
fn wants(verb: &str, venvs: &[(String, String)]) -> fdo::Result<Vec<Want>> {
    let ask = match verb {
        "activate" => return activations(venvs),
        "rollback" => Ask::Rollback,
        "enable" => Ask::Enable,
        "disable" => Ask::Disable,
        _ => return Err(invalid(format!("there is no verb {verb:?}"))),
    };
    match venvs {
        [(app, tag)] if tag.is_empty() => one(app, ask),
        _ => Err(invalid(format!("{verb} is about one app, without a tag"))),
    }
}

/// Returns what is asked for of one app.
fn one(app: &str, ask: Ask) -> fdo::Result<Vec<Want>> {
    let app = app.parse::<AppName>().map_err(invalid)?;
    Ok(vec![Want { app, ask }])
}

/// Returns what is asked for of apps that get a venv, in the order of their names.
fn activations(venvs: &[(String, String)]) -> fdo::Result<Vec<Want>> {
    let mut wants = BTreeMap::new();
    for (app, tag) in venvs {
        let app = app.parse::<AppName>().map_err(invalid)?;
        let tag = tag.parse::<Tag>().map_err(invalid)?;
        if wants.insert(app.clone(), Ask::Activate(tag)).is_some() {
            return Err(invalid(format!("{app} is named twice")));
        }
    }
    if wants.is_empty() {
        return Err(invalid("no venv is named"));
    }
    Ok(wants.into_iter().map(|(app, ask)| Want { app, ask }).collect())
}

fn options_of(options: &HashMap<String, OwnedVariant>) -> fdo::Result<Options> {
    let mut parsed = Options::of(Cause::Dbus);
    for (option, value) in options {
        let is_set = || bool::try_from(&**value).map_err(|_| invalid(format!("the option {option} is a boolean")));
        match option.as_str() {
            "cause" => match <&str>::try_from(&**value) {
                Ok("dbus") => parsed.cause = Cause::Dbus,
                Ok("apply") => parsed.cause = Cause::Apply,
                _ => return Err(invalid("the option cause is \"dbus\" or \"apply\"")),
            },
            "revoke" if is_set()? => parsed.old_rights = OldRights::Revoked,
            "at-next-restart" if is_set()? => parsed.restart = When::Later,
            "force" => parsed.force = is_set()?,
            "revoke" | "at-next-restart" => {}
            _ => return Err(invalid(format!("there is no option {option:?}"))),
        }
    }
    if parsed.old_rights == OldRights::Revoked && parsed.restart == When::Later {
        return Err(invalid(
            "what is not restarted needs its rights: not both revoke and at-next-restart",
        ));
    }
    Ok(parsed)
}

fn invalid(error: impl ToString) -> fdo::Error {
    fdo::Error::InvalidArgs(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    #[test]
    fn apps_are_sorted_and_named_once() {
        let parse = |venvs: &[(&str, &str)]| {
            let venvs = venvs.iter().map(|&(app, tag)| (app.to_owned(), tag.to_owned()));
            activations(&venvs.collect::<Vec<_>>())
        };
        let wants = parse(&[("nova", "2"), ("glance", "7")]).unwrap();
        let names: Vec<&str> = wants.iter().map(|want| want.app.as_str()).collect();
        assert_eq!(names, ["glance", "nova"]);
        for bad in [
            &[][..],
            &[("nova", "1"), ("nova", "2")],
            &[("Nova", "1")],
            &[("nova", "..")],
        ] {
            assert!(matches!(parse(bad), Err(fdo::Error::InvalidArgs(_))), "{bad:?}");
        }
    }

    #[test]
    fn options_are_known_or_refused() {
        let options = |key: &str, value: Variant<'_>| HashMap::from([(key.to_owned(), value.try_to_owned().unwrap())]);
        let parse = options_of;
        assert_eq!(parse(&HashMap::new()).unwrap(), Options::of(Cause::Dbus));
        assert_eq!(
            parse(&options("cause", "apply".into())).unwrap(),
            Options::of(Cause::Apply)
        );
        let revoked = parse(&options("revoke", true.into())).unwrap();
        assert_eq!(revoked.old_rights, OldRights::Revoked);
        let later = parse(&options("at-next-restart", true.into())).unwrap();
        assert_eq!((later.restart, later.force), (When::Later, false));
        assert!(parse(&options("force", true.into())).unwrap().force);
        assert_eq!(
            parse(&options("revoke", false.into())).unwrap(),
            Options::of(Cause::Dbus)
        );
        let both = [options("revoke", true.into()), options("at-next-restart", true.into())];
        assert!(parse(&both.into_iter().flatten().collect()).is_err());
        for bad in [
            options("revoke", "yes".into()),
            options("cause", "boot".into()),
            options("cause", 1u32.into()),
            options("force", "yes".into()),
            options("hurry", true.into()),
        ] {
            assert!(matches!(parse(&bad), Err(fdo::Error::InvalidArgs(_))), "{bad:?}");
        }
    }
}
