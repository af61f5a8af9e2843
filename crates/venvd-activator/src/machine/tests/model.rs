//! The state machine in a small world, in all orders of what may happen to it there.
//!
//! From each state it is tried what follows when the effect works, fails before or behind its work, comes too late, when
//! venvd is killed or the machine goes down before or behind it, and when somebody else reloads systemd or a unit crashes
//! meanwhile: up to two such adversities in one transaction. What must hold is asked after each step, and at each end.

use std::collections::HashSet;

use HookStage::{AfterStart, BeforeStop, WhileStopped};

use super::*;

/// How many adversities meet one transaction.
const ADVERSITIES: usize = 2;

/// How well a venv, or what the distribution made, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    DoesNotStart,
    DoesNotSettle,
    Unwell,
}

/// What does not change.
#[derive(Debug)]
struct Setting {
    case: Case,
    old: Health,
    new: Health,
    /// The stage whose hooks are one-way.
    one_way: Option<HookStage>,
    /// Whether only a program of the venv that a unit runs from can stop it.
    own_stop: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Runs(Side),
    /// Was up, and is not.
    Down,
    /// Had failed before all this; it is wanted.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    active: Side,
    committed: Side,
    switch: Side,
    /// What units get that start now: what was in force when systemd read its units last.
    loaded: Side,
    previous_moved: bool,
    /// Whether it was looked at what is asked for: that it is there, and whole.
    checked: bool,
    pending: bool,
    /// Whether the old and the new venv have rights.
    admitted: [bool; 2],
    units: Vec<Unit>,
    /// Whether all units have settled in the new venv, and none was touched since.
    settled: bool,
    /// Whether a one-way hook has done its work.
    one_way: bool,
    /// Whether an effect on the way back was kept from its work, so that nobody can promise anything.
    hindered: bool,
    /// Whether what runs one venv was stopped by a program of the other.
    stopped_by_stranger: bool,
    /// Whether the machine went down, so that units start when all is over.
    booted: bool,
}

/// What happens to an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// It fails, before or behind its work.
    Fails(bool),
    Late(bool),
    Killed(bool),
    PowerCut(bool),
    /// Somebody else has systemd read its units; then it works.
    Reload,
    /// A unit crashes, and systemd starts it again; then it works.
    Crash,
}

const FATES: [Fate; 11] = [
    Fate::Works,
    Fate::Fails(false),
    Fate::Fails(true),
    Fate::Late(false),
    Fate::Late(true),
    Fate::Killed(false),
    Fate::Killed(true),
    Fate::PowerCut(false),
    Fate::PowerCut(true),
    Fate::Reload,
    Fate::Crash,
];

fn is_up(unit: Unit) -> bool {
    matches!(unit, Unit::Runs(_))
}

impl Setting {
    fn health(&self, side: Side) -> Health {
        match side {
            Side::Old => self.old,
            Side::New => self.new,
        }
    }

    fn starts(&self, side: Side) -> bool {
        self.health(side) != Health::DoesNotStart
    }

    /// Whether what runs on that side needs rights, which what the distribution made does not.
    fn is_venv(&self, side: Side) -> bool {
        match (self.case.kind, side) {
            (Kind::Activate, Side::Old) => self.case.from,
            (Kind::Enable, Side::Old) | (Kind::Disable, Side::New) => false,
            _ => true,
        }
    }

    fn world(&self, units: usize, down: usize) -> World {
        let up = std::iter::repeat_n(Unit::Runs(Side::Old), units);
        World {
            active: Side::Old,
            committed: Side::Old,
            switch: Side::Old,
            loaded: Side::Old,
            previous_moved: false,
            checked: false,
            pending: false,
            admitted: [self.is_venv(Side::Old), false],
            units: up.chain(std::iter::repeat_n(Unit::Failed, down)).collect(),
            settled: false,
            one_way: false,
            hindered: false,
            stopped_by_stranger: false,
            booted: false,
        }
    }
}

impl World {
    /// What units would follow if systemd read them now.
    fn in_force(&self, setting: &Setting) -> Side {
        let case = &setting.case;
        match case.kind {
            Kind::Activate => self.committed,
            Kind::Enable if !case.same && self.committed == Side::Old => Side::Old,
            Kind::Enable | Kind::Disable => self.switch,
        }
    }

    fn captured(&self) -> Captured {
        if self.units.is_empty() {
            Captured::Nothing
        } else if self.units.contains(&Unit::Failed) {
            Captured::Mixed
        } else {
            Captured::Running
        }
    }

    fn go_down(&mut self) {
        self.units
            .iter_mut()
            .filter(|unit| is_up(**unit))
            .for_each(|unit| *unit = Unit::Down);
    }

    /// What is up is about to be stopped, by what systemd has read last.
    fn look_who_stops(&mut self, setting: &Setting) {
        let strangers = self
            .units
            .iter()
            .any(|unit| is_up(*unit) && *unit != Unit::Runs(self.loaded));
        self.stopped_by_stranger |= setting.own_stop && strangers;
    }

    /// Starts some units; returns whether all came up.
    fn start(&mut self, setting: &Setting, which: impl Fn(Unit) -> bool) -> bool {
        let starts = setting.starts(self.loaded);
        for unit in self.units.iter_mut().filter(|unit| which(**unit)) {
            *unit = if starts { Unit::Runs(self.loaded) } else { Unit::Down };
        }
        self.settled = false;
        starts || self.units.is_empty()
    }

    /// Does an effect; returns what the state machine is told.
    fn perform(&mut self, setting: &Setting, effect: Effect) -> Event {
        let done = |well: bool| {
            if well {
                Event::Done
            } else {
                Event::Failed(Failure::new(Code::NOT_SETTLED, "the world says no"))
            }
        };
        match effect {
            Check => self.checked = true,
            SetActive(side) => self.active = side,
            Capture if setting.own_stop && !self.units.is_empty() => return Event::Captured(Captured::StopFirst),
            Capture => return Event::Captured(self.captured()),
            MarkPending => self.pending = true,
            ClearPending => self.pending = false,
            WritePolicies(admit) => self.admitted = self.admits(setting, admit),
            StopUnits => {
                self.look_who_stops(setting);
                self.go_down();
                self.settled = false;
            }
            SetSwitch(side) => self.switch = side,
            SetCommitted(side) => self.committed = side,
            Reload => self.loaded = self.in_force(setting),
            RestartUnits => {
                self.look_who_stops(setting);
                return done(self.start(setting, is_up));
            }
            StartUnits => return done(self.start(setting, |_| true)),
            Settle(side) => {
                let healthy = ![Health::DoesNotStart, Health::DoesNotSettle].contains(&setting.health(side));
                let well = healthy && self.units.iter().all(|unit| *unit == Unit::Runs(side));
                self.settled = well && side == Side::New;
                return done(well);
            }
            RunHook(stage, _) if setting.one_way == Some(stage) => {
                self.one_way = true;
                return Event::DoneForGood;
            }
            RunHook(..) => {}
            CheckHealth => return done(setting.new != Health::Unwell),
            SetPrevious => self.previous_moved = true,
        }
        Event::Done
    }

    fn admits(&self, setting: &Setting, admit: Admit) -> [bool; 2] {
        let in_force = self.in_force(setting);
        let runs = |side| self.units.contains(&Unit::Runs(side));
        let [old, new] = match admit {
            Admit::Both | Admit::Turned => [true, true],
            Admit::New => [false, true],
            Admit::None => [false, false],
            Admit::InForce => [in_force == Side::Old, in_force == Side::New],
            Admit::Leaving => [in_force == Side::Old || runs(Side::Old), in_force == Side::New],
        };
        [old && setting.is_venv(Side::Old), new && setting.is_venv(Side::New)]
    }

    /// What must hold at every moment.
    fn check(&self, setting: &Setting, state: &State) {
        let closing = match state.phase {
            Phase::Forward(effect) => is_closing(effect),
            // It stays as it is, for somebody to look at.
            Phase::Back(_) => setting.case.rollback == Rollback::Never || self.one_way,
            _ => false,
        };
        let is_over = state.outcome().is_some();
        // `previous` names what was in force, and only when something else is.
        assert!(
            !self.previous_moved || self.committed == Side::New,
            "previous moved too early"
        );
        if self.hindered {
            return;
        }
        // A boot must not start what nobody found healthy.
        let moved = self.committed == Side::New || self.switch == Side::New;
        let changes = !self.units.is_empty() && setting.case.restart == When::Now;
        if moved && changes && !closing && !is_over {
            assert!(self.pending, "moved, and no marker");
        }
        // What is asked for may not be there at all, until somebody has looked.
        let named = self.committed == Side::New || self.admitted[Side::New as usize];
        assert!(
            !named || self.checked,
            "nobody has looked at what the link, or a right, names"
        );
        let [old, new] = self.admitted;
        let overlaps = old && new && setting.case.kind == Kind::Activate;
        assert!(
            !overlaps || setting.case.old_rights == OldRights::UntilGone,
            "both have rights"
        );
        assert!(!self.stopped_by_stranger, "stopped by what can't");
        for unit in &self.units {
            if let Unit::Runs(side) = *unit {
                let admitted = self.admitted[side as usize];
                assert!(admitted || !setting.is_venv(side), "{side:?} runs without its rights");
            }
        }
    }

    /// What must hold at the end.
    fn check_end(&self, setting: &Setting, state: &State) {
        let outcome = state.outcome().unwrap();
        let (case, failure) = (&setting.case, state.failures());
        let in_force = self.in_force(setting);
        let starts = setting.starts(self.loaded);
        match outcome {
            Outcome::Done => {
                assert_eq!((in_force, failure.0), (Side::New, None));
                let now = case.restart == When::Now && !self.booted;
                assert!(
                    !now || self.units.is_empty() || self.settled,
                    "healthy, and nobody saw it"
                );
            }
            Outcome::Refused => assert!(in_force == Side::Old && !self.one_way),
            Outcome::RolledBack => {
                assert!(failure.0.is_some() && failure.1.is_none());
                assert_eq!((in_force, self.active), (Side::Old, Side::Old));
                let is_back = |unit: &Unit| matches!(unit, Unit::Runs(Side::Old) | Unit::Failed);
                assert!(self.units.iter().all(is_back) || self.booted, "not what ran before");
            }
            Outcome::Failed => assert!(failure.0.is_some()),
        }
        if self.one_way && self.loaded == Side::New {
            assert_eq!(in_force, Side::New, "back from behind a one-way hook");
        }
        if self.hindered {
            return;
        }
        assert!(!self.pending, "a marker is left");
        if case.kind != Kind::Disable {
            assert_eq!(self.active, self.committed, "the links disagree");
        }
        // Nothing that could run is left down.
        let down = self.units.contains(&Unit::Down) && !self.booted;
        assert!(!down || !starts, "left down");
        // Nor what the other one could run, as far as is known: that is tried once more.
        let by_hook = matches!(state.failed_at, Some(RunHook(..)));
        let can = setting.new == Health::Good && state.condemns().is_none() && !by_hook;
        let gives_up = self.one_way || case.rollback != Rollback::Automatic || case.kind != Kind::Activate;
        assert!(!down || !can || gives_up || state.is_stranded(case), "stranded");
        // Nobody has more rights than he needs.
        let expected = self.admits(setting, Admit::Leaving);
        assert!(
            (0..2).all(|side| !self.admitted[side] || expected[side]),
            "rights are left: {:?}, expected {expected:?}",
            self.admitted
        );
    }
}

/// Follows one state into all that may come of it.
struct Explorer<'a> {
    setting: &'a Setting,
    seen: HashSet<String>,
    ends: usize,
}

impl Explorer<'_> {
    fn explore(&mut self, (state, effect): (&State, Option<Effect>), (world, left): (&World, usize), path: &[String]) {
        let why = [&state.failure, &state.stuck].map(|failure| failure.as_ref().map(|failure| &failure.code));
        let course = (
            state.phase,
            state.captured,
            state.failed_at,
            why,
            (state.one_way, state.resumed),
        );
        if !self.seen.insert(format!("{course:?} {effect:?} {world:?} {left}")) {
            return;
        }
        assert!(path.len() < 80, "it never ends");
        let Some(effect) = effect else {
            let mut world = world.clone();
            if world.booted {
                // systemd starts them now, as it read them for the recovery.
                world.start(self.setting, |_| true);
            }
            self.told(path, || world.check_end(self.setting, state));
            self.ends += 1;
            return;
        };
        for fate in FATES {
            let cost = usize::from(fate != Fate::Works);
            if cost > left {
                continue;
            }
            let mut world = world.clone();
            let Some((event, now)) = self.befall((state, effect), &mut world, fate) else {
                continue;
            };
            let (next, effect) = step(&self.setting.case, state.clone(), event, now);
            let mut path = path.to_vec();
            path.push(format!("{:?} {fate:?}", state.phase));
            self.told(&path, || world.check(self.setting, &next));
            self.explore((&next, effect), (&world, left - cost), &path);
        }
    }

    /// Checks something; a failure tells how it came to it.
    fn told(&self, path: &[String], check: impl FnOnce()) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
            panic!("{:?}, {:#?}", self.setting, path);
        }
    }

    /// Lets a fate befall an effect; nothing where it can't.
    fn befall(&self, (state, effect): (&State, Effect), world: &mut World, fate: Fate) -> Option<(Event, Duration)> {
        let failed = Event::Failed(Failure::new(Code::INTERNAL, "an adversity"));
        let is_back = matches!(state.phase, Phase::Back(_)) || is_closing(effect);
        let deadline = state.deadline();
        let mut does = |works: bool| {
            if works {
                let before = world.one_way;
                world.perform(self.setting, effect);
                // A hook that does not end well has not done its work, as far as anybody knows.
                world.one_way = before;
            }
        };
        let event = match fate {
            Fate::Works => return Some((world.perform(self.setting, effect), NOW)),
            Fate::Fails(works) | Fate::Late(works) => {
                does(works);
                world.hindered |= is_back || self.setting.case.rollback == Rollback::Never || world.one_way;
                match fate {
                    Fate::Late(_) => return Some((Event::Tick(Vec::new()), deadline?)),
                    _ => failed,
                }
            }
            Fate::Killed(works) => {
                does(works);
                Event::Interrupted
            }
            Fate::PowerCut(works) => {
                does(works);
                world.go_down();
                (world.booted, world.settled) = (true, false);
                Event::Booted
            }
            Fate::Reload => {
                world.loaded = world.in_force(self.setting);
                world.perform(self.setting, effect)
            }
            // One that can't start again is down for reasons of its own.
            Fate::Crash if !self.setting.starts(world.loaded) => return None,
            Fate::Crash => {
                let settled = world.settled;
                world.start(self.setting, is_up);
                match effect {
                    // The settle window sees it.
                    Settle(_) if !world.units.is_empty() => failed,
                    _ => {
                        world.settled = settled;
                        world.perform(self.setting, effect)
                    }
                }
            }
        };
        Some((event, NOW))
    }
}

fn settings(kind: Kind) -> Vec<Setting> {
    let all = Commands {
        before_stop: 1,
        while_stopped: 1,
        after_start: 1,
        health: true,
    };
    let some = Commands {
        before_stop: 1,
        health: true,
        ..Commands::default()
    };
    let commands = [
        (Commands::default(), None),
        (some, None),
        (some, Some(BeforeStop)),
        (all, None),
        (all, Some(BeforeStop)),
        (all, Some(WhileStopped)),
        (all, Some(AfterStart)),
    ];
    let healths = [
        Health::Good,
        Health::DoesNotStart,
        Health::DoesNotSettle,
        Health::Unwell,
    ];
    let mut settings = Vec::new();
    for (commands, one_way) in commands {
        for new in healths {
            for old in [Health::Good, Health::DoesNotStart] {
                for (rollback, old_rights) in [
                    (Rollback::Automatic, OldRights::UntilGone),
                    (Rollback::Automatic, OldRights::Revoked),
                    (Rollback::Never, OldRights::UntilGone),
                ] {
                    // Nobody asks, or nothing would come of it.
                    let unasked = new == Health::Unwell && !commands.health;
                    let idle = kind == Kind::Disable && commands != Commands::default();
                    if unasked || idle {
                        continue;
                    }
                    let case = Case {
                        commands,
                        rollback,
                        old_rights,
                        ..case(kind)
                    };
                    let setting = |own_stop| Setting {
                        case,
                        old,
                        new,
                        one_way,
                        own_stop,
                    };
                    settings.push(setting(false));
                    if old_rights == OldRights::UntilGone && (commands == some || kind == Kind::Disable) {
                        settings.push(setting(true));
                    }
                }
            }
        }
    }
    settings
}

#[test]
fn whatever_happens_an_activation_ends_well() {
    explore(Kind::Activate);
}

#[test]
fn whatever_happens_enable_and_disable_end_well() {
    explore(Kind::Enable);
    explore(Kind::Disable);
}

fn explore(kind: Kind) {
    let mut ends = 0;
    for setting in settings(kind) {
        for (up, down) in [(0, 0), (1, 0), (1, 1)] {
            let world = setting.world(up, down);
            let mut explorer = Explorer {
                setting: &setting,
                seen: HashSet::new(),
                ends: 0,
            };
            let (state, effect) = step(&setting.case, State::default(), Event::Begin, NOW);
            explorer.explore((&state, effect), (&world, ADVERSITIES), &[]);
            ends += explorer.ends;
        }
    }
    println!("{kind}: {ends} different ends");
}
