//! Hooks and health commands: which a transaction has, and what follows from how they end.

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use venvd_app::definition::{CommandLine, Hook, HookStage, Hooks, Section, UnitKind};
use venvd_app::{App, UnitName, UserName};
use venvd_bus::{Check, CheckStage, Code};

use crate::driver::Driver;
use crate::machine::{self, Event, Failure};
use crate::transaction::{Part, Transaction};
use crate::units::Units;

/// The commands of a definition as it was when the transaction began, and what is to be known of the app to run them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    user: Option<UserName>,
    hooks: Hooks,
    health: Vec<CommandLine>,
    /// The app's services.
    services: Vec<UnitName>,
    /// Those of them that venvd writes and enables itself; of an app that is off, systemd doesn't know them yet.
    installed: Vec<UnitName>,
}

/// One command, as it is to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    /// Whose it is: it runs in that app's new venv.
    pub(crate) part: &'a Part,
    pub(crate) stage: CheckStage,
    pub(crate) command: &'a CommandLine,
    /// As whom; in a user's own manager there is nobody else.
    pub(crate) user: Option<&'a UserName>,
    /// The units whose environment files it gets.
    pub(crate) units: &'a [UnitName],
}

impl Commands {
    /// Returns the commands of an app.
    pub(crate) fn of(app: &App) -> Self {
        let services = app.units.keys().filter(|unit| unit.kind() == "service");
        let installed = services.clone().filter(|unit| match &app.units[*unit].kind {
            UnitKind::Whole(whole) => whole.sections.contains_key(&Section::Install),
            _ => false,
        });
        Self {
            user: app.user.clone(),
            hooks: app.hooks.clone(),
            health: app.health.commands.clone(),
            installed: installed.cloned().collect(),
            services: services.cloned().collect(),
        }
    }

    /// Returns them without the hooks.
    pub(crate) fn without_hooks(self) -> Self {
        let hooks = Hooks::default();
        Self { hooks, ..self }
    }

    /// Returns whether some of them make no sense where units run on as they do.
    pub(crate) fn needs_restart(&self) -> bool {
        !(self.hooks.while_stopped.is_empty() && self.hooks.after_start.is_empty())
    }

    /// Returns what the course of a transaction depends on.
    pub(crate) fn summary(&self) -> machine::Commands {
        machine::Commands {
            before_stop: self.hooks.before_stop.len(),
            while_stopped: self.hooks.while_stopped.len(),
            after_start: self.hooks.after_start.len(),
            health: !self.health.is_empty(),
        }
    }

    /// Returns whether venvd itself enables a unit.
    pub(crate) fn installs(&self, unit: &UnitName) -> bool {
        self.installed.contains(unit)
    }
}

impl Part {
    fn hook(&self, stage: HookStage, number: usize) -> Option<(&Hook, Run<'_>)> {
        let commands = &self.commands;
        let hook = commands.hooks.of(stage).get(number)?;
        let run = Run {
            part: self,
            stage: stage.into(),
            command: &hook.run,
            user: commands.user.as_ref(),
            units: hook.when_unit.as_ref().map_or(&commands.services, std::slice::from_ref),
        };
        Some((hook, run))
    }

    fn health(&self) -> impl Iterator<Item = Run<'_>> {
        self.commands.health.iter().map(|command| Run {
            part: self,
            stage: CheckStage::Health,
            command,
            user: self.commands.user.as_ref(),
            units: &self.commands.services,
        })
    }
}

impl Transaction {
    /// Returns the health commands that are to be run.
    pub(crate) fn health_commands(&self) -> Vec<String> {
        let running = self.changing().filter(|part| !part.captured.is_empty());
        running
            .flat_map(Part::health)
            .map(|run| run.command.to_string())
            .collect()
    }

    /// Returns a hook by its number within the stage: those of the first app that changes, then those of the next.
    fn hook(&self, (stage, number): (HookStage, usize)) -> Option<(&Hook, Run<'_>)> {
        let hooks = self.changing().flat_map(|part| {
            let count = part.commands.hooks.of(stage).len();
            (0..count).filter_map(move |number| part.hook(stage, number))
        });
        hooks.into_iter().nth(number)
    }
}

impl<U: Units> Driver<U> {
    /// Returns whether a hook that will run leaves no way back.
    pub(crate) async fn has_one_way_hook(&self, transaction: &Transaction) -> Result<bool, Failure> {
        for part in transaction.changing() {
            let hooks: Vec<&Hook> = part.commands.hooks.all().filter(|hook| hook.one_way).collect();
            for hook in hooks {
                match &hook.when_unit {
                    Some(unit) if !self.units.is_enabled(part, unit).await? => {}
                    _ => return Ok(true),
                }
            }
        }
        Ok(false)
    }

    /// Returns a hook as text, and what keeps it from running or comes of it.
    pub(crate) async fn hook_text(
        &self,
        transaction: &Transaction,
        hook: (HookStage, usize),
    ) -> Result<Option<String>, Failure> {
        let Some((hook, run)) = transaction.hook(hook) else {
            return Ok(None);
        };
        let mut text = hook.run.to_string();
        if let Some(unit) = &hook.when_unit
            && !self.units.is_enabled(run.part, unit).await?
        {
            text.push_str(&format!(" (skipped: {unit} is not enabled on this host)"));
        } else if hook.one_way {
            text.push_str(" (one-way)");
        }
        Ok(Some(text))
    }

    /// Runs a hook, unless it is for other hosts.
    pub(crate) async fn run_hook(
        &self,
        transaction: &mut Transaction,
        (stage, number): (HookStage, usize),
    ) -> Result<Event, Failure> {
        let Some((hook, run)) = transaction.hook((stage, number)) else {
            let message = format!("the journal of activation {} knows no such hook", transaction.id);
            return Err(Failure::new(Code::INTERNAL, message));
        };
        if let Some(unit) = &hook.when_unit
            && !self.units.is_enabled(run.part, unit).await?
        {
            let check = Check {
                stage: run.stage,
                command: hook.run.to_string(),
                result: Check::SKIPPED.to_owned(),
                output: vec![format!("{unit} is not enabled on this host")],
            };
            transaction.checks.push(check);
            return Ok(Event::Done);
        }
        let event = if hook.one_way { Event::DoneForGood } else { Event::Done };
        let check = self.units.run_command(transaction, run).await?;
        let failure = failure(transaction.id, std::slice::from_ref(&check));
        transaction.checks.push(check);
        failure.map_or(Ok(event), Err)
    }

    /// Runs all health commands, at the same time: whoever mends one thing wants to know of the others.
    pub(crate) async fn check_health(&self, transaction: &mut Transaction) -> Result<Event, Failure> {
        // What nobody runs can't be asked how it is.
        let running = transaction.changing().filter(|part| !part.captured.is_empty());
        let runs = running.flat_map(Part::health);
        let checks = join_all(runs.map(|run| self.units.run_command(transaction, run))).await;
        let checks = checks.into_iter().collect::<Result<Vec<Check>, Failure>>()?;
        let failure = failure(transaction.id, &checks);
        transaction.checks.extend(checks);
        failure.map_or(Ok(Event::Done), Err)
    }
}

/// Returns what is wrong with those of the commands that failed, if any.
fn failure(transaction: u32, checks: &[Check]) -> Option<Failure> {
    let failed: Vec<&Check> = checks.iter().filter(|check| check.has_failed()).collect();
    let code = match failed.first()? {
        check if check.result == Check::TIMEOUT => Code::TIMEOUT,
        check if check.stage == CheckStage::Health => Code::UNHEALTHY,
        _ => Code::HOOK_FAILED,
    };
    let each: Vec<String> = failed.into_iter().map(describe).collect();
    Some(Failure::new(
        code,
        format!(
            "{}; `journalctl VENVD_JOB={transaction}` has all they said",
            each.join("; ")
        ),
    ))
}

fn describe(check: &Check) -> String {
    let what = match check.stage {
        CheckStage::Health => "health command".to_owned(),
        stage => format!("{stage} hook"),
    };
    let how = match check.result.as_str() {
        Check::TIMEOUT => "did not end in time (`timeout` under [health] is the limit)".to_owned(),
        result => format!("failed ({result})"),
    };
    let last = check.output.last().map_or_else(String::new, |line| format!(": {line}"));
    format!("the {what} `{}` {how}{last}", check.command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_failed_is_named() {
        let check = |stage, command: &str, result: &str, output: &[&str]| Check {
            stage,
            command: command.to_owned(),
            result: result.to_owned(),
            output: output.iter().map(|&line| line.to_owned()).collect(),
        };
        let checks = [
            check(CheckStage::Health, "a", "exit-code, status 1", &["x", "no database"]),
            check(CheckStage::Health, "b", Check::DONE, &["fine"]),
            check(CheckStage::Health, "c", Check::TIMEOUT, &[]),
        ];
        let all = failure(7, &checks).unwrap();
        assert_eq!(
            all.message,
            "the health command `a` failed (exit-code, status 1): no database; the health command `c` did not end in time \
             (`timeout` under [health] is the limit); `journalctl VENVD_JOB=7` has all they said"
        );
        assert_eq!(all.code.as_str(), Code::UNHEALTHY);
        assert_eq!(failure(7, &checks[2..]).unwrap().code.as_str(), Code::TIMEOUT);
        assert_eq!(failure(7, &checks[1..2]), None);
        let hook = check(CheckStage::BeforeStop, "a", "signal, status 9", &[]);
        let hook = failure(7, &[hook]).unwrap();
        assert_eq!(hook.code.as_str(), Code::HOOK_FAILED);
        assert!(
            hook.message
                .starts_with("the before-stop hook `a` failed (signal, status 9);")
        );
    }
}
