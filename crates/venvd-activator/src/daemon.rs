//! The daemon: connects everything, and waits.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use venvd_app::{Layout, Scope};
use venvd_bus::{BUS_NAME, Cause};
use venvd_fs::report;
use zbus::connection::Builder;

use crate::actor::Actor;
use crate::aside::aside;
use crate::desk::Desk;
use crate::driver::Driver;
use crate::host::Host;
use crate::leaving;
use crate::log;
use crate::policies;
use crate::service::{Announcer, Front, Objects};
use crate::shutdown::Shutdown;
use crate::systemd::{CALL_TIMEOUT, Systemd, UnderUnits};
use crate::transaction::{Journal, Transaction};
use crate::watch::Watch;
use crate::watchdog;

/// Flips that come this soon after one that was acted upon are taken together, when they have come to an end.
const QUIET: Duration = Duration::from_millis(200);
/// Whoever never comes to an end is followed this often all the same.
const RESTLESS: Duration = Duration::from_secs(10);

/// Runs until it is told to end (SIGTERM), or the bus goes away.
///
/// # Errors
/// When something that it can't do without is missing. It is then started anew, and goes on where it was.
pub(crate) async fn run(layout: &Layout) -> anyhow::Result<()> {
    let journal = Journal::new(layout);
    remove_targets(layout);
    // Watched before anything is looked at, so that no flip falls between the two.
    let flipped = watch(layout)?;
    let (desk, mut requests) = Desk::open(&journal)?;
    let desk = Arc::new(desk);
    let connection = bus(layout.scope())
        .method_timeout(CALL_TIMEOUT)
        .build()
        .await
        .context("cannot connect to the bus; does dbus.socket listen (for a user that needs dbus-user-session)?")?;
    let systemd = Systemd::new(&connection, layout)
        .await
        .context("systemd does not answer on the bus")?;
    let mut lost = systemd.lost();
    let (mut shutdown, inhibitor) = Shutdown::listen(&connection, layout.scope())
        .await
        .context("the bus does not say when the machine goes down")?;
    let driver = Driver {
        host: Host::new(layout),
        journal,
        units: systemd,
    };
    // Methods are served before the name is ours, else the call that started us would find nothing.
    let (front, news) = (Front::new(&desk, &driver.host, &connection), desk.follow());
    let objects = Objects::publish(&connection, &front, &driver).await?;
    tokio::spawn(objects.follow(news));
    connection
        .request_name_with_flags(BUS_NAME, zbus::fdo::RequestNameFlags::DO_NOT_QUEUE)
        .await
        .with_context(|| format!("cannot be {BUS_NAME} on the bus; does another venvd run?"))?;
    let actor = Actor {
        driver,
        announce: UnderUnits {
            connection: connection.clone(),
            scope: layout.scope(),
            then: Announcer(Arc::clone(&desk)),
        },
        desk,
    };
    // Until now it ends venvd at once, whatever that waits for.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    status(&[NotifyState::Ready, NotifyState::Status("looking at what is asked for")]);
    let leaving = Notify::new();
    let work = async {
        {
            let _lock = inhibitor.hold().await;
            actor.resume().await;
            late_policies(layout).await;
            actor.follow(Cause::Boot).await;
        }
        loop {
            status(&[NotifyState::Status("waiting for flips and requests")]);
            // What was done just now may have left rights that are to end.
            leaving.notify_one();
            tokio::select! {
                request = requests.recv() => match request {
                    Some((id, request)) => {
                        status(&[NotifyState::Status(&format!("working on {}", request.names()))]);
                        let _lock = inhibitor.hold().await;
                        actor.work(id, &request).await;
                    }
                    None => bail!("the bus interface is gone"),
                },
                () = flipped.notified() => {
                    let _lock = inhibitor.hold().await;
                    actor.follow(Cause::Link).await;
                }
            }
        }
    };
    tokio::select! {
        // First, so that nothing is concluded from units that stop because of it.
        biased;
        () = shutdown.begins() => {}
        _ = terminate.recv() => {
            let_go(&actor.driver.journal, |open| match open.state.goes_on() {
                true => "venvd is stopped; the next venvd goes on with it",
                false => "venvd is stopped; the next venvd takes it back",
            });
            return Ok(());
        }
        never = watchdog::feed() => match never {},
        result = work => return result,
        // What is open is in the journal, and the next venvd goes on with it.
        never = leaving::watch(layout, &leaving) => match never {},
        () = lost.wait() => bail!("the connection to the bus is lost"),
    }
    // Nothing is worked on any more, and whoever asks now is told so.
    drop(requests);
    status(&[NotifyState::Status("waiting for the end of the machine")]);
    let_go(
        &actor.driver.journal,
        |_| "the machine goes down; the next boot decides",
    );
    tokio::select! {
        never = watchdog::feed() => match never {},
        _ = terminate.recv() => Ok(()),
        () = shutdown.is_called_off() => bail!("the machine does not go down after all"),
        () = lost.wait() => bail!("the connection to the bus is lost"),
    }
}

/// Says what is left open, and why.
fn let_go(journal: &Journal, why: impl Fn(&Transaction) -> &'static str) {
    match journal.open() {
        Ok((open, _)) => open.iter().for_each(|open| log::let_go(open, why(open))),
        Err(error) => tracing::error!("what is left open is not known: {}", report(&error)),
    }
}

/// At boot, some venvs may not have been mounted yet; by now all are.
async fn late_policies(layout: &Layout) {
    let layout = layout.clone();
    match aside(move || policies::follow(&layout)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{error:#}"),
        Err(failure) => tracing::error!("{}", failure.message),
    }
}

/// Returns the bus on which the manager of these units is to be reached.
fn bus(scope: Scope) -> Builder<'static> {
    match scope {
        Scope::System => Builder::system(),
        Scope::User => Builder::session(),
    }
}

/// How long a watch that failed is left alone before it is set up anew.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Watches for flips. The first one is told at once, those close behind it when there are no more.
fn watch(layout: &Layout) -> anyhow::Result<Arc<Notify>> {
    let links = layout.active_links();
    let mut watch = Watch::new(&links)?;
    let flipped = Arc::new(Notify::new());
    let told = Arc::clone(&flipped);
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            loop {
                let followed = watch.changed().and_then(|()| {
                    told.notify_one();
                    watch.calm_down(QUIET, RESTLESS)
                });
                match followed {
                    Ok(false) => continue,
                    Ok(true) => {}
                    Err(error) => {
                        tracing::error!("flips can't be noticed: {error}; trying again");
                        std::thread::sleep(WATCH_AGAIN);
                        match Watch::new(&links) {
                            Ok(again) => watch = again,
                            Err(_) => continue,
                        }
                    }
                }
                // Also after a failure: what was flipped meanwhile is found by looking.
                told.notify_one();
            }
        })
        .context("cannot start the thread that watches for flips")?;
    Ok(flipped)
}

/// Removes the runtime targets that a venvd left which was killed in the middle.
fn remove_targets(layout: &Layout) {
    let directory = layout.runtime_units();
    // Where it can't be listed there is nothing of ours.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("venvd-txn-")
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!("cannot remove {:?}: {error}", entry.path());
        }
    }
}

fn status(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("cannot tell systemd how we are: {error}");
    }
}
