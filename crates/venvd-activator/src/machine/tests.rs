use super::course::{changes_nothing, reached};
use super::*;
use Effect::*;

mod hooks;
mod model;

const NOW: Duration = Duration::from_secs(100);

fn case(kind: Kind) -> Case {
    Case {
        kind,
        enabled: kind != Kind::Enable,
        admitted: true,
        from: true,
        to: kind != Kind::Disable,
        same: false,
        again: false,
        rollback: Rollback::Automatic,
        timeout: Duration::from_secs(10),
        old_rights: OldRights::UntilGone,
        restart: When::Now,
        commands: Commands::default(),
    }
}

/// Runs a transaction in a world where these effects fail; returns all effects and the end.
fn run(case: &Case, captured: Captured, broken: &[Effect]) -> (Vec<Effect>, State) {
    let (mut state, mut effect) = step(case, State::default(), Event::Begin, NOW);
    let mut seen = Vec::new();
    while let Some(now) = effect {
        assert!(seen.len() < 40, "it never ends: {seen:?}");
        seen.push(now);
        let event = if broken.contains(&now) {
            Event::Failed(Failure::new(Code::INTERNAL, format!("{now:?}")))
        } else if now == Capture {
            Event::Captured(captured)
        } else {
            Event::Done
        };
        (state, effect) = step(case, state, event, NOW);
    }
    assert!(state.outcome().is_some(), "{seen:?} ends in {state:?}");
    (seen, state)
}

fn outcome(case: &Case, captured: Captured, broken: &[Effect]) -> (Vec<Effect>, Outcome) {
    let (seen, state) = run(case, captured, broken);
    (seen, state.outcome().unwrap())
}

const FORWARD: [Effect; 13] = [
    Check,
    SetActive(Side::New),
    Capture,
    MarkPending,
    WritePolicies(Admit::Both),
    SetCommitted(Side::New),
    Reload,
    WritePolicies(Admit::Turned),
    RestartUnits,
    Settle(Side::New),
    SetPrevious,
    WritePolicies(Admit::Leaving),
    ClearPending,
];

#[test]
fn an_activation_of_running_units() {
    let (seen, end) = outcome(&case(Kind::Activate), Captured::Running, &[]);
    assert_eq!((&*seen, end), (&FORWARD[..], Outcome::Done));
}

#[test]
fn ways_forward() {
    let off = Case {
        enabled: false,
        ..case(Kind::Activate)
    };
    let first = Case {
        from: false,
        ..case(Kind::Activate)
    };
    let same = Case {
        same: true,
        ..case(Kind::Activate)
    };
    let nothing = Case {
        from: false,
        to: false,
        ..case(Kind::Enable)
    };
    let agreed = Case {
        same: true,
        ..case(Kind::Enable)
    };
    let empty = Case {
        from: false,
        ..case(Kind::Disable)
    };
    let already_off = Case {
        enabled: false,
        ..case(Kind::Disable)
    };
    let off_at_boot = |kind| Case {
        admitted: false,
        ..case(kind)
    };
    let ends = [WritePolicies(Admit::InForce), ClearPending];
    let leaving = WritePolicies(Admit::Leaving);
    let table: Vec<(&str, Case, Captured, Vec<Effect>)> = vec![
        (
            "off: only the links move",
            off,
            Captured::Nothing,
            vec![
                Check,
                SetActive(Side::New),
                SetCommitted(Side::New),
                SetPrevious,
                ends[0],
            ],
        ),
        (
            "off for this boot: only the links move",
            off_at_boot(Kind::Activate),
            Captured::Nothing,
            vec![
                Check,
                SetActive(Side::New),
                SetCommitted(Side::New),
                SetPrevious,
                ends[0],
            ],
        ),
        (
            "off for this boot, and now on: for the next one",
            off_at_boot(Kind::Enable),
            Captured::Nothing,
            vec![
                Check,
                SetActive(Side::New),
                SetSwitch(Side::New),
                SetCommitted(Side::New),
                SetPrevious,
                ends[0],
            ],
        ),
        (
            "off for this boot, and now for good",
            off_at_boot(Kind::Disable),
            Captured::Nothing,
            vec![Check, SetSwitch(Side::New), ends[0]],
        ),
        (
            "first: no previous",
            first,
            Captured::Running,
            vec![
                Check,
                SetActive(Side::New),
                Capture,
                MarkPending,
                WritePolicies(Admit::New),
                SetCommitted(Side::New),
                Reload,
                RestartUnits,
                Settle(Side::New),
                ends[0],
                ends[1],
            ],
        ),
        (
            "in force already",
            same,
            Captured::Running,
            vec![Check, SetActive(Side::New), ends[0]],
        ),
        (
            "nothing runs",
            case(Kind::Activate),
            Captured::Nothing,
            vec![
                Check,
                SetActive(Side::New),
                Capture,
                MarkPending,
                WritePolicies(Admit::Both),
                SetCommitted(Side::New),
                Reload,
                SetPrevious,
                leaving,
                ends[1],
            ],
        ),
        (
            "some have failed",
            case(Kind::Activate),
            Captured::Mixed,
            vec![
                Check,
                SetActive(Side::New),
                Capture,
                MarkPending,
                WritePolicies(Admit::Both),
                SetCommitted(Side::New),
                Reload,
                StopUnits,
                WritePolicies(Admit::Turned),
                StartUnits,
                Settle(Side::New),
                SetPrevious,
                leaving,
                ends[1],
            ],
        ),
        (
            "later: units run on as they do",
            Case {
                restart: When::Later,
                ..case(Kind::Activate)
            },
            Captured::Running,
            vec![
                Check,
                SetActive(Side::New),
                Capture,
                MarkPending,
                WritePolicies(Admit::Both),
                SetCommitted(Side::New),
                Reload,
                SetPrevious,
                leaving,
                ends[1],
            ],
        ),
        (
            "revoked: the old rights end before the new ones begin",
            Case {
                old_rights: OldRights::Revoked,
                ..case(Kind::Activate)
            },
            Captured::Running,
            vec![
                Check,
                SetActive(Side::New),
                Capture,
                MarkPending,
                StopUnits,
                WritePolicies(Admit::New),
                SetCommitted(Side::New),
                Reload,
                StartUnits,
                Settle(Side::New),
                SetPrevious,
                ends[0],
                ends[1],
            ],
        ),
        (
            "enable without a venv",
            nothing,
            Captured::Running,
            vec![Check, SetSwitch(Side::New), ends[0]],
        ),
        (
            "enable what is committed",
            agreed,
            Captured::Running,
            vec![
                Check,
                SetActive(Side::New),
                Capture,
                MarkPending,
                WritePolicies(Admit::New),
                SetSwitch(Side::New),
                Reload,
                RestartUnits,
                Settle(Side::New),
                ends[0],
                ends[1],
            ],
        ),
        (
            "disable",
            case(Kind::Disable),
            Captured::Running,
            vec![
                Check,
                Capture,
                MarkPending,
                StopUnits,
                WritePolicies(Admit::None),
                SetSwitch(Side::New),
                Reload,
                StartUnits,
                Settle(Side::New),
                ends[0],
                ends[1],
            ],
        ),
        (
            "disable what had no venv",
            empty,
            Captured::Running,
            vec![Check, SetSwitch(Side::New), ends[0]],
        ),
        (
            "disable what is off",
            already_off,
            Captured::Running,
            vec![Check, ends[0]],
        ),
    ];
    for (what, case, captured, expected) in table {
        assert_eq!(outcome(&case, captured, &[]), (expected, Outcome::Done), "{what}");
    }
}

#[test]
fn a_failed_check_changes_nothing_but_puts_the_link_back() {
    for kind in [Kind::Activate, Kind::Enable, Kind::Disable] {
        let (seen, state) = run(&case(kind), Captured::Running, &[Check]);
        let expected = match kind {
            Kind::Disable => vec![Check],
            _ => vec![Check, SetActive(Side::Old)],
        };
        assert_eq!((seen, state.outcome()), (expected, Some(Outcome::Refused)), "{kind}");
        assert_eq!(state.failures().0.unwrap().message, "Check");
    }
}

#[test]
fn ways_back_of_an_activation() {
    let quiet = [
        SetCommitted(Side::Old),
        SetActive(Side::Old),
        ClearPending,
        Reload,
        WritePolicies(Admit::InForce),
    ];
    let units = [&[StopUnits][..], &quiet, &[StartUnits, Settle(Side::Old)]].concat();
    let table: Vec<(Effect, Vec<Effect>, Outcome)> = vec![
        (MarkPending, vec![SetActive(Side::Old), ClearPending], Outcome::Refused),
        (
            WritePolicies(Admit::Both),
            vec![SetActive(Side::Old), WritePolicies(Admit::InForce), ClearPending],
            Outcome::RolledBack,
        ),
        (SetCommitted(Side::New), quiet.to_vec(), Outcome::RolledBack),
        // A unit that has crashed since the reload runs from the new venv.
        (WritePolicies(Admit::Turned), units.clone(), Outcome::RolledBack),
        (RestartUnits, units.clone(), Outcome::RolledBack),
        (Settle(Side::New), units, Outcome::RolledBack),
    ];
    for (broken, expected, end) in table {
        let (seen, found) = outcome(&case(Kind::Activate), Captured::Running, &[broken]);
        let at = seen.iter().position(|effect| *effect == broken).unwrap();
        assert_eq!((&seen[at + 1..], found), (&*expected, end), "{broken:?}");
    }
}

#[test]
fn disable_goes_back_as_the_others_do() {
    let (seen, end) = outcome(&case(Kind::Disable), Captured::Running, &[Settle(Side::New)]);
    let at = seen.iter().position(|effect| *effect == Settle(Side::New)).unwrap();
    assert_eq!(
        seen[at + 1..],
        [
            StopUnits,
            SetSwitch(Side::Old),
            WritePolicies(Admit::InForce),
            ClearPending,
            Reload,
            StartUnits,
            Settle(Side::Old),
        ]
    );
    assert_eq!(end, Outcome::RolledBack);
}

#[test]
fn a_way_back_that_fails_needs_somebody_and_still_goes_to_its_end() {
    let broken = [Settle(Side::New), SetCommitted(Side::Old), Settle(Side::Old)];
    let (seen, state) = run(&case(Kind::Activate), Captured::Running, &broken);
    assert_eq!(state.outcome(), Some(Outcome::Failed));
    assert!(seen.contains(&StartUnits), "{seen:?}");
    let (failure, stuck) = state.failures();
    assert_eq!(failure.unwrap().message, "Settle(New)");
    assert_eq!(stuck.unwrap().message, "SetCommitted(Old)", "the first one counts");
}

#[test]
fn units_that_do_not_stop_well_are_no_failure_if_the_old_ones_run() {
    let broken = [Settle(Side::New), StopUnits];
    assert_eq!(
        outcome(&case(Kind::Activate), Captured::Running, &broken).1,
        Outcome::RolledBack
    );
}

#[test]
fn what_is_revoked_does_not_start_again() {
    let case = Case {
        rollback: Rollback::Revoked,
        ..case(Kind::Activate)
    };
    let (seen, end) = outcome(&case, Captured::Running, &[Settle(Side::New)]);
    assert_eq!(end, Outcome::Failed);
    assert_eq!(seen[seen.len() - 2..], [WritePolicies(Admit::Leaving), ClearPending]);
    let hooks = Commands {
        while_stopped: 1,
        ..Commands::default()
    };
    let case = Case {
        commands: hooks,
        ..case
    };
    let hook = RunHook(HookStage::WhileStopped, 0);
    let (seen, _) = outcome(&case, Captured::Running, &[hook]);
    let back = &seen[seen.iter().position(|effect| *effect == hook).unwrap()..];
    let at = |wanted| back.iter().position(|effect| *effect == wanted);
    assert!(at(Reload).is_some() && at(Reload) < at(StartUnits), "{back:?}");
}

#[test]
fn without_rollback_it_stays() {
    let case = Case {
        rollback: Rollback::Never,
        ..case(Kind::Activate)
    };
    let (seen, end) = outcome(&case, Captured::Running, &[Settle(Side::New)]);
    assert_eq!(end, Outcome::Failed);
    assert_eq!(seen[seen.len() - 2..], [WritePolicies(Admit::Leaving), ClearPending]);
    assert!(!seen.contains(&SetCommitted(Side::Old)));
    let (seen, end) = outcome(&case, Captured::Running, &[Reload]);
    assert!(
        seen.contains(&SetCommitted(Side::Old)),
        "no unit was touched yet, so there is nothing to look at"
    );
    assert_eq!(end, Outcome::Failed, "the reload fails on the way back, too");
}

#[test]
fn what_is_healthy_is_not_taken_away_because_tidying_up_failed() {
    for broken in [SetPrevious, WritePolicies(Admit::Leaving), ClearPending] {
        let (seen, end) = outcome(&case(Kind::Activate), Captured::Running, &[broken]);
        assert_eq!((&*seen, end), (&FORWARD[..], Outcome::Failed), "{broken:?}");
    }
}

#[test]
fn interrupted_anywhere_it_ends_and_units_run() {
    for kind in [Kind::Activate, Kind::Enable, Kind::Disable] {
        for captured in [Captured::Nothing, Captured::Running, Captured::Mixed] {
            for event in [Event::Interrupted, Event::Booted] {
                for at in 0..forward(&case(kind), captured).len() {
                    interrupt(&case(kind), captured, &event, at);
                }
            }
        }
    }
}

/// Interrupts the effect number `at`, twice, and follows it to the end.
fn interrupt(case: &Case, captured: Captured, event: &Event, at: usize) {
    let (mut state, mut effect) = step(case, State::default(), Event::Begin, NOW);
    for _ in 0..at {
        let event = match effect {
            Some(Capture) => Event::Captured(captured),
            _ => Event::Done,
        };
        (state, effect) = step(case, state, event, NOW);
    }
    let interrupted = effect.unwrap();
    let mut seen = Vec::new();
    for event in [event.clone(), event.clone()] {
        // As it is read from the file.
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        (state, effect) = step(case, state, event, NOW);
    }
    while let Some(now) = effect {
        seen.push(now);
        (state, effect) = step(case, state, Event::Done, NOW);
    }
    let what = format!("{} {captured:?} {event:?} at {interrupted:?}: {seen:?}", case.kind);
    let end = state.outcome().unwrap();
    let reached = reached(case, interrupted, captured);
    if is_closing(interrupted) {
        assert_eq!(end, Outcome::Done, "{what}");
        return;
    }
    for (done, undone) in [
        (SetCommitted(Side::New), SetCommitted(Side::Old)),
        (SetSwitch(Side::New), SetSwitch(Side::Old)),
        (MarkPending, ClearPending),
    ] {
        assert!(!reached.contains(&done) || seen.contains(&undone), "{what}");
    }
    let touched =
        reached.iter().any(|effect| touches_units(*effect) || *effect == Reload) && captured != Captured::Nothing;
    let starts = seen.contains(&StartUnits) && seen.last() == Some(&Settle(Side::Old));
    assert_eq!(starts, touched && *event == Event::Interrupted, "{what}");
    let expected = if reached.iter().all(|effect| changes_nothing(*effect)) {
        Outcome::Refused
    } else {
        Outcome::RolledBack
    };
    assert_eq!(end, expected, "{what}");
}

#[test]
fn the_time_limit_covers_all_that_the_units_do_and_is_given_anew_for_the_way_back() {
    let case = case(Kind::Activate);
    let mut state = State {
        captured: Captured::Running,
        phase: Phase::Forward(WritePolicies(Admit::Turned)),
        ..State::default()
    };
    let at = |seconds: u64| Duration::from_secs(seconds);
    (state, _) = step(&case, state, Event::Done, at(5));
    assert_eq!(state.deadline(), Some(at(15)));
    (state, _) = step(&case, state, Event::Done, at(9));
    assert_eq!(
        (state.phase, state.deadline()),
        (Phase::Forward(Settle(Side::New)), Some(at(15)))
    );
    let (early, nothing) = step(&case, state.clone(), Event::Tick(Vec::new()), at(14));
    assert_eq!((&early, nothing), (&state, None));
    let (back, effect) = step(&case, state, Event::Tick(Vec::new()), at(15));
    assert_eq!((effect, back.deadline()), (Some(StopUnits), Some(at(25))));
    assert_eq!(back.failures().0.unwrap().code.as_str(), Code::TIMEOUT);
    assert_eq!(back.stage(), Stage::RollingBack);
}

#[test]
fn a_venv_is_condemned_only_for_what_its_units_did() {
    let condemned = |broken: Effect| {
        let (_, state) = run(&case(Kind::Activate), Captured::Running, &[broken]);
        state.condemns().is_some()
    };
    // What fails here fails as `Code::INTERNAL`: a fault of the host, not of the venv.
    assert!(!condemned(RestartUnits) && !condemned(SetCommitted(Side::New)));
    for (code, at, expected) in [
        (Code::JOB_FAILED, RestartUnits, true),
        (Code::NOT_SETTLED, Settle(Side::New), true),
        (Code::TIMEOUT, Settle(Side::New), true),
        (Code::INTERRUPTED, Settle(Side::New), false),
        (Code::POLICY, WritePolicies(Admit::Both), false),
    ] {
        let state = State {
            failure: Some(Failure::new(code, "")),
            failed_at: Some(at),
            ..State::default()
        };
        assert_eq!(state.condemns().is_some(), expected, "{code} at {at:?}");
    }
}
