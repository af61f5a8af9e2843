//! Asking venvd over D-Bus, and waiting for the job's end.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use venvd_app::{AppName, Scope, VenvName};
use venvd_bus::plan::Plan;
use venvd_bus::{BUS_NAME, JobReport, ManagerProxy, job_id};
use zbus::{OwnedObjectPath, Variant};

use crate::args::How;
use crate::failure::Failure;

/// How often a job is asked where it is: fast enough for a person, cheap enough for venvd.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What venvd is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Activate { venvs: Vec<VenvName>, how: How },
    Rollback(AppName),
    Enable(AppName),
    Disable(AppName),
}

/// Has venvd do it, and returns the job's report when it has ended. `progress` gets every report on the way.
pub(crate) fn run(scope: Scope, request: &Request, progress: &mut dyn FnMut(&JobReport)) -> Result<JobReport, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("io", format!("cannot start: {error}")))?;
    runtime.block_on(ask(scope, request, progress))
}

/// Asks venvd what it would do.
pub(crate) fn plan(scope: Scope, request: &Request) -> Result<Plan, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("io", format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let connection = connect(scope).await?;
        let manager = ManagerProxy::new(&connection).await.map_err(unreachable)?;
        let (verb, app) = match request {
            Request::Activate { venvs, how } => {
                let venvs: Vec<(&str, &str)> = venvs.iter().map(named).collect();
                let json = manager.plan("activate", &venvs, options(*how)).await;
                return read_plan(&json.map_err(unreachable)?);
            }
            Request::Rollback(app) => ("rollback", app),
            Request::Enable(app) => ("enable", app),
            Request::Disable(app) => ("disable", app),
        };
        let json = manager.plan(verb, &[(app.as_str(), "")], HashMap::new()).await;
        read_plan(&json.map_err(unreachable)?)
    })
}

fn read_plan(json: &str) -> Result<Plan, Failure> {
    Plan::from_json(json).map_err(|error| {
        let message = format!("venvd's plan can't be read: {error}; are venvctl and venvd of one version?");
        Failure::refused("protocol", message)
    })
}

async fn ask(scope: Scope, request: &Request, progress: &mut dyn FnMut(&JobReport)) -> Result<JobReport, Failure> {
    let connection = connect(scope).await?;
    let manager = ManagerProxy::new(&connection).await.map_err(unreachable)?;
    // Subscribed before asking: the job may end before the answer is read.
    let mut removed = manager.receive_job_removed().await.map_err(unreachable)?;
    let path = call(&manager, request).await.map_err(unreachable)?;
    let id = job_id(path.as_str())
        .ok_or_else(|| Failure::refused("protocol", format!("venvd answered with {path}, which is no job")))?;
    let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            signal = removed.next() => {
                if signal.is_none() {
                    return Err(lost(id, "the bus went away"));
                }
            }
        }
        let json = manager
            .get_job(id)
            .await
            .map_err(|error| lost(id, &error.to_string()))?;
        let report = JobReport::from_json(&json).map_err(|error| {
            lost(
                id,
                &format!("its report can't be read: {error}; are venvctl and venvd of one version?"),
            )
        })?;
        progress(&report);
        if report.result.is_some() {
            return Ok(report);
        }
    }
}

/// Connects to the bus, or says what to look at.
async fn connect(scope: Scope) -> Result<zbus::Connection, Failure> {
    bus(scope).await.map_err(|error| {
        let hint = match scope {
            Scope::System => {
                "is this a booted host (`systemctl status dbus.socket`)? For an image or a chroot use --root DIR"
            }
            Scope::User => {
                "does your manager run (`loginctl enable-linger` keeps it), and does it have a bus (the package \
                 dbus-user-session)? `systemctl status dbus.socket` says more"
            }
        };
        Failure::refused(
            "no-bus",
            format!("cannot reach the bus over which venvd is asked: {error}; {hint}"),
        )
    })
}

/// Returns a job as venvd knows it; nothing where it does not run or does not answer. It is not started for that.
pub(crate) fn job(scope: Scope, id: u32) -> Option<JobReport> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    runtime.block_on(async {
        let connection = bus(scope).await.ok()?;
        let names = zbus::fdo::DBusProxy::new(&connection).await.ok()?;
        let runs = names.name_has_owner(BUS_NAME.try_into().ok()?).await.ok()?;
        runs.then_some(())?;
        let json = ManagerProxy::new(&connection).await.ok()?.get_job(id).await.ok()?;
        JobReport::from_json(&json).ok()
    })
}

/// Connects to the bus of the manager that runs the units.
///
/// # Errors
/// When there is none.
pub(crate) async fn bus(scope: Scope) -> zbus::Result<zbus::Connection> {
    match scope {
        Scope::System => zbus::Connection::system().await,
        Scope::User => match std::env::var_os("DBUS_SESSION_BUS_ADDRESS").or(std::env::var_os("XDG_RUNTIME_DIR")) {
            Some(_) => zbus::Connection::session().await,
            // As after su(1) or sudo(8), which start no session.
            None => {
                let address = format!("unix:path=/run/user/{}/bus", nix::unistd::geteuid());
                zbus::connection::Builder::address(address.as_str()).build().await
            }
        },
    }
}

async fn call(manager: &ManagerProxy<'_>, request: &Request) -> zbus::Result<OwnedObjectPath> {
    match request {
        Request::Activate { venvs, how } => {
            let options = options(*how);
            match venvs.as_slice() {
                [venv] => {
                    manager
                        .activate(venv.app().as_str(), venv.tag().as_str(), options)
                        .await
                }
                several => {
                    let venvs: Vec<(&str, &str)> = several.iter().map(named).collect();
                    manager.activate_many(&venvs, options).await
                }
            }
        }
        Request::Rollback(app) => manager.rollback(app.as_str()).await,
        Request::Enable(app) => manager.enable(app.as_str()).await,
        Request::Disable(app) => manager.disable(app.as_str()).await,
    }
}

fn options(how: How) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from(
        [
            ("revoke", how.revoke),
            ("at-next-restart", how.at_next_restart),
            ("force", how.force),
        ]
        .map(|(option, is_set)| (option, Variant::from(is_set))),
    )
}

fn named(venv: &VenvName) -> (&str, &str) {
    (venv.app().as_str(), venv.tag().as_str())
}

fn unreachable(error: zbus::Error) -> Failure {
    // The bus itself refuses it: its policy lets only root ask (org.venvd1.conf).
    if let zbus::Error::FDO(fdo) = &error
        && matches!(**fdo, zbus::fdo::Error::AccessDenied(_))
    {
        return Failure::refused(
            "denied",
            "only root may change what is in force; run it as root (`sudo venvctl …`)",
        );
    }
    if let zbus::Error::MethodError(name, text, _) = &error {
        let denied = name.as_str() == "org.freedesktop.DBus.Error.AccessDenied";
        let hint = if denied {
            "; run it as root"
        } else {
            "; `systemctl status venvd.service` and `journalctl -u venvd` say more"
        };
        let text = text.as_deref().unwrap_or(name.as_str());
        return Failure::refused(
            if denied { "denied" } else { "venvd" },
            format!("venvd says: {text}{hint}"),
        );
    }
    Failure::refused(
        "no-venvd",
        format!("cannot ask venvd: {error}; `systemctl status venvd.service` says more"),
    )
}

/// The job goes on in venvd; only its end was not seen. That is neither done nor refused.
fn lost(id: u32, why: &str) -> Failure {
    Failure {
        code: "lost".to_owned(),
        message: format!("lost sight of job {id}: {why}; `venvctl status` shows how it ended"),
        exit: 4,
    }
}
