//! What is said of a transaction that failed by itself: none of its effects did.

use venvd_bus::{Code, UnitReport};

use super::{Case, Effect, Failure};

/// What is said of a venv that a machine booted with because a one-way hook had run.
pub(super) fn not_judged() -> Failure {
    Failure::new(
        Code::INTERRUPTED,
        "the machine went down in the middle, and nobody watched whether the units run well since",
    )
}

pub(super) fn interrupted() -> Failure {
    Failure::new(
        Code::INTERRUPTED,
        "venvd or the machine went down in the middle; ask again when the reason is known (`journalctl -u venvd`)",
    )
}

pub(super) fn too_late(case: &Case, effect: Effect, units: Vec<UnitReport>) -> Failure {
    let each: Vec<String> = units
        .iter()
        .map(|report| format!(" ({}: {})", report.unit, report.result))
        .collect();
    let what = match effect {
        Effect::RunHook(..) => "a hook did not end",
        Effect::CheckHealth => "the health commands did not end",
        _ => "the units were not healthy",
    };
    let message = format!(
        "{what} within {:?}{}; the limit is `timeout` under [health] of the definition",
        case.timeout,
        each.concat()
    );
    Failure {
        units,
        ..Failure::new(Code::TIMEOUT, message)
    }
}
