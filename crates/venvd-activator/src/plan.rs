//! What an activation would do: the state machine's own course, with what each effect means on this host now. Nothing is
//! changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use venvd_app::links::{self, Link, VenvPath};
use venvd_app::{Layout, UnitName};
use venvd_bus::plan::{FileChange, LeftAlone, LinkMove, OnFailure, Plan, Refused, Step, UnitJob};
use venvd_bus::{Code, Kind, Stage};
use venvd_policy::Edited;

use crate::aside::aside;
use crate::driver::Driver;
use crate::host::Host;
use crate::machine::{Admit, Captured, Case, Effect, Event, Failure, Phase, Rollback, Side, State, When, step};
use crate::request::Request;
use crate::transaction::{Part, Transaction};
use crate::units::Units;

/// What a transaction would do with units.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// What goes down, in this order.
    pub(crate) stop: Vec<UnitName>,
    /// What is restarted, in the order of the starts.
    pub(crate) restart: Vec<UnitName>,
    /// What is started.
    pub(crate) start: Vec<UnitName>,
    /// Units of the apps that stay as they are.
    pub(crate) alone: Vec<LeftAlone>,
}

/// The files of policies as they would be at some step; what is not in it is as it is now.
type Files = BTreeMap<PathBuf, (Option<Vec<u8>>, Option<Vec<u8>>)>;

impl<U: Units> Driver<U> {
    /// Returns what would be done if this was asked for now.
    pub(crate) async fn plan(&self, request: &Request) -> Plan {
        let (mut transaction, objection) = request.prepare(&self.host, 0);
        let mut plan = empty(&transaction);
        let found = match objection {
            Some(objection) => Err(objection),
            None => self.fill(&mut transaction, &mut plan).await,
        };
        if let Err(failure) = found {
            plan.refused = Some(Refused {
                code: failure.code,
                message: failure.message,
            });
        }
        plan
    }

    async fn fill(&self, transaction: &mut Transaction, plan: &mut Plan) -> Result<(), Failure> {
        self.check(transaction).await?;
        let captured = match self.capture(transaction).await? {
            Event::Captured(captured) => captured,
            _ => Captured::Nothing,
        };
        let moves = match transaction.case.restart {
            When::Now => self.units.moves(transaction).await?,
            When::Later => later(transaction),
        };
        let one_way = self.has_one_way_hook(transaction).await?;
        let course = Course::of(&transaction.case, (captured, one_way));
        plan.steps = self.steps(transaction, &course, &moves).await?;
        let stops = course.has(Effect::StopUnits) || course.has(Effect::RestartUnits);
        if stops {
            plan.dependents.clone_from(&transaction.outside);
        }
        plan.left_alone = moves.alone;
        plan.on_failure = course.on_failure(&transaction.case);
        Ok(())
    }

    async fn steps(&self, transaction: &Transaction, course: &Course, moves: &Moves) -> Result<Vec<Step>, Failure> {
        let mut files = Files::new();
        let mut steps = Vec::new();
        for (stage, effect) in &course.effects {
            let mut step = Step {
                stage: *stage,
                what: what(*effect, transaction),
                links: moved(&self.host, transaction, *effect),
                files: Vec::new(),
                commands: Vec::new(),
                jobs: Vec::new(),
            };
            match effect {
                Effect::WritePolicies(admit) => {
                    let (host, now, admit) = (self.host.clone(), transaction.clone(), *admit);
                    // It asks sudo which one it is.
                    let planned = aside(move || policies(&host, &now, admit)).await?;
                    step.files = changes(&mut files, planned?);
                }
                Effect::RunHook(stage, number) => {
                    step.commands
                        .extend(self.hook_text(transaction, (*stage, *number)).await?);
                }
                Effect::CheckHealth => step.commands = transaction.health_commands(),
                Effect::StopUnits => step.jobs = jobs(&moves.stop, "stop"),
                Effect::RestartUnits => step.jobs = jobs(&moves.restart, "restart"),
                Effect::StartUnits => step.jobs = jobs(&moves.start, "start"),
                _ => {}
            }
            steps.push(step);
        }
        Ok(steps)
    }
}

fn empty(transaction: &Transaction) -> Plan {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Plan {
        kind: transaction.case.kind,
        apps: transaction.report().apps,
        refused: None,
        steps: Vec::new(),
        dependents: Vec::new(),
        left_alone: Vec::new(),
        settle: millis(transaction.settle),
        timeout: millis(transaction.case.timeout),
        on_failure: None,
    }
}

fn later(transaction: &Transaction) -> Moves {
    let why = "it changes when somebody restarts it (--at-next-restart)";
    let captured = transaction.captured().map(|captured| LeftAlone {
        unit: captured.unit.clone(),
        why: why.to_owned(),
    });
    Moves {
        alone: captured.collect(),
        ..Moves::default()
    }
}

fn jobs(units: &[UnitName], job: &str) -> Vec<UnitJob> {
    let jobs = units.iter().map(|unit| UnitJob {
        unit: unit.clone(),
        job: job.to_owned(),
    });
    jobs.collect()
}

/// The way that the state machine would go.
struct Course {
    effects: Vec<(Stage, Effect)>,
    captured: Captured,
    /// Whether a one-way hook is among them.
    one_way: bool,
}

impl Course {
    fn of(case: &Case, (captured, one_way): (Captured, bool)) -> Self {
        let mut course = Self {
            effects: Vec::new(),
            captured,
            one_way,
        };
        (course.effects, _) = course.run(case, None);
        course
    }

    /// Runs it in a world where this effect fails.
    fn run(&self, case: &Case, failing: Option<Effect>) -> (Vec<(Stage, Effect)>, State) {
        let mut seen = Vec::new();
        let (mut state, mut effect) = step(case, State::default(), Event::Begin, Duration::ZERO);
        while let Some(now) = effect {
            seen.push((state.stage(), now));
            let is_back = matches!(state.phase, Phase::Back(_));
            let event = match now {
                Effect::Capture => Event::Captured(self.captured),
                _ if Some(now) == failing && !is_back => Event::Failed(Failure::new(Code::NOT_SETTLED, "")),
                Effect::RunHook(..) if self.one_way => Event::DoneForGood,
                _ => Event::Done,
            };
            (state, effect) = step(case, state, event, Duration::ZERO);
        }
        (seen, state)
    }

    fn has(&self, effect: Effect) -> bool {
        self.effects.iter().any(|(_, other)| *other == effect)
    }

    fn on_failure(&self, case: &Case) -> Option<OnFailure> {
        let candidates = [
            Effect::Settle(Side::New),
            Effect::Reload,
            Effect::SetCommitted(Side::New),
            Effect::SetSwitch(Side::New),
        ];
        let failing = candidates.into_iter().find(|effect| self.has(*effect))?;
        let (seen, state) = self.run(case, Some(failing));
        let at = seen.iter().position(|(_, effect)| *effect == failing)?;
        let outcome = state.outcome()?;
        let why = match case.rollback {
            _ if state.is_one_way() => Some("a one-way hook will have run"),
            Rollback::Automatic => None,
            Rollback::Never => Some("the definition has `rollback = false`"),
            Rollback::Revoked => Some("what is in force now is revoked"),
        };
        Some(OnFailure {
            outcome,
            steps: seen[at + 1..].iter().map(|(_, effect)| back(*effect)).collect(),
            why: why.map(str::to_owned),
        })
    }
}

/// Says what an effect does on the way forward.
fn what(effect: Effect, transaction: &Transaction) -> String {
    let kind = transaction.case.kind;
    let text = match effect {
        Effect::Check => "definition, venv and policies are looked at",
        Effect::SetActive(_) => "the active link follows",
        Effect::Capture => "what runs is noted",
        Effect::MarkPending => "the activation is marked as open",
        Effect::ClearPending => "that mark goes",
        Effect::WritePolicies(Admit::Both) => "sudo and rootwrap allow both venvs, the old one first",
        Effect::WritePolicies(Admit::Turned) => "sudo and rootwrap allow both venvs, the new one first",
        Effect::WritePolicies(Admit::New) => "sudo and rootwrap allow the new venv alone",
        Effect::WritePolicies(Admit::None) => "sudo and rootwrap allow no venv",
        Effect::WritePolicies(Admit::InForce) => "sudo and rootwrap allow what is in force",
        Effect::WritePolicies(Admit::Leaving) => {
            "sudo and rootwrap allow the new venv, and the old one while units still run it"
        }
        Effect::StopUnits => "units are stopped",
        Effect::SetSwitch(_) if kind == Kind::Disable => "the app is turned off",
        Effect::SetSwitch(_) => "the app is turned on",
        Effect::SetCommitted(_) => "the venv is put in force",
        Effect::Reload => "systemd reads its units anew",
        Effect::RestartUnits => "units are restarted",
        Effect::StartUnits => "units are started",
        Effect::Settle(_) => return format!("the units must stay up, unchanged, for {:?}", transaction.settle),
        Effect::RunHook(..) => "a hook is run",
        Effect::CheckHealth => "the health commands are run",
        Effect::SetPrevious => "what was in force becomes the way back",
    };
    text.to_owned()
}

/// Says what an effect does on the way back.
fn back(effect: Effect) -> String {
    let text = match effect {
        Effect::StopUnits => "units are stopped",
        Effect::StartUnits => "the units that ran before are started",
        Effect::Settle(_) => "they must stay up, unchanged",
        Effect::SetCommitted(_) => "what was in force is put in force again",
        Effect::SetActive(_) => "the active link is put back",
        Effect::SetSwitch(_) => "the app's switch is put back",
        Effect::Reload => "systemd reads its units anew",
        Effect::WritePolicies(_) => "sudo and rootwrap allow what is in force",
        _ => "the mark of the open activation goes",
    };
    text.to_owned()
}

/// Returns the links that an effect moves.
fn moved(host: &Host, transaction: &Transaction, effect: Effect) -> Vec<LinkMove> {
    let link = match effect {
        Effect::SetActive(_) => Link::Active,
        Effect::SetCommitted(_) => Link::Committed,
        Effect::SetPrevious => Link::Previous,
        _ => return Vec::new(),
    };
    let moves = transaction.parts.iter().filter_map(|part| {
        let layout = host.layout();
        let now = links::read(layout, link, &part.app).ok().flatten();
        let then = match link {
            Link::Active | Link::Committed => part.to.as_ref(),
            Link::Previous if part.is_same() || host.keeps_previous(part).is_some() => now.as_ref(),
            Link::Previous => part.from.as_ref(),
        };
        (then != now.as_ref()).then(|| LinkMove {
            link: link.path(layout, &part.app),
            from: now.as_ref().map(VenvPath::path),
            to: then.map(VenvPath::path),
        })
    });
    moves.collect()
}

/// Returns what the files of policies would be: path, as it is, as it is to be.
fn policies(host: &Host, transaction: &Transaction, admit: Admit) -> Result<Files, Failure> {
    let layout: &Layout = host.layout();
    let mut files = Files::new();
    for part in &transaction.parts {
        if !layout.has_policies() || !host.concerns_policies((transaction, part), admit) {
            continue;
        }
        let (app, _) = host.app_in_force(&part.app)?;
        let venvs = match (admit, at_the_end(transaction, part)) {
            (Admit::InForce | Admit::Leaving, venv) => venv.into_iter().collect(),
            _ => host.admits(part, admit)?,
        };
        let plan = venvd_policy::plan(layout, &app, &venvs, Edited::SetAside)?;
        for edit in plan.edits() {
            files.insert(edit.path.clone(), (edit.before.clone(), edit.after.clone()));
        }
    }
    Ok(files)
}

/// Returns the venv whose units will have rights when all is done, if the app is on then.
fn at_the_end(transaction: &Transaction, part: &Part) -> Option<VenvPath> {
    let on = match transaction.case.kind {
        Kind::Activate => part.enabled,
        Kind::Enable => true,
        Kind::Disable => false,
    };
    part.to
        .clone()
        .or_else(|| part.from.clone())
        .filter(|_| on && part.admitted)
}

/// Returns what a step changes, when these are the files as they were before it.
fn changes(before: &mut Files, planned: Files) -> Vec<FileChange> {
    let paths: Vec<PathBuf> = before.keys().chain(planned.keys()).cloned().collect();
    let mut changes: BTreeMap<PathBuf, FileChange> = BTreeMap::new();
    for path in paths {
        let (now, then) = match planned.get(&path) {
            Some(edit) => edit.clone(),
            // It is to be as it is on the disk now.
            None => before
                .get(&path)
                .map(|(now, _)| (now.clone(), now.clone()))
                .unwrap_or_default(),
        };
        let was = before.get(&path).map_or(&now, |(_, then)| then).clone();
        if was != then {
            let (removed, added) = (lines_beside(&was, &then), lines_beside(&then, &was));
            let change = FileChange {
                path: path.clone(),
                added,
                removed,
            };
            changes.entry(path.clone()).or_insert(change);
        }
        before.insert(path, (now, then));
    }
    changes.into_values().collect()
}

/// Returns how many lines one text has that the other has not.
fn lines_beside(one: &Option<Vec<u8>>, other: &Option<Vec<u8>>) -> usize {
    let lines = |text: &Option<Vec<u8>>| -> Vec<Vec<u8>> {
        let text = text.as_deref().unwrap_or_default();
        text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let mut rest = lines(other);
    let mut count = 0;
    for line in lines(one) {
        match rest.iter().position(|other| *other == line) {
            Some(at) => drop(rest.swap_remove(at)),
            None => count += 1,
        }
    }
    count
}

#[cfg(test)]
mod tests;
