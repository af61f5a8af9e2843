//! The D-Bus interface `org.venvd1.Manager`.

#![expect(
    clippy::too_many_arguments,
    reason = "a method has those of its D-Bus signature, and the header"
)]

use std::collections::HashMap;
use std::sync::Arc;

use venvd_bus::{Cause, app_path, job_path};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedObjectPath, OwnedVariant, fdo, interface};

use super::facts::{Facts, path};
use super::front::{Front, activations, invalid, options_of};
use super::objects::Known;
use crate::driver::Driver;
use crate::request::{Ask, Options, Request, Want};
use crate::systemd::Systemd;

/// The object at `/org/venvd1`.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) front: Arc<Front>,
    pub(super) known: Facts<Known>,
    /// Tells what would be done.
    pub(super) driver: Driver<Systemd>,
}

// The comments on methods are part of the introspection data.
#[interface(name = "org.venvd1.Manager")]
impl Manager {
    /// Asks for the venv `app:tag` to be in force. Options: `cause` (string), `dbus` or `apply`; `digest` (string), what
    /// its manifest must have; and booleans: `revoke`, whether the rights of the venv before end first, with its units
    /// stopped; `at-next-restart`, whether units run on as they do until somebody restarts them; `force`, whether a venv
    /// may be tried that failed before. Polkit: org.venvd1.activate.
    #[zbus(out_args("job"))]
    async fn activate(
        &self,
        #[zbus(header)] header: Header<'_>,
        app: &str,
        tag: &str,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<OwnedObjectPath> {
        let mut wants = activations(&[(app.to_owned(), tag.to_owned())])?;
        let options = options_of(&options, &mut wants)?;
        self.front.submit(&header, (wants, options)).await
    }

    /// Asks for venvs of several apps, pairs of app and tag, to be in force: together, or none of them. The options are
    /// those of Activate, but for `digest`. Polkit: org.venvd1.activate, with all of the apps in one word.
    #[zbus(out_args("job"))]
    async fn activate_many(
        &self,
        #[zbus(header)] header: Header<'_>,
        venvs: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<OwnedObjectPath> {
        let mut wants = activations(&venvs)?;
        let options = options_of(&options, &mut wants)?;
        self.front.submit(&header, (wants, options)).await
    }

    /// Asks for the venv that was in force before. Polkit: org.venvd1.activate.
    #[zbus(out_args("job"))]
    async fn rollback(&self, #[zbus(header)] header: Header<'_>, app: &str) -> fdo::Result<OwnedObjectPath> {
        let wants = one(app, Ask::Rollback)?;
        self.front.submit(&header, (wants, Options::of(Cause::Rollback))).await
    }

    /// Makes units, sudoers and rootwrap of an app follow its venv. Polkit: org.venvd1.manage.
    #[zbus(out_args("job"))]
    async fn enable(&self, #[zbus(header)] header: Header<'_>, app: &str) -> fdo::Result<OwnedObjectPath> {
        let wants = one(app, Ask::Enable)?;
        self.front.submit(&header, (wants, Options::of(Cause::Dbus))).await
    }

    /// Puts units, sudoers and rootwrap of an app back to what the distribution made them. Polkit: org.venvd1.manage.
    #[zbus(out_args("job"))]
    async fn disable(&self, #[zbus(header)] header: Header<'_>, app: &str) -> fdo::Result<OwnedObjectPath> {
        let wants = one(app, Ask::Disable)?;
        self.front.submit(&header, (wants, Options::of(Cause::Dbus))).await
    }

    /// Returns what would be done, as JSON; nothing is changed. The verb is `activate`, `rollback`, `enable` or `disable`; but
    /// for the first, tags are empty. The options are those of Activate. Polkit: org.venvd1.inspect.
    #[zbus(out_args("plan"))]
    async fn plan(
        &self,
        #[zbus(header)] header: Header<'_>,
        verb: &str,
        venvs: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<String> {
        let mut wants = wants(verb, &venvs)?;
        let options = options_of(&options, &mut wants)?;
        let caller_uid = Some(self.front.may_inspect(&header, &wants).await?);
        let request = Request {
            wants,
            caller_uid,
            options,
        };
        let plan = self.driver.plan(&request).await;
        plan.to_json().map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    /// Returns all that is known of a job, open or ended, as JSON: with messages, and what hooks and health commands
    /// wrote. Polkit: org.venvd1.inspect, but for who asked for the job.
    #[zbus(out_args("report"))]
    async fn get_job(&self, #[zbus(header)] header: Header<'_>, id: u32) -> fdo::Result<String> {
        let report = self.front.report(&header, id).await?;
        report.to_json().map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    /// Returns the apps that are defined: name and object.
    #[zbus(out_args("apps"))]
    async fn list_apps(&self) -> Vec<(String, OwnedObjectPath)> {
        let known = self.known.get();
        let apps = known.apps.iter();
        apps.map(|app| (app.to_string(), path(app_path(app)))).collect()
    }

    /// Returns the jobs that are open, and those that ended lately: number, object, stage, and how it ended.
    #[zbus(out_args("jobs"))]
    async fn list_jobs(&self) -> Vec<(u32, OwnedObjectPath, String, String)> {
        let known = self.known.get();
        let jobs = known.jobs.iter().map(|(id, (stage, result))| {
            let result = result.map_or_else(String::new, |result| result.to_string());
            (*id, path(job_path(*id)), stage.to_string(), result)
        });
        jobs.collect()
    }

    /// A job was begun, or waits for the one before it.
    #[zbus(signal)]
    pub(super) async fn job_new(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        app: &str,
    ) -> zbus::Result<()>;

    /// A job has ended: done, refused, rolled-back or failed. Its object stays for a while.
    #[zbus(signal)]
    pub(super) async fn job_removed(
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
    Ok(vec![Want::new(app.parse().map_err(invalid)?, ask)])
}
