//! Asking venvd over D-Bus, and looking on until the job has ended.

mod agent;
mod view;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::io::IsTerminal;
use std::time::SystemTime;

use venvd_app::{AppName, Scope, VenvName};
use venvd_bus::plan::Plan;
use venvd_bus::{AppChange, BUS_NAME, JobReport, Kind, ManagerProxy, job_id};
use zbus::{OwnedObjectPath, Variant};

use self::agent::Agent;
use self::watch::{Watch, is_away, says};
use crate::args::How;
use crate::failure::Failure;

pub(crate) use self::view::View;

/// The exit status of a program that Ctrl-C ended, as a shell has it.
const INTERRUPTED: u8 = 130;

/// What venvd is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Activate { venvs: Vec<VenvName>, how: How },
    Rollback(AppName),
    Enable(AppName),
    Disable(AppName),
}

impl Request {
    /// Returns the apps that it is about, by their names.
    fn apps(&self) -> BTreeSet<&AppName> {
        match self {
            Self::Activate { venvs, .. } => venvs.iter().map(VenvName::app).collect(),
            Self::Rollback(app) | Self::Enable(app) | Self::Disable(app) => BTreeSet::from([app]),
        }
    }

    /// Returns one of them.
    fn app(&self) -> String {
        self.apps().first().map_or_else(String::new, |app| app.to_string())
    }

    /// Returns whether a report can be that of this request: a venvd that was started anew gives numbers again that it
    /// had given to what had not begun.
    fn is_that_of(&self, report: &JobReport) -> bool {
        let kind = match self {
            Self::Activate { .. } | Self::Rollback(_) => Kind::Activate,
            Self::Enable(_) => Kind::Enable,
            Self::Disable(_) => Kind::Disable,
        };
        let apps = report.apps.iter().map(|change| &change.app);
        let is_asked = |change: &AppChange| match self {
            Self::Activate { venvs, .. } => venvs.iter().any(|venv| Some(venv.tag()) == change.to.as_ref()),
            _ => true,
        };
        apps.collect::<BTreeSet<_>>() == self.apps() && report.kind == kind && report.apps.iter().all(is_asked)
    }
}

/// Is shown how a job is, whenever that is another.
pub(crate) trait Shown {
    /// Shows it.
    fn show(&mut self, view: &View);
}

/// Has venvd do it, and returns the job's report when it has ended.
pub(crate) fn run(scope: Scope, request: &Request, show: &mut dyn Shown) -> Result<JobReport, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused("io", format!("cannot start: {error}")))?;
    runtime.block_on(ask(scope, request, show))
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

async fn ask(scope: Scope, request: &Request, show: &mut dyn Shown) -> Result<JobReport, Failure> {
    let connection = connect(scope).await?;
    let manager = ManagerProxy::new(&connection).await.map_err(unreachable)?;
    let mut watch = Watch::new(&connection).await.map_err(unreachable)?;
    // Of a user's own manager nobody is asked anything.
    let agent = Agent::start(scope == Scope::System && std::io::stdin().is_terminal());
    let asked = SystemTime::now();
    let called = tokio::select! {
        called = call(&manager, request) => called,
        _ = tokio::signal::ctrl_c() => return Err(unasked()),
    };
    drop(agent);
    let id = match called {
        Ok(path) => job_id(path.as_str())
            .ok_or_else(|| Failure::refused("protocol", format!("venvd answered with {path}, which is no job")))?,
        Err(error) if is_away(&error) && !says(&error, &["ServiceUnknown"]) => watch.find(request, asked).await?,
        Err(error) => return Err(unreachable(error)),
    };
    watch.until_ended((id, request), show).await
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
    if says(&error, &["AccessDenied", "InteractiveAuthorizationRequired"]) {
        return Failure::refused(
            "denied",
            "only root may change what is in force, and whom polkit allows it; run it as root (`sudo venvctl …`), or on \
             a terminal, where an administrator's password can be typed",
        );
    }
    let text = match &error {
        zbus::Error::MethodError(name, text, _) => text.clone().unwrap_or_else(|| name.to_string()),
        zbus::Error::FDO(error) => error.to_string(),
        _ => {
            return Failure::refused(
                "no-venvd",
                format!("cannot ask venvd: {error}; `systemctl status venvd.service` says more"),
            );
        }
    };
    Failure::refused(
        "venvd",
        format!("venvd says: {text}; `systemctl status venvd.service` and `journalctl -u venvd` say more"),
    )
}

/// Ctrl-C ends only this program.
fn interrupted(id: u32, app: &str) -> Failure {
    Failure {
        code: "interrupted".to_owned(),
        message: format!(
            "job {id} goes on: `venvctl status {app}` shows what comes of it, `journalctl -f VENVD_JOB={id}` what is said"
        ),
        exit: INTERRUPTED,
    }
}

fn unasked() -> Failure {
    Failure {
        code: "interrupted".to_owned(),
        message: "interrupted before venvd answered; `venvctl status` shows whether something was begun".to_owned(),
        exit: INTERRUPTED,
    }
}

/// The job goes on in venvd; only its end was not seen. That is neither done nor refused.
fn lost(id: u32, why: &str) -> Failure {
    Failure {
        code: "lost".to_owned(),
        message: format!("lost sight of job {id}: {why}; `venvctl status` shows how it ended"),
        exit: 4,
    }
}
