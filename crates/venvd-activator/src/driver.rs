//! Performs what the state machine says, writing the journal before each effect.

use std::time::Duration;

use tokio::time::Instant;
use venvd_app::AppName;
use venvd_bus::{Code, Kind};
use venvd_fs::report;

use crate::aside::aside;
use crate::exposed;
use crate::host::Host;
use crate::machine::{Admit, Effect, Event, Failure, Phase, Side, step};
use crate::transaction::{Journal, Part, Transaction, now};
use crate::units::{LeftDown, Units, summary};

/// Drives transactions to their end.
#[derive(Debug, Clone)]
pub(crate) struct Driver<U> {
    pub(crate) host: Host,
    pub(crate) journal: Journal,
    pub(crate) units: U,
}

impl<U: Units> Driver<U> {
    /// Drives a transaction from `first` to its end; `told` sees each of its states, when it is in the journal.
    ///
    /// `objection` is why it can't work, where that is known beforehand: it fails its check.
    pub(crate) async fn drive(
        &self,
        transaction: &mut Transaction,
        (first, mut objection): (Event, Option<Failure>),
        mut told: impl FnMut(&Transaction),
    ) {
        let begun = Instant::now();
        if first == Event::Interrupted {
            self.units.end_commands(transaction.id).await;
        }
        let mut event = first;
        loop {
            let (state, effect) = step(&transaction.case, transaction.state.clone(), event, begun.elapsed());
            transaction.state = state;
            if effect.is_none() && transaction.state.outcome().is_some() {
                self.name_leftovers(transaction).await;
                transaction.ended = Some(now());
            }
            let written = self.journal.save(transaction);
            told(transaction);
            let Some(effect) = effect else {
                if let Err(error) = written {
                    tracing::error!(
                        "the end of activation {} is not written down: {}",
                        transaction.id,
                        report(&error)
                    );
                }
                if transaction.state.outcome().is_some() {
                    self.units.let_go(transaction.id).await;
                    if let Err(failure) = self.host.judge(transaction) {
                        tracing::warn!("how {} did is not remembered: {}", transaction.names(), failure.message);
                    }
                    return;
                }
                // The timer was early by less than it can tell.
                tokio::time::sleep(Duration::from_millis(1)).await;
                event = Event::Tick(Vec::new());
                continue;
            };
            event = match (written, objection.take()) {
                // Without a journal nothing is begun that would have to be undone.
                (Err(error), _) if matches!(transaction.state.phase, Phase::Forward(_)) => {
                    Event::Failed(Failure::new(Code::INTERNAL, report(&error)))
                }
                (_, Some(objection)) => Event::Failed(objection),
                (written, None) => {
                    if let Err(error) = written {
                        tracing::error!("going back without a journal: {}", report(&error));
                    }
                    self.perform_in_time(transaction, effect, begun).await
                }
            };
        }
    }

    async fn perform_in_time(&self, transaction: &mut Transaction, effect: Effect, begun: Instant) -> Event {
        let deadline = transaction.state.deadline();
        let performed = self.perform_through_absence(transaction, effect);
        let result = match deadline {
            None => performed.await,
            Some(deadline) => match tokio::time::timeout_at(begun + deadline, performed).await {
                Ok(result) => result,
                Err(_) => {
                    self.units.end_commands(transaction.id).await;
                    return Event::Tick(self.units.not_up(transaction).await);
                }
            },
        };
        result.unwrap_or_else(Event::Failed)
    }

    /// Performs an effect, and once more where it failed because systemd was away: each can be done twice, but hooks.
    async fn perform_through_absence(&self, transaction: &mut Transaction, effect: Effect) -> Result<Event, Failure> {
        let before = self.units.generation();
        match self.perform(transaction, effect).await {
            Err(_) if self.units.is_another_since(before).await && !matches!(effect, Effect::RunHook(..)) => {
                self.perform(transaction, effect).await
            }
            result => result,
        }
    }

    async fn perform(&self, transaction: &mut Transaction, effect: Effect) -> Result<Event, Failure> {
        let host = &self.host;
        match effect {
            Effect::Check => self.check(transaction).await?,
            Effect::SetActive(side) => each(&transaction.parts, |part| host.set_active(part, side))?,
            Effect::Capture => return self.capture(transaction).await,
            Effect::MarkPending => transaction
                .changing()
                .try_for_each(|part| host.mark_pending(transaction.id, &part.app))?,
            Effect::ClearPending => transaction
                .changing()
                .try_for_each(|part| host.clear_pending(&part.app))?,
            Effect::WritePolicies(admit) => {
                self.blocking(transaction, move |host, transaction| {
                    let written = each(&transaction.parts, |part| {
                        host.write_policies((transaction, part), admit)
                    });
                    if matches!(admit, Admit::InForce | Admit::Leaving) {
                        exposed::follow(host.layout());
                    }
                    written
                })
                .await?;
            }
            Effect::StopUnits => {
                self.capture_more(transaction).await?;
                self.units.stop(transaction).await?;
            }
            Effect::SetSwitch(side) => {
                let kind = transaction.case.kind;
                each(&transaction.parts, |part| host.set_switch((kind, part), side))?;
            }
            Effect::SetCommitted(side) => each(&transaction.parts, |part| host.set_committed(part, side))?,
            Effect::Reload => self.units.reload().await?,
            Effect::RestartUnits => self.units.restart(transaction).await?,
            Effect::StartUnits => {
                let side = match transaction.state.phase {
                    Phase::Back(_) if !transaction.state.stays(&transaction.case) => Side::Old,
                    _ => Side::New,
                };
                self.units.start(transaction, side).await?;
            }
            Effect::Settle(side) => transaction.units = self.units.settle(transaction, side).await?,
            Effect::RunHook(stage, number) => return self.run_hook(transaction, (stage, number)).await,
            Effect::CheckHealth => return self.check_health(transaction).await,
            Effect::SetPrevious => each(&transaction.parts, |part| host.set_previous(part))?,
        }
        Ok(Event::Done)
    }

    /// Names the processes that it leaves behind.
    async fn name_leftovers(&self, transaction: &mut Transaction) {
        let (host, now) = (self.host.clone(), transaction.clone());
        let found = aside(move || host.leftovers(&now)).await;
        // That nobody could look is no reason for it not to end.
        transaction.leftovers = found.unwrap_or_else(|failure| {
            tracing::warn!(
                "what {} leaves behind is not known: {}",
                transaction.names(),
                failure.message
            );
            Vec::new()
        });
    }

    /// Looks at all that can be known beforehand.
    pub(crate) async fn check(&self, transaction: &Transaction) -> Result<(), Failure> {
        self.blocking(transaction, |host, transaction| {
            transaction
                .parts
                .iter()
                .try_for_each(|part| host.check(transaction, part))
        })
        .await
    }

    /// Notes what runs of the apps whose units change, and what else goes down with it.
    pub(crate) async fn capture(&self, transaction: &mut Transaction) -> Result<Event, Failure> {
        for part in transaction.changing_mut() {
            let (app, _) = self.host.app_in_force(&part.app)?;
            let left = if part.again {
                self.left_down(&part.app)
            } else {
                LeftDown::default()
            };
            part.captured = self.units.capture(&app, &left).await?;
        }
        if transaction.case.kind != Kind::Disable {
            let venvs = transaction.changing().filter_map(|part| part.to.as_ref());
            let records = venvs.map(|venv| self.host.record(venv)).collect::<Result<_, _>>()?;
            let own_stop = self.units.foresee(transaction, records).await?;
            for part in transaction.changing_mut() {
                for unit in &mut part.captured {
                    unit.own_stop |= own_stop.contains(&unit.unit);
                }
            }
        }
        transaction.outside = self.units.outside(transaction).await?;
        Ok(Event::Captured(summary(transaction)))
    }

    /// Adds what somebody has started since, so that it is started again: hooks may have taken long.
    async fn capture_more(&self, transaction: &mut Transaction) -> Result<(), Failure> {
        if !matches!(transaction.state.phase, Phase::Forward(_)) {
            return Ok(());
        }
        for part in transaction.changing_mut() {
            let (app, _) = self.host.app_in_force(&part.app)?;
            for more in self.units.capture(&app, &LeftDown::default()).await? {
                if part.captured.iter().all(|known| known.unit != more.unit) {
                    part.captured.push(more);
                }
            }
        }
        Ok(())
    }

    /// Returns what the last activation of an app left down, if it failed.
    fn left_down(&self, app: &AppName) -> LeftDown {
        let failed = self.journal.last_failed(app).unwrap_or_else(|error| {
            tracing::warn!("{app}: what was left down is not known: {}", report(&error));
            None
        });
        failed.map_or_else(LeftDown::default, |failed| LeftDown {
            units: failed.captured().map(|captured| captured.unit.clone()).collect(),
            since: failed.ended.unwrap_or_default(),
        })
    }

    /// Does what takes long, or runs programs (python, visudo), beside the event loop.
    async fn blocking(
        &self,
        transaction: &Transaction,
        work: impl FnOnce(&Host, &Transaction) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let (host, transaction) = (self.host.clone(), transaction.clone());
        aside(move || work(&host, &transaction)).await?
    }
}

/// Does it for each of the apps, also behind one where it fails; returns the first failure.
fn each(parts: &[Part], does: impl Fn(&Part) -> Result<(), Failure>) -> Result<(), Failure> {
    let results: Vec<Result<(), Failure>> = parts.iter().map(does).collect();
    results.into_iter().collect()
}

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod revoked_tests;
#[cfg(test)]
mod tests;
