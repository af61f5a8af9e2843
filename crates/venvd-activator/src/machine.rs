//! The state machine of an activation. It knows no D-Bus, no files and no clock: [`step`] says what comes next.
//!
//! A transaction is a list of effects, one after the other, which follows from the [`Case`]; and when one fails, the
//! list of those that undo what was reached. Each effect can be repeated, so a crash between two of them, or in the
//! middle of one, is no special case: the journal says which one was begun.
//!
//! What the lists keep to: nothing is changed before all checks are passed; the marker of an open activation is there
//! before the committed link moves; the policy admits a venv before it runs; `previous` moves only at the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use venvd_bus::{Code, Kind, Outcome, Stage, UnitReport};

/// What a transaction is about, as far as its course depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// What was asked for.
    pub kind: Kind,
    /// Whether the app is enabled.
    pub enabled: bool,
    /// Whether the kernel command line leaves it so for this boot. Where it does not, units and policies are the
    /// distribution's until the next boot, and only links and switch move.
    #[serde(default = "admitted")]
    pub admitted: bool,
    /// Whether a venv was in force.
    pub from: bool,
    /// Whether one is asked for.
    pub to: bool,
    /// Whether the two are the same.
    pub same: bool,
    /// What happens when the units are not healthy.
    pub rollback: Rollback,
    /// How long the units may take until they are healthy.
    pub timeout: Duration,
    /// What becomes of the rights of the venv before.
    #[serde(default)]
    pub old_rights: OldRights,
    /// When units change to the other venv.
    #[serde(default)]
    pub restart: When,
}

/// What the journals of older versions mean.
fn admitted() -> bool {
    true
}

/// What happens when the units are not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rollback {
    /// What ran before comes back.
    Automatic,
    /// All stays as it is, for somebody to look at.
    Never,
}

/// What becomes of the rights of the venv that was in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldRights {
    /// They last until no process of a unit runs it any more: no service meets a moment without its rights.
    #[default]
    UntilGone,
    /// They end before the new ones begin, with the units stopped: `--revoke`.
    Revoked,
}

/// When units change to the venv that is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// In the transaction.
    #[default]
    Now,
    /// When somebody restarts them: `--at-next-restart`.
    Later,
}

/// One of the two sides of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What was before.
    Old,
    /// What was asked for.
    New,
}

/// Which venvs sudoers and rootwrap admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admit {
    /// The old one, which runs, and behind it the new one.
    Both,
    /// The new one, which is about to start, and behind it the old one.
    Turned,
    /// The new one alone.
    New,
    /// None, as for an app that is off.
    None,
    /// What is in force, if the app is on; behind it what earlier activations still left to its processes.
    InForce,
    /// The same, and the old one as long as it has processes.
    Leaving,
}

/// One thing to do. Each can be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Looks at definition, venv and policies; changes nothing.
    Check,
    /// Points the active link at that side.
    SetActive(Side),
    /// Notes which units run or were meant to; the answer is [`Event::Captured`].
    Capture,
    /// Marks an open activation, so that at boot the app's units wait for the recovery.
    MarkPending,
    /// Takes that mark away.
    ClearPending,
    /// Writes sudoers and rootwrap.conf.
    WritePolicies(Admit),
    /// Stops the app's units through its target.
    StopUnits,
    /// Turns the app on or off, or back to what it was.
    SetSwitch(Side),
    /// Points the committed link at that side.
    SetCommitted(Side),
    /// Lets systemd read its units anew.
    Reload,
    /// Restarts those of the app's units that run, in one transaction.
    RestartUnits,
    /// Starts the captured units, in one transaction.
    StartUnits,
    /// Waits until the captured units were up, unchanged, for the settle window, running that side.
    Settle(Side),
    /// Lets `previous` name what was in force.
    SetPrevious,
}

/// What the captured units are, as far as the course depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Captured {
    /// No unit runs or was meant to.
    Nothing,
    /// All of them run: a restart of the target reaches them.
    Running,
    /// Some have failed or wait for their start: a restart would pass over those.
    Mixed,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The case, for programs.
    pub code: Code,
    /// The same for an operator.
    pub message: String,
    /// The units concerned.
    pub units: Vec<UnitReport>,
}

impl Failure {
    /// Returns a failure that concerns no single unit.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: Code::new(code),
            message: message.into(),
            units: Vec::new(),
        }
    }
}

/// Where a transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which way, and at which effect.
    pub phase: Phase,
    captured: Captured,
    /// Why it is not a success, and after which effect it turned back.
    failure: Option<Failure>,
    failed_at: Option<Effect>,
    /// What went wrong on the way back.
    stuck: Option<Failure>,
    /// When the effect that runs must have ended. Meaningless after a restart, so it isn't kept.
    #[serde(skip)]
    deadline: Option<Duration>,
}

/// Which way a transaction goes, and the effect that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not begun.
    Queued,
    /// Towards what was asked for.
    Forward(Effect),
    /// Towards what was before.
    Back(Effect),
    /// Over.
    Ended(Outcome),
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Queued,
            captured: Captured::Nothing,
            failure: None,
            failed_at: None,
            stuck: None,
            deadline: None,
        }
    }
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The transaction may begin.
    Begin,
    /// The effect is done.
    Done,
    /// [`Effect::Capture`] is done, and this is what there is.
    Captured(Captured),
    /// The effect failed.
    Failed(Failure),
    /// Time went by.
    Tick,
    /// venvd was away while the effect was going on.
    Interrupted,
    /// The machine was away: nothing of the app runs, and its units wait for us.
    Booted,
}

/// Says what follows from an event at `now` (since any fixed moment): the new state, and the effect to begin.
///
/// No effect means that the one before still runs, or, in [`Phase::Ended`], that it is over.
#[must_use]
pub fn step(case: &Case, state: State, event: Event, now: Duration) -> (State, Option<Effect>) {
    match (state.phase, event) {
        (Phase::Queued, Event::Begin) => state.forward(case, None, now),
        // Not begun, so there is nothing to undo; the flip that asked for it is found again by the reconciliation.
        (Phase::Queued, Event::Interrupted | Event::Booted) => {
            let failure = interrupted();
            state.turn_back(case, (Effect::Check, failure), now)
        }
        (Phase::Forward(effect), Event::Done) => state.forward(case, Some(effect), now),
        (Phase::Forward(effect), Event::Captured(captured)) => {
            State { captured, ..state }.forward(case, Some(effect), now)
        }
        (Phase::Forward(effect), Event::Failed(failure)) => state.fail_forward(case, (effect, failure), now),
        (Phase::Forward(effect), Event::Tick) if state.is_late(now) => {
            let failure = too_late(case);
            state.fail_forward(case, (effect, failure), now)
        }
        (Phase::Forward(effect), Event::Interrupted | Event::Booted) if is_closing(effect) => (state, Some(effect)),
        (Phase::Forward(effect), Event::Interrupted) => state.turn_back(case, (effect, interrupted()), now),
        (Phase::Forward(effect), Event::Booted) => State {
            captured: Captured::Nothing,
            ..state
        }
        .turn_back(case, (effect, interrupted()), now),
        (Phase::Back(effect), Event::Done | Event::Captured(_)) => state.back(case, Some(effect), now),
        (Phase::Back(effect), Event::Failed(failure)) => state.fail_back(case, (effect, failure), now),
        (Phase::Back(effect), Event::Tick) if state.is_late(now) => {
            let failure = too_late(case);
            state.fail_back(case, (effect, failure), now)
        }
        (Phase::Back(_), Event::Interrupted) => state.back(case, None, now),
        (Phase::Back(_), Event::Booted) => State {
            captured: Captured::Nothing,
            ..state
        }
        .back(case, None, now),
        // Early ticks, and what comes after the end.
        _ => (state, None),
    }
}

impl State {
    /// Returns when the effect that runs must have ended, so that a [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Returns how it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Returns the first thing that went wrong, and what went wrong on the way back.
    #[must_use]
    pub fn failures(&self) -> (Option<&Failure>, Option<&Failure>) {
        (self.failure.as_ref(), self.stuck.as_ref())
    }

    /// Returns why the venv that was asked for is not to be tried again unasked: its units did not run well. A fault on
    /// the way there, or an interruption, says nothing about the venv.
    #[must_use]
    pub fn condemns(&self) -> Option<&Failure> {
        let at_units = self
            .failed_at
            .is_some_and(|at| touches_units(at) && at != Effect::StopUnits);
        let is_fault = |failure: &&Failure| ![Code::INTERRUPTED, Code::INTERNAL].contains(&failure.code.as_str());
        self.failure.as_ref().filter(|_| at_units).filter(is_fault)
    }

    /// Returns the stage to show.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.phase {
            Phase::Queued => Stage::Queued,
            Phase::Back(_) => Stage::RollingBack,
            Phase::Ended(_) => Stage::Ended,
            Phase::Forward(effect) => match effect {
                Effect::Check | Effect::SetActive(_) => Stage::Preflight,
                Effect::Capture | Effect::MarkPending => Stage::Pending,
                Effect::WritePolicies(Admit::InForce | Admit::Leaving) | Effect::SetPrevious | Effect::ClearPending => {
                    Stage::Finishing
                }
                Effect::WritePolicies(Admit::Turned) | Effect::RestartUnits | Effect::StartUnits => Stage::Restarting,
                Effect::WritePolicies(_) => Stage::Policy,
                Effect::StopUnits => Stage::Stopping,
                Effect::SetSwitch(_) | Effect::SetCommitted(_) => Stage::Committing,
                Effect::Reload => Stage::Reloading,
                Effect::Settle(_) => Stage::Settling,
            },
        }
    }

    fn is_late(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn forward(self, case: &Case, after: Option<Effect>, now: Duration) -> (Self, Option<Effect>) {
        match next(&forward(case, self.captured), after) {
            Some(effect) => {
                // One time limit for all that the units do on the way.
                let deadline = match effect {
                    Effect::StopUnits | Effect::RestartUnits | Effect::StartUnits | Effect::Settle(_) => {
                        self.deadline.or(Some(now + case.timeout))
                    }
                    _ => None,
                };
                let phase = Phase::Forward(effect);
                (
                    Self {
                        phase,
                        deadline,
                        ..self
                    },
                    Some(effect),
                )
            }
            None => {
                let outcome = match self.failure {
                    Some(_) => Outcome::Failed,
                    None => Outcome::Done,
                };
                (self.end(outcome), None)
            }
        }
    }

    fn fail_forward(self, case: &Case, (at, failure): (Effect, Failure), now: Duration) -> (Self, Option<Effect>) {
        if is_closing(at) {
            // It is in force and healthy; that a file could not be tidied up is no reason to take it away.
            let failure = self.failure.clone().or(Some(failure));
            return Self { failure, ..self }.forward(case, Some(at), now);
        }
        self.turn_back(case, (at, failure), now)
    }

    fn turn_back(self, case: &Case, (at, failure): (Effect, Failure), now: Duration) -> (Self, Option<Effect>) {
        let (failure, failed_at) = (Some(failure), Some(at));
        Self {
            failure,
            failed_at,
            deadline: None,
            ..self
        }
        .back(case, None, now)
    }

    fn back(self, case: &Case, after: Option<Effect>, now: Duration) -> (Self, Option<Effect>) {
        let failed_at = self.failed_at.unwrap_or(Effect::Check);
        match next(&back(case, failed_at, self.captured), after) {
            Some(effect) => {
                // Each step of the way back has the whole time: what ran before must get its chance.
                let deadline = touches_units(effect).then_some(now + case.timeout);
                let phase = Phase::Back(effect);
                (
                    Self {
                        phase,
                        deadline,
                        ..self
                    },
                    Some(effect),
                )
            }
            None => {
                let reached = reached(case, failed_at, self.captured);
                let outcome = if self.stuck.is_some() || stays(case, failed_at) {
                    Outcome::Failed
                } else if reached.iter().all(|effect| changes_nothing(*effect)) {
                    Outcome::Refused
                } else {
                    Outcome::RolledBack
                };
                (self.end(outcome), None)
            }
        }
    }

    fn fail_back(self, case: &Case, (at, failure): (Effect, Failure), now: Duration) -> (Self, Option<Effect>) {
        // Whether the units stopped in good order doesn't matter as long as the old ones then run.
        let stuck = match at {
            Effect::StopUnits => self.stuck.clone(),
            _ => self.stuck.clone().or(Some(failure)),
        };
        Self { stuck, ..self }.back(case, Some(at), now)
    }

    fn end(self, outcome: Outcome) -> Self {
        Self {
            phase: Phase::Ended(outcome),
            deadline: None,
            ..self
        }
    }
}

/// The way forward.
fn forward(case: &Case, captured: Captured) -> Vec<Effect> {
    let captured = concerned(case, captured);
    let mut effects = vec![Effect::Check];
    let in_force_after = match case.kind {
        Kind::Activate => case.enabled && !case.same,
        Kind::Enable => !case.enabled && case.to,
        Kind::Disable => case.enabled && case.from,
    };
    let in_force_after = in_force_after && case.admitted;
    let asks = case.kind != Kind::Disable && case.to;
    // One venv hands over to another, with processes of both for a while.
    let overlaps =
        in_force_after && case.kind == Kind::Activate && case.from && case.old_rights == OldRights::UntilGone;
    // Stopped before the policy changes; else around the restart.
    let stops_early = captured != Captured::Nothing
        && (case.kind == Kind::Disable || case.kind == Kind::Activate && case.old_rights == OldRights::Revoked);
    effects.extend(asks.then_some(Effect::SetActive(Side::New)));
    if in_force_after {
        effects.extend([Effect::Capture, Effect::MarkPending]);
        effects.extend(stops_early.then_some(Effect::StopUnits));
        effects.push(Effect::WritePolicies(match case.kind {
            Kind::Disable => Admit::None,
            _ if overlaps => Admit::Both,
            _ => Admit::New,
        }));
    }
    effects.extend(match (case.kind, case.enabled) {
        (Kind::Enable, false) | (Kind::Disable, true) => Some(Effect::SetSwitch(Side::New)),
        _ => None,
    });
    effects.extend((asks && !case.same).then_some(Effect::SetCommitted(Side::New)));
    if in_force_after {
        effects.push(Effect::Reload);
        let turned = overlaps.then_some(Effect::WritePolicies(Admit::Turned));
        match captured {
            Captured::Nothing => {}
            _ if stops_early => effects.push(Effect::StartUnits),
            Captured::Running => effects.extend(turned.into_iter().chain([Effect::RestartUnits])),
            Captured::Mixed => {
                effects.push(Effect::StopUnits);
                effects.extend(turned.into_iter().chain([Effect::StartUnits]));
            }
        }
        effects.extend((captured != Captured::Nothing).then_some(Effect::Settle(Side::New)));
    }
    effects.extend((asks && case.from && !case.same).then_some(Effect::SetPrevious));
    effects.push(Effect::WritePolicies(if overlaps {
        Admit::Leaving
    } else {
        Admit::InForce
    }));
    effects.extend(in_force_after.then_some(Effect::ClearPending));
    effects
}

/// What of the captured units the transaction touches: all, or none.
fn concerned(case: &Case, captured: Captured) -> Captured {
    match case.restart {
        When::Now => captured,
        When::Later => Captured::Nothing,
    }
}

/// The way back, from a failure in the middle of `failed_at`.
fn back(case: &Case, failed_at: Effect, captured: Captured) -> Vec<Effect> {
    let reached = reached(case, failed_at, captured);
    let has = |wanted: Effect| reached.contains(&wanted);
    if stays(case, failed_at) {
        return vec![Effect::WritePolicies(Admit::InForce), Effect::ClearPending];
    }
    let restart = concerned(case, captured) != Captured::Nothing && reached.iter().any(|effect| touches_units(*effect));
    let moved = has(Effect::SetCommitted(Side::New)) || has(Effect::SetSwitch(Side::New));
    // What `disable` has reloaded knows no target, so there the old units must be back before it can stop anything.
    let stop_first = case.kind != Kind::Disable;
    let wanted = [
        (restart && stop_first, Effect::StopUnits),
        (has(Effect::SetCommitted(Side::New)), Effect::SetCommitted(Side::Old)),
        (has(Effect::SetSwitch(Side::New)), Effect::SetSwitch(Side::Old)),
        (case.kind != Kind::Disable, Effect::SetActive(Side::Old)),
        (
            reached.iter().any(|effect| matches!(effect, Effect::WritePolicies(_))),
            Effect::WritePolicies(Admit::InForce),
        ),
        (has(Effect::MarkPending), Effect::ClearPending),
        (moved && has(Effect::MarkPending), Effect::Reload),
        (restart && !stop_first, Effect::StopUnits),
        (restart, Effect::StartUnits),
        (restart, Effect::Settle(Side::Old)),
    ];
    wanted
        .into_iter()
        .filter_map(|(wanted, effect)| wanted.then_some(effect))
        .collect()
}

/// The effects up to and with the one that failed: it may have been done in part.
fn reached(case: &Case, failed_at: Effect, captured: Captured) -> Vec<Effect> {
    let effects = forward(case, captured);
    // After a boot nothing is captured any more, and the list is without what concerns units: then all may be reached.
    let end = effects
        .iter()
        .position(|effect| *effect == failed_at)
        .map_or(effects.len(), |at| at + 1);
    effects[..end].to_vec()
}

fn next(effects: &[Effect], after: Option<Effect>) -> Option<Effect> {
    match after {
        None => effects.first().copied(),
        Some(after) => {
            let at = effects.iter().position(|effect| *effect == after)?;
            effects.get(at + 1).copied()
        }
    }
}

fn touches_units(effect: Effect) -> bool {
    use Effect::{RestartUnits, Settle, StartUnits, StopUnits};
    matches!(effect, StopUnits | RestartUnits | StartUnits | Settle(_))
}

fn changes_nothing(effect: Effect) -> bool {
    matches!(
        effect,
        Effect::Check | Effect::SetActive(_) | Effect::Capture | Effect::MarkPending
    )
}

/// The last steps, when the units are already healthy.
fn is_closing(effect: Effect) -> bool {
    use Effect::{ClearPending, SetPrevious, WritePolicies};
    matches!(
        effect,
        SetPrevious | WritePolicies(Admit::InForce | Admit::Leaving) | ClearPending
    )
}

fn stays(case: &Case, failed_at: Effect) -> bool {
    case.rollback == Rollback::Never && touches_units(failed_at) && failed_at != Effect::StopUnits
}

fn interrupted() -> Failure {
    Failure::new(
        Code::INTERRUPTED,
        "venvd or the machine went down in the middle; ask again when the reason is known (`journalctl -u venvd`)",
    )
}

fn too_late(case: &Case) -> Failure {
    Failure::new(
        Code::TIMEOUT,
        format!(
            "the units were not healthy within {:?}; the limit is `timeout` under [health] of the definition",
            case.timeout
        ),
    )
}

#[cfg(test)]
mod tests;
