//! Does one transaction after the other: what clients asked for, what flips ask for, what was left open.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use venvd_app::links::{self, Link, VenvPath};
use venvd_app::{AppName, Layout};
use venvd_bus::{Cause, Code, JobReport};
use venvd_fs::lock::Lock;
use venvd_fs::{IoContext, report};

use crate::desk::Desk;
use crate::driver::Driver;
use crate::log;
use crate::machine::{Event, Failure};
use crate::request::{Ask, Options, Request};
use crate::transaction::Transaction;
use crate::units::Units;

/// How long another process may hold an app's lock: venvctl holds it for a flip, not for a build.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Tells the world that a job has ended.
pub(crate) trait Announce {
    /// Tells it.
    async fn announce(&self, report: &JobReport);
}

/// Works on one transaction at a time.
#[derive(Debug)]
pub(crate) struct Actor<U, A> {
    pub(crate) driver: Driver<U>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) announce: A,
}

impl<U: Units, A: Announce> Actor<U, A> {
    /// Does what was asked for, under the number it was given.
    pub(crate) async fn work(&self, id: u32, request: &Request) {
        let is_open = || request.wants.iter().any(|want| self.is_open(&want.app));
        if is_open() {
            // Something kept an earlier one from its end, and there must not be two.
            self.resume().await;
        }
        let apps = request.wants.iter().map(|want| &want.app);
        let lock = match self.lock(apps).await {
            Ok(_) if is_open() => Err(Failure::new(
                Code::LOCKED,
                format!(
                    "an earlier activation of {} is not over and can't be taken up; `journalctl -u venvd` tells why",
                    request.names()
                ),
            )),
            lock => lock,
        };
        let transaction = self.begin((id, request), lock).await;
        self.do_not_strand(&transaction).await;
    }

    /// Does it under these locks, to its end; without them it is refused.
    async fn begin(&self, (id, request): (u32, &Request), locks: Result<Vec<Lock>, Failure>) -> Transaction {
        let (mut transaction, mut objection) = request.prepare(&self.driver.host, id);
        if let Err(failure) = &locks {
            objection.get_or_insert(failure.clone());
        }
        self.drive(&mut transaction, (Event::Begin, objection)).await;
        transaction
    }

    /// Does once more what units need that nothing else can run now.
    async fn do_not_strand(&self, failed: &Transaction) {
        if !failed.state.is_stranded(&failed.case) {
            return;
        }
        let request = Request::again(failed);
        let id = self.desk.number(&request);
        tracing::warn!(
            "what ran before {} can't be started any more, and nothing is known against that: it is tried once more (job {id})",
            failed.names()
        );
        let locks = self.lock(failed.parts.iter().map(|part| &part.app)).await;
        self.begin((id, &request), locks).await;
    }

    /// Returns whether the activation that an app's marker names is not over, as far as can be read.
    fn is_open(&self, app: &AppName) -> bool {
        let Ok(text) = fs::read_to_string(self.driver.host.layout().pending(app)) else {
            return false;
        };
        let id = text.trim().parse();
        id.is_ok_and(|id| match self.driver.journal.load(id) {
            Ok(found) => found.is_some_and(|found| found.ended.is_none()),
            Err(_) => true,
        })
    }

    /// Goes on with what an earlier venvd left open.
    pub(crate) async fn resume(&self) {
        let open = match self.driver.journal.open() {
            Ok((open, broken)) => {
                for error in broken {
                    tracing::error!("{}", report(&error));
                }
                open
            }
            Err(error) => return tracing::error!("open activations are not known: {}", report(&error)),
        };
        for mut transaction in open {
            log::resumed(&transaction);
            let lock = self.lock(transaction.parts.iter().map(|part| &part.app)).await;
            match lock {
                Ok(locks) => {
                    self.drive(&mut transaction, (Event::Interrupted, None)).await;
                    drop(locks);
                    self.do_not_strand(&transaction).await;
                }
                Err(failure) => tracing::error!("activation {} stays open: {}", transaction.id, failure.message),
            }
        }
    }

    /// Follows the active links: one activation for each that says something else than is in force.
    pub(crate) async fn follow(&self, cause: Cause) {
        let flips = match flips(self.driver.host.layout()) {
            Ok(flips) => flips,
            Err(error) => return tracing::error!("flips can't be followed: {}", report(&error)),
        };
        for (app, target) in flips {
            let request = Request::one(app, Ask::Follow(target), Options::of(cause));
            let id = self.desk.number(&request);
            self.work(id, &request).await;
        }
    }

    async fn drive(&self, transaction: &mut Transaction, first: (Event, Option<Failure>)) {
        if first.0 == Event::Begin {
            log::begun(&transaction.report());
        }
        self.driver
            .drive(transaction, first, |transaction| self.desk.tell(transaction.report()))
            .await;
        let report = transaction.report();
        log::result(&report);
        self.announce.announce(&report).await;
        if let Err(error) = self.driver.journal.prune() {
            tracing::warn!("old activations stay: {}", venvd_fs::report(&error));
        }
    }

    /// Takes the locks of apps, in the order of their names: whoever else wants several waits and does not block.
    async fn lock(&self, apps: impl Iterator<Item = &AppName>) -> Result<Vec<Lock>, Failure> {
        let mut apps: Vec<&AppName> = apps.collect();
        apps.sort();
        let mut locks = Vec::new();
        for app in apps {
            locks.push(self.lock_one(app).await?);
        }
        Ok(locks)
    }

    async fn lock_one(&self, app: &AppName) -> Result<Lock, Failure> {
        let path = self.driver.host.layout().app_lock(app);
        let begun = Instant::now();
        loop {
            if let Some(lock) = Lock::try_exclusive(&path)? {
                return Ok(lock);
            }
            if begun.elapsed() > LOCK_PATIENCE {
                return Err(Failure::new(
                    Code::LOCKED,
                    format!("another process works on {app} (it holds {path:?}; `fuser -v {path:?}` shows it)"),
                ));
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    }
}

/// Returns the apps whose active link says something else than is in force, and what it says.
fn flips(layout: &Layout) -> Result<Vec<(AppName, PathBuf)>, venvd_fs::Error> {
    let directory = layout.active_links();
    let mut flips = Vec::new();
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let name = entry.at("list", &directory)?.file_name();
        // Hidden names are links in the making.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let Ok(app) = name.parse::<AppName>() else {
            // Not worth a warning: `ln -sf` makes its link as `CuXXXXXX` before it renames it.
            tracing::debug!("{:?} is ignored: that is no app's name", directory.join(name));
            continue;
        };
        match fs::read_link(directory.join(name)) {
            Ok(target) if !is_in_force(layout, &app, &target) => flips.push((app, target)),
            Ok(_) => {}
            // Gone again: somebody is replacing it, and there will be an event.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{:?} is ignored: {error}", directory.join(name)),
        }
    }
    flips.sort();
    Ok(flips)
}

fn is_in_force(layout: &Layout, app: &AppName, target: &std::path::Path) -> bool {
    let asked = VenvPath::parse(layout, target);
    // A committed link that says nothing has nothing in force.
    asked.is_some() && asked == links::read(layout, Link::Committed, app).ok().flatten()
}

#[cfg(test)]
mod tests;
