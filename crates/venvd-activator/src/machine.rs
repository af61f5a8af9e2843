//! The state machine of an activation. It knows no D-Bus, no files and no clock: [`step`] says what comes next.
//!
//! A transaction is a list of effects, one after the other, which follows from the [`Case`]; and when one fails, the
//! list of those that undo what was reached. Each effect can be repeated, so a crash between two of them, or in the
//! middle of one, is no special case: the journal says which one was begun.
//!
//! What the lists keep to: nothing is changed before all checks are passed; the marker of an open activation is there
//! before the committed link moves; the policy admits a venv before it runs; `previous` moves only at the end. And once
//! a one-way hook has done its work, nothing goes back from a venv that is committed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use venvd_app::definition::HookStage;
use venvd_bus::{Code, Kind, Outcome, Stage, UnitReport};

mod course;
mod failures;

use course::{forward, is_closing, next, touches_units};
use failures::{interrupted, not_judged, too_late};

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
    /// Whether units start anew although they are.
    #[serde(default)]
    pub again: bool,
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
    /// Which commands the definition has.
    #[serde(default)]
    pub commands: Commands,
}

/// Which commands of the definition are to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// How many hooks, while the old venv still serves.
    pub before_stop: usize,
    /// How many, while the units are stopped.
    pub while_stopped: usize,
    /// How many, when the units have settled.
    pub after_start: usize,
    /// Whether there are health commands.
    pub health: bool,
}

impl std::ops::AddAssign for Commands {
    fn add_assign(&mut self, other: Self) {
        self.before_stop += other.before_stop;
        self.while_stopped += other.while_stopped;
        self.after_start += other.after_start;
        self.health |= other.health;
    }
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
    /// The same, since what was in force is revoked: it must not start again.
    Revoked,
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
    /// Runs one hook of a stage, by its number.
    RunHook(HookStage, usize),
    /// Runs the health commands.
    CheckHealth,
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
    /// What stops one of them is a program of the venv: it must be that of the venv it runs from, so all stop before
    /// systemd reads what is to come.
    StopFirst,
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
    /// Whether a one-way hook has done its work.
    #[serde(default)]
    one_way: bool,
    /// Whether it went on after venvd was away.
    #[serde(default)]
    resumed: bool,
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
            one_way: false,
            resumed: false,
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
    /// The effect was a one-way hook, and it has done its work.
    DoneForGood,
    /// [`Effect::Capture`] is done, and this is what there is.
    Captured(Captured),
    /// The effect failed.
    Failed(Failure),
    /// Time went by; and how those units are that are not up.
    Tick(Vec<UnitReport>),
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
        // Not begun, so there is nothing to undo.
        (Phase::Queued, Event::Interrupted | Event::Booted) => {
            let failure = interrupted();
            state.turn_back(case, (Effect::Check, failure), now)
        }
        (Phase::Forward(effect), Event::Done) => state.forward(case, Some(effect), now),
        (Phase::Forward(effect), Event::Captured(captured)) => {
            let captured = match case.restart {
                When::Now => captured,
                // They run, but that is no concern of this transaction.
                When::Later => Captured::Nothing,
            };
            State { captured, ..state }.forward(case, Some(effect), now)
        }
        (Phase::Forward(effect), Event::DoneForGood) => {
            State { one_way: true, ..state }.forward(case, Some(effect), now)
        }
        (Phase::Forward(effect), Event::Failed(failure)) => state.fail_forward(case, (effect, failure), now),
        (Phase::Forward(effect), Event::Tick(units)) if state.is_late(now) => {
            let failure = too_late(case, effect, units);
            state.fail_forward(case, (effect, failure), now)
        }
        (Phase::Forward(effect), Event::Interrupted | Event::Booted) if is_closing(effect) => (state, Some(effect)),
        // Once: what ended venvd, a new version of it or a bus that was restarted, may have nothing to do with this. But
        // whether a hook has done its work is not known.
        (Phase::Forward(effect), Event::Interrupted) if state.goes_on() => {
            State { resumed: true, ..state }.begin(case, (effect, None), now)
        }
        (Phase::Forward(effect), Event::Booted) if state.one_way => state.go_on_after_boot(case, effect, now),
        (Phase::Forward(effect), Event::Interrupted) => state.turn_back(case, (effect, interrupted()), now),
        (Phase::Forward(effect), Event::Booted) => State {
            captured: Captured::Nothing,
            ..state
        }
        .turn_back(case, (effect, interrupted()), now),
        (Phase::Back(effect), Event::Done | Event::Captured(_) | Event::DoneForGood) => {
            state.back(case, Some(effect), now)
        }
        (Phase::Back(effect), Event::Failed(failure)) => state.fail_back(case, (effect, failure), now),
        (Phase::Back(effect), Event::Tick(units)) if state.is_late(now) => {
            let failure = too_late(case, effect, units);
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

    /// Returns why the venv that was asked for is not to be tried again unasked: it did not run well. A fault on the way
    /// there, or an interruption, says nothing about the venv.
    #[must_use]
    pub fn condemns(&self) -> Option<&Failure> {
        let at_units = self.failed_at.is_some_and(course::judges_the_venv);
        let is_fault = |failure: &&Failure| ![Code::INTERRUPTED, Code::INTERNAL].contains(&failure.code.as_str());
        self.failure.as_ref().filter(|_| at_units).filter(is_fault)
    }

    /// Returns whether units are down that what was asked for may well be able to run: nothing is known against it, no hook
    /// of its own has failed, and what ran before can't be started any more.
    #[must_use]
    pub fn is_stranded(&self, case: &Case) -> bool {
        let is_fault = |failure: &Failure| [Code::INTERRUPTED, Code::INTERNAL].contains(&failure.code.as_str());
        let by_hook =
            matches!(self.failed_at, Some(Effect::RunHook(..))) && !self.failure.as_ref().is_some_and(is_fault);
        self.outcome() == Some(Outcome::Failed)
            && case.kind == Kind::Activate
            && !self.one_way
            && !self.stays(case)
            && self.condemns().is_none()
            && !by_hook
            && self.stuck.as_ref().is_some_and(|stuck| !is_fault(stuck))
    }

    /// Returns whether all that failed are the last steps, when what was asked for is in force and healthy.
    #[must_use]
    pub fn is_done_but_for_the_rest(&self) -> bool {
        self.failure.is_some() && self.failed_at.is_none() && self.stuck.is_none()
    }

    /// Returns whether a one-way hook has done its work, so that the way leads on and not back.
    #[must_use]
    pub fn is_one_way(&self) -> bool {
        self.one_way
    }

    /// Returns whether it goes on when the next venvd finds it open, and not back.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        match self.phase {
            Phase::Forward(effect) => {
                is_closing(effect) || self.one_way || !self.resumed && !matches!(effect, Effect::RunHook(..))
            }
            _ => false,
        }
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
                Effect::RunHook(..) => Stage::Hooks,
                Effect::CheckHealth => Stage::Health,
            },
        }
    }

    fn is_late(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn forward(self, case: &Case, after: Option<Effect>, now: Duration) -> (Self, Option<Effect>) {
        match next(&forward(case, self.captured), after) {
            Some(effect) => self.begin(case, (effect, after), now),
            None => {
                let outcome = match self.failure {
                    Some(_) => Outcome::Failed,
                    None => Outcome::Done,
                };
                (self.end(outcome), None)
            }
        }
    }

    /// Begins an effect on the way forward.
    fn begin(self, case: &Case, (effect, after): (Effect, Option<Effect>), now: Duration) -> (Self, Option<Effect>) {
        let deadline = match effect {
            // One time limit for all that the units do on the way.
            _ if touches_units(effect) => match after {
                Some(after) if touches_units(after) => self.deadline,
                _ => Some(now + case.timeout),
            },
            // Each of these has all of it: a migration that takes long must not shorten what the units get.
            Effect::RunHook(..) | Effect::CheckHealth => Some(now + case.timeout + ENDING),
            _ => None,
        };
        let phase = Phase::Forward(effect);
        let state = Self {
            phase,
            deadline,
            ..self
        };
        (state, Some(effect))
    }

    /// Goes on from the effect that was begun when the machine went down, without what concerned the units: they start
    /// when we are done.
    fn go_on_after_boot(self, case: &Case, begun: Effect, now: Duration) -> (Self, Option<Effect>) {
        let before = forward(case, self.captured);
        let left = forward(case, Captured::Nothing);
        let begun = before.iter().position(|effect| *effect == begun).unwrap_or_default();
        let effect = before[begun..].iter().find(|effect| left.contains(effect));
        let failure = self.failure.clone().or(Some(not_judged()));
        let state = Self {
            captured: Captured::Nothing,
            failure,
            ..self
        };
        match effect {
            Some(effect) => state.begin(case, (*effect, None), now),
            None => (state.end(Outcome::Failed), None),
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
        match next(&self.way_back(case), after) {
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
                let outcome = if self.stuck.is_some() || self.one_way || self.stays(case) {
                    Outcome::Failed
                } else if self.has_changed_nothing(case) {
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

/// How much longer a command may take that has reached its own limit: systemd ends it, and we are told.
pub(crate) const ENDING: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
