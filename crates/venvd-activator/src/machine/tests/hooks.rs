//! Hooks and health commands: when they run, and what follows when one fails, or is of the kind that leads one way.

use super::*;
use HookStage::{AfterStart, BeforeStop, WhileStopped};

const COMMANDS: Commands = Commands {
    before_stop: 2,
    while_stopped: 1,
    after_start: 1,
    health: true,
};

fn with(kind: Kind, commands: Commands) -> Case {
    Case { commands, ..case(kind) }
}

/// An activation of running units, with hooks of every stage.
const FORWARD: [Effect; 19] = [
    Check,
    SetActive(Side::New),
    Capture,
    MarkPending,
    WritePolicies(Admit::Both),
    RunHook(BeforeStop, 0),
    RunHook(BeforeStop, 1),
    StopUnits,
    RunHook(WhileStopped, 0),
    SetCommitted(Side::New),
    Reload,
    WritePolicies(Admit::Turned),
    StartUnits,
    Settle(Side::New),
    RunHook(AfterStart, 0),
    CheckHealth,
    SetPrevious,
    WritePolicies(Admit::Leaving),
    ClearPending,
];

#[test]
fn each_stage_has_its_place() {
    let seen = |case: Case, captured| outcome(&case, captured, &[]);
    let (all, end) = seen(with(Kind::Activate, COMMANDS), Captured::Running);
    assert_eq!((&*all, end), (&FORWARD[..], Outcome::Done));
    let (mixed, _) = seen(with(Kind::Activate, COMMANDS), Captured::Mixed);
    assert_eq!(mixed, FORWARD, "they are stopped once");

    let around = Commands {
        while_stopped: 0,
        ..COMMANDS
    };
    let (restarted, _) = seen(with(Kind::Activate, around), Captured::Running);
    let expected: Vec<_> = FORWARD
        .into_iter()
        .filter(|effect| !matches!(effect, StopUnits | RunHook(WhileStopped, _)))
        .map(|effect| if effect == StartUnits { RestartUnits } else { effect })
        .collect();
    assert_eq!(
        restarted, expected,
        "one restart where nothing must be stopped for a hook"
    );

    let (nothing, _) = seen(with(Kind::Activate, COMMANDS), Captured::Nothing);
    let expected: Vec<_> = FORWARD
        .into_iter()
        .filter(|effect| !touches_units(*effect) && ![CheckHealth, WritePolicies(Admit::Turned)].contains(effect))
        .collect();
    assert_eq!(nothing, expected, "nobody can be asked how it is");

    let (enabled, _) = seen(with(Kind::Enable, COMMANDS), Captured::Running);
    assert_eq!(
        enabled[4..12],
        [
            WritePolicies(Admit::New),
            RunHook(BeforeStop, 0),
            RunHook(BeforeStop, 1),
            StopUnits,
            RunHook(WhileStopped, 0),
            SetSwitch(Side::New),
            SetCommitted(Side::New),
            Reload,
        ]
    );
    let revoked = Case {
        old_rights: OldRights::Revoked,
        ..with(Kind::Activate, COMMANDS)
    };
    let (revoked, _) = seen(revoked, Captured::Running);
    assert_eq!(
        revoked[4..9],
        [
            RunHook(BeforeStop, 0),
            RunHook(BeforeStop, 1),
            StopUnits,
            WritePolicies(Admit::New),
            RunHook(WhileStopped, 0),
        ]
    );
}

#[test]
fn where_no_unit_changes_no_hook_runs() {
    for case in [
        with(Kind::Disable, COMMANDS),
        Case {
            same: true,
            ..with(Kind::Activate, COMMANDS)
        },
        Case {
            enabled: false,
            ..with(Kind::Activate, COMMANDS)
        },
        Case {
            admitted: false,
            ..with(Kind::Enable, COMMANDS)
        },
    ] {
        let (seen, end) = outcome(&case, Captured::Running, &[]);
        assert_eq!(end, Outcome::Done);
        let command = seen.iter().find(|effect| matches!(effect, RunHook(..) | CheckHealth));
        assert_eq!(command, None, "{case:?}");
    }
}

#[test]
fn a_command_that_fails_leads_back_from_where_it_is() {
    let policies = WritePolicies(Admit::InForce);
    let quiet = [SetActive(Side::Old), policies, ClearPending];
    let started = [StartUnits, Settle(Side::Old)];
    let links = [StopUnits, SetCommitted(Side::Old), SetActive(Side::Old)];
    let whole = [&links[..], &[ClearPending, Reload, policies], &started].concat();
    for (broken, expected) in [
        (RunHook(BeforeStop, 0), quiet.to_vec()),
        (RunHook(BeforeStop, 1), quiet.to_vec()),
        (RunHook(WhileStopped, 0), [&[StopUnits][..], &quiet, &started].concat()),
        (RunHook(AfterStart, 0), whole.clone()),
        (CheckHealth, whole),
    ] {
        let (seen, end) = outcome(&with(Kind::Activate, COMMANDS), Captured::Running, &[broken]);
        let at = seen.iter().position(|effect| *effect == broken).unwrap();
        assert_eq!((&seen[at + 1..], end), (&*expected, Outcome::RolledBack), "{broken:?}");
    }
}

#[test]
fn without_rollback_what_has_begun_stays() {
    let case = Case {
        rollback: Rollback::Never,
        ..with(Kind::Activate, COMMANDS)
    };
    for (broken, end) in [
        (RunHook(BeforeStop, 1), Outcome::RolledBack),
        (RunHook(WhileStopped, 0), Outcome::RolledBack),
        (RunHook(AfterStart, 0), Outcome::Failed),
        (CheckHealth, Outcome::Failed),
    ] {
        let (seen, found) = outcome(&case, Captured::Running, &[broken]);
        assert_eq!(found, end, "{broken:?}");
        let stays = seen.contains(&SetCommitted(Side::New)) && !seen.contains(&SetCommitted(Side::Old));
        assert_eq!(stays, end == Outcome::Failed, "{seen:?}");
    }
}

/// Runs an activation with hooks, the `one_way` of which leads one way, until the effect number `at` begins.
fn begun(one_way: Effect, at: usize) -> (State, Effect) {
    let case = with(Kind::Activate, COMMANDS);
    let (mut state, mut effect) = step(&case, State::default(), Event::Begin, NOW);
    for _ in 0..at {
        let event = match effect.unwrap() {
            Capture => Event::Captured(Captured::Running),
            effect if effect == one_way => Event::DoneForGood,
            _ => Event::Done,
        };
        (state, effect) = step(&case, state, event, NOW);
    }
    (state, effect.unwrap())
}

/// Follows a transaction to its end.
fn follow(mut state: State, first: Event) -> (Vec<Effect>, State) {
    let case = with(Kind::Activate, COMMANDS);
    let (mut seen, mut event) = (Vec::new(), first);
    loop {
        let (next, effect) = step(&case, state, event, NOW);
        state = next;
        let Some(effect) = effect else {
            return (seen, state);
        };
        assert!(seen.len() < 40, "it never ends: {seen:?}");
        seen.push(effect);
        event = Event::Done;
    }
}

const ONE_WAY: [Effect; 4] = [
    RunHook(BeforeStop, 0),
    RunHook(BeforeStop, 1),
    RunHook(WhileStopped, 0),
    RunHook(AfterStart, 0),
];

/// Calls with every one-way hook and every effect before the closing ones, and whether the hook is behind it.
fn everywhere(mut look: impl FnMut(Effect, usize, bool)) {
    for one_way in ONE_WAY {
        let hook = FORWARD.iter().position(|effect| *effect == one_way).unwrap();
        for at in 0..FORWARD.iter().position(|effect| *effect == SetPrevious).unwrap() {
            look(one_way, at, at > hook);
        }
    }
}

#[test]
fn behind_a_one_way_hook_no_failure_leads_back_from_a_venv_that_is_committed() {
    let committed = FORWARD
        .iter()
        .position(|effect| *effect == SetCommitted(Side::New))
        .unwrap();
    everywhere(|one_way, at, behind| {
        let (state, effect) = begun(one_way, at);
        assert_eq!(state.is_one_way(), behind);
        let failure = Failure::new(Code::INTERNAL, "x");
        let (seen, state) = follow(state, Event::Failed(failure));
        let what = format!("{one_way:?}, then {effect:?} fails: {seen:?}");
        let end = state.outcome().unwrap();
        let expected = match effect {
            _ if behind => Outcome::Failed,
            effect if changes_nothing(effect) => Outcome::Refused,
            _ => Outcome::RolledBack,
        };
        assert_eq!(end, expected, "{what}");
        let stays = behind && at > committed;
        let back = seen.contains(&SetActive(Side::Old));
        assert_eq!(back, !stays, "{what}");
        assert_eq!(
            seen.contains(&SetCommitted(Side::Old)),
            at >= committed && !stays,
            "{what}"
        );
        // What was stopped is started, unless that is what failed.
        let stopped = (7..12).contains(&at) || !stays && at >= 12;
        assert_eq!(seen.contains(&StartUnits), stopped, "{what}");
        assert!(at < 3 || seen.contains(&ClearPending), "{what}");
    });
}

#[test]
fn cut_off_it_goes_on_but_in_a_hook() {
    everywhere(|one_way, at, behind| {
        let (state, effect) = begun(one_way, at);
        let written = serde_json::to_string(&state).unwrap();
        let (seen, state) = follow(serde_json::from_str(&written).unwrap(), Event::Interrupted);
        let what = format!("{one_way:?}, cut off in {effect:?}: {seen:?}");
        if behind || !matches!(effect, RunHook(..)) {
            assert_eq!((seen[0], state.outcome()), (FORWARD[at], Some(Outcome::Done)), "{what}");
            // Before the capture there is nothing to know of units.
            assert!(at <= 2 || seen == FORWARD[at..], "{what}");
        } else {
            let back = [Outcome::Refused, Outcome::RolledBack].map(Some);
            assert!(back.contains(&state.outcome()), "{what}");
        }
    });
}

#[test]
fn after_a_boot_behind_a_one_way_hook_it_goes_on_without_the_units() {
    everywhere(|one_way, at, behind| {
        if !behind {
            return;
        }
        let (state, effect) = begun(one_way, at);
        let (seen, state) = follow(state, Event::Booted);
        let what = format!("{one_way:?}, a boot in {effect:?}: {seen:?}");
        let expected: Vec<_> = FORWARD[at..]
            .iter()
            .filter(|effect| !touches_units(**effect) && ![CheckHealth, WritePolicies(Admit::Turned)].contains(effect))
            .copied()
            .collect();
        assert_eq!(seen, expected, "{what}");
        assert_eq!(state.outcome(), Some(Outcome::Failed), "nobody saw it healthy: {what}");
        assert_eq!(state.failures().0.unwrap().code.as_str(), Code::INTERRUPTED);
    });
}

#[test]
fn each_command_has_the_whole_time_limit_and_so_have_the_units() {
    let case = with(Kind::Activate, COMMANDS);
    let at = |seconds: u64| Duration::from_secs(seconds);
    let mut state = State {
        captured: Captured::Running,
        phase: Phase::Forward(WritePolicies(Admit::Both)),
        ..State::default()
    };
    let mut now = at(100);
    for (effect, limit) in [
        (RunHook(BeforeStop, 0), Some(at(10) + ENDING)),
        (RunHook(BeforeStop, 1), Some(at(10) + ENDING)),
        (StopUnits, Some(at(10))),
        (RunHook(WhileStopped, 0), Some(at(10) + ENDING)),
        (SetCommitted(Side::New), None),
        (Reload, None),
        (WritePolicies(Admit::Turned), None),
        (StartUnits, Some(at(10))),
        (Settle(Side::New), Some(at(9))),
        (RunHook(AfterStart, 0), Some(at(10) + ENDING)),
        (CheckHealth, Some(at(10) + ENDING)),
        (SetPrevious, None),
    ] {
        (state, _) = step(&case, state, Event::Done, now);
        assert_eq!(state.phase, Phase::Forward(effect));
        assert_eq!(state.deadline(), limit.map(|limit| now + limit), "{effect:?}");
        now += at(1);
    }
}

#[test]
fn a_journal_of_an_older_version_has_no_commands() {
    let mut old = serde_json::to_value(case(Kind::Activate)).unwrap();
    old.as_object_mut().unwrap().remove("commands");
    assert_eq!(serde_json::from_value::<Case>(old).unwrap(), case(Kind::Activate));
    let mut old = serde_json::to_value(State::default()).unwrap();
    old.as_object_mut().unwrap().remove("one_way");
    assert_eq!(serde_json::from_value::<State>(old).unwrap(), State::default());
}
