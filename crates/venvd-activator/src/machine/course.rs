//! The lists of effects: the way forward of a transaction, and the ways back.

use venvd_app::definition::HookStage;
use venvd_bus::{Code, Kind};

use super::{Admit, Captured, Case, Effect, OldRights, Rollback, Side, State};

impl Case {
    /// Whether what units run changes.
    fn changes_units(&self) -> bool {
        let in_force_after = match self.kind {
            Kind::Activate => self.enabled && (!self.same || self.again),
            Kind::Enable => !self.enabled && self.to,
            Kind::Disable => self.enabled && self.from,
        };
        in_force_after && self.admitted
    }

    /// Whether one venv hands over to another, with processes of both for a while.
    fn overlaps(&self) -> bool {
        self.changes_units() && self.kind == Kind::Activate && self.from && self.old_rights == OldRights::UntilGone
    }

    /// Whether the rights of the venv before end with the units stopped.
    fn revokes(&self) -> bool {
        self.kind == Kind::Disable || self.kind == Kind::Activate && self.old_rights == OldRights::Revoked
    }

    /// Who is admitted at the end.
    fn admits_at_the_end(&self) -> Admit {
        if self.overlaps() {
            Admit::Leaving
        } else {
            Admit::InForce
        }
    }

    fn hooks(&self, stage: HookStage) -> impl Iterator<Item = Effect> {
        let count = match stage {
            // The distribution's code is none of the venv's business.
            _ if self.kind == Kind::Disable => 0,
            HookStage::BeforeStop => self.commands.before_stop,
            HookStage::WhileStopped => self.commands.while_stopped,
            HookStage::AfterStart => self.commands.after_start,
        };
        (0..count).map(move |number| Effect::RunHook(stage, number))
    }
}

/// The way forward.
pub(super) fn forward(case: &Case, captured: Captured) -> Vec<Effect> {
    let mut effects = vec![Effect::Check];
    let changes_units = case.changes_units();
    let asks = case.kind != Kind::Disable && case.to;
    let runs = captured != Captured::Nothing;
    // Stopped before the link moves; else around the restart.
    let stops_early = captured == Captured::StopFirst
        || runs && (case.revokes() || case.hooks(HookStage::WhileStopped).next().is_some());
    effects.extend(asks.then_some(Effect::SetActive(Side::New)));
    if changes_units {
        effects.extend([Effect::Capture, Effect::MarkPending]);
        let policy = Effect::WritePolicies(match case.kind {
            Kind::Disable => Admit::None,
            _ if case.overlaps() => Admit::Both,
            _ => Admit::New,
        });
        let stop = stops_early.then_some(Effect::StopUnits);
        let before_stop = case.hooks(HookStage::BeforeStop);
        if case.revokes() {
            effects.extend(before_stop.chain(stop).chain([policy]));
        } else {
            effects.extend([policy].into_iter().chain(before_stop).chain(stop));
        }
        effects.extend(case.hooks(HookStage::WhileStopped));
    }
    effects.extend(match (case.kind, case.enabled) {
        (Kind::Enable, false) | (Kind::Disable, true) => Some(Effect::SetSwitch(Side::New)),
        _ => None,
    });
    effects.extend((asks && !case.same).then_some(Effect::SetCommitted(Side::New)));
    if changes_units {
        effects.push(Effect::Reload);
        let turned = case.overlaps().then_some(Effect::WritePolicies(Admit::Turned));
        match captured {
            Captured::Nothing => {}
            _ if stops_early => effects.extend(turned.into_iter().chain([Effect::StartUnits])),
            Captured::Running => effects.extend(turned.into_iter().chain([Effect::RestartUnits])),
            Captured::Mixed | Captured::StopFirst => {
                effects.push(Effect::StopUnits);
                effects.extend(turned.into_iter().chain([Effect::StartUnits]));
            }
        }
        effects.extend(runs.then_some(Effect::Settle(Side::New)));
        effects.extend(case.hooks(HookStage::AfterStart));
        // What nobody runs can't be asked how it is.
        let health = runs && case.commands.health && case.kind != Kind::Disable;
        effects.extend(health.then_some(Effect::CheckHealth));
    }
    effects.extend((asks && case.from && !case.same).then_some(Effect::SetPrevious));
    effects.push(Effect::WritePolicies(case.admits_at_the_end()));
    effects.extend(changes_units.then_some(Effect::ClearPending));
    effects
}

impl State {
    /// The way back, from a failure in the middle of an effect.
    pub(super) fn way_back(&self, case: &Case) -> Vec<Effect> {
        let reached = self.reached(case);
        let has = |wanted: Effect| reached.contains(&wanted);
        if self.stays(case) {
            // What was stopped to be started, and not tried yet as far as is known, must not stay down.
            let was_tried = has(Effect::StartUnits) && !self.is_interrupted_in(Effect::StartUnits);
            let start = has(Effect::StopUnits) && !was_tried;
            let end = [Effect::WritePolicies(case.admits_at_the_end()), Effect::ClearPending];
            return end.into_iter().chain(start.then_some(Effect::StartUnits)).collect();
        }
        // From the reload on, a unit that crashes starts in the new venv.
        let touched = |effect: &Effect| touches_units(*effect) || *effect == Effect::Reload;
        let restart = self.captured != Captured::Nothing && reached.iter().any(touched);
        let moved = has(Effect::SetCommitted(Side::New)) || has(Effect::SetSwitch(Side::New));
        let policies = reached.iter().any(|effect| matches!(effect, Effect::WritePolicies(_)));
        // A unit that crashes meanwhile starts in what systemd has read last, so what is a venv has its rights until the
        // reload: the one that goes, and that which comes back of `disable`.
        let early = case.kind == Kind::Disable || !moved;
        let wanted = [
            // By what systemd knows of them: it is what started them.
            (restart, Effect::StopUnits),
            (has(Effect::SetCommitted(Side::New)), Effect::SetCommitted(Side::Old)),
            (has(Effect::SetSwitch(Side::New)), Effect::SetSwitch(Side::Old)),
            (case.kind != Kind::Disable, Effect::SetActive(Side::Old)),
            (policies && early, Effect::WritePolicies(Admit::InForce)),
            (has(Effect::MarkPending), Effect::ClearPending),
            // What was in force and is revoked must not be started by what systemd read before that.
            (
                (moved || case.rollback == Rollback::Revoked) && has(Effect::MarkPending),
                Effect::Reload,
            ),
            (policies && !early, Effect::WritePolicies(Admit::InForce)),
            (restart, Effect::StartUnits),
            (restart, Effect::Settle(Side::Old)),
        ];
        wanted
            .into_iter()
            .filter_map(|(wanted, effect)| wanted.then_some(effect))
            .collect()
    }

    fn is_interrupted_in(&self, effect: Effect) -> bool {
        let failure = self.failure.as_ref();
        self.failed_at == Some(effect) && failure.is_some_and(|failure| failure.code.as_str() == Code::INTERRUPTED)
    }

    /// Whether what was asked for stays, as far as it got.
    pub(crate) fn stays(&self, case: &Case) -> bool {
        let has_begun = self.failed_at.is_some_and(judges_the_venv);
        // Systemd is told only what is committed whole; before that, all that has run of the new venv are hooks.
        let is_committed = self.reached(case).contains(&Effect::Reload);
        case.rollback != Rollback::Automatic && has_begun || self.one_way && is_committed
    }

    /// Whether all is as it was.
    pub(super) fn has_changed_nothing(&self, case: &Case) -> bool {
        self.reached(case).into_iter().all(changes_nothing)
    }

    fn reached(&self, case: &Case) -> Vec<Effect> {
        reached(case, self.failed_at.unwrap_or(Effect::Check), self.captured)
    }
}

/// The effects up to and with the one that failed: it may have been done in part.
pub(super) fn reached(case: &Case, failed_at: Effect, captured: Captured) -> Vec<Effect> {
    let effects = forward(case, captured);
    // After a boot nothing is captured any more, and the list is without what concerns units: then all may be reached.
    let end = effects
        .iter()
        .position(|effect| *effect == failed_at)
        .map_or(effects.len(), |at| at + 1);
    effects[..end].to_vec()
}

pub(super) fn next(effects: &[Effect], after: Option<Effect>) -> Option<Effect> {
    match after {
        None => effects.first().copied(),
        Some(after) => {
            let at = effects.iter().position(|effect| *effect == after)?;
            effects.get(at + 1).copied()
        }
    }
}

pub(super) fn touches_units(effect: Effect) -> bool {
    use Effect::{RestartUnits, Settle, StartUnits, StopUnits};
    matches!(effect, StopUnits | RestartUnits | StartUnits | Settle(_))
}

/// Whether what fails here is how the venv does, and not how the host does on the way to it.
pub(super) fn judges_the_venv(effect: Effect) -> bool {
    match effect {
        Effect::StopUnits => false,
        Effect::RunHook(stage, _) => stage == HookStage::AfterStart,
        Effect::CheckHealth => true,
        other => touches_units(other),
    }
}

pub(super) fn changes_nothing(effect: Effect) -> bool {
    matches!(
        effect,
        Effect::Check | Effect::SetActive(_) | Effect::Capture | Effect::MarkPending
    )
}

/// The last steps, when the units are already healthy.
pub(super) fn is_closing(effect: Effect) -> bool {
    use Effect::{ClearPending, SetPrevious, WritePolicies};
    matches!(
        effect,
        SetPrevious | WritePolicies(Admit::InForce | Admit::Leaving) | ClearPending
    )
}
