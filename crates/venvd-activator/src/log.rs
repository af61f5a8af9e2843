//! What goes to the journal.

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use venvd_app::VenvName;
use venvd_bus::{AppChange, Check, Code, JobReport, Kind, Outcome, UnitReport, event};

use crate::commands::Run;
use crate::transaction::Transaction;

/// Sends events to the journal, or to stderr where there is none.
pub(crate) fn init() {
    let registry = tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::INFO);
    // Without a prefix, so that the fields are called VENVD_APP and so on, not F_VENVD_APP.
    let set = match tracing_journald::layer() {
        Ok(journal) => registry.with(journal.with_field_prefix(None)).try_init(),
        Err(_) => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .without_time()
                .with_target(false);
            registry.with(lines).try_init()
        }
    };
    // Somebody else has set one already; then that one is used.
    drop(set);
}

/// Writes a line that a hook or a health command wrote.
pub(crate) fn said(transaction: u32, run: &Run<'_>, line: &str) {
    let tag = run.part.to.as_ref().map_or("", |venv| venv.name().tag().as_str());
    tracing::info!(
        venvd_app = %run.part.app,
        venvd_tag = tag,
        venvd_job = transaction,
        venvd_hook = run.stage.as_str(),
        "{line}"
    );
}

/// Writes that a command did not end well, if so.
pub(crate) fn command_ended(transaction: u32, run: &Run<'_>, check: &Check) {
    if !check.has_failed() {
        return;
    }
    let tag = run.part.to.as_ref().map_or("", |venv| venv.name().tag().as_str());
    tracing::error!(
        message_id = event::COMMAND_FAILED,
        venvd_app = %run.part.app,
        venvd_tag = tag,
        venvd_job = transaction,
        venvd_hook = check.stage.as_str(),
        "`{}` ({}) did not end well: {}",
        check.command,
        check.stage,
        check.result
    );
}

/// Writes that a job was begun: one record for each of its apps, as in all that follow.
pub(crate) fn begun(report: &JobReport) {
    for change in &report.apps {
        let text = format!("{} begins (asked for by: {})", what(report.kind, change), report.cause);
        write((report, change), (Level::INFO, event::BEGUN), (&text, None));
    }
}

/// Writes that a job of an earlier venvd is taken up.
pub(crate) fn resumed(transaction: &Transaction) {
    let way = if transaction.state.goes_on() {
        "it goes on"
    } else {
        "what ran before comes back"
    };
    let report = transaction.report();
    for change in &report.apps {
        let text = format!(
            "{} (job {}) was interrupted: {way}",
            what(report.kind, change),
            report.id
        );
        write((&report, change), (Level::WARN, event::RESUMED), (&text, None));
    }
}

/// Writes that a job is left open, and why.
pub(crate) fn let_go(transaction: &Transaction, why: &str) {
    let report = transaction.report();
    for change in &report.apps {
        let text = format!(
            "{} (job {}) is left as it is, since {why}",
            what(report.kind, change),
            report.id
        );
        write((&report, change), (Level::WARN, event::LET_GO), (&text, None));
    }
}

/// Writes how a job ended.
pub(crate) fn result(report: &JobReport) {
    let kind = match report.result {
        Some(Outcome::Done) => (Level::INFO, event::DONE),
        Some(Outcome::Refused) => (Level::WARN, event::REFUSED),
        Some(Outcome::RolledBack) => (Level::ERROR, event::ROLLED_BACK),
        _ => (Level::ERROR, event::FAILED),
    };
    for change in &report.apps {
        let mut text = outcome(report, change);
        if let Some(message) = &report.message {
            text.push_str(": ");
            text.push_str(message);
        }
        write((report, change), kind, (&text, None));
    }
}

/// By what the journal knows which unit a record is about: systemd.journal-fields(7), "Fields to log on behalf of a
/// different program".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object<'a> {
    /// Its main process; journald adds whose that is.
    Process(u32),
    /// One that has no process now.
    Unit(&'a str),
    /// The same in a user's manager.
    UserUnit(&'a str),
}

/// Writes how a job ended for one unit of an app, where `journalctl -u` finds it.
pub(crate) fn unit((report, change): (&JobReport, &AppChange), (unit, object): (&UnitReport, Object<'_>)) {
    let text = format!("{} ({}): {}", unit.unit, unit.result, outcome(report, change));
    let level = match report.result {
        Some(Outcome::Done) => Level::INFO,
        _ => Level::ERROR,
    };
    write((report, change), (level, event::UNIT), (&text, Some(object)));
}

fn write(
    (report, change): (&JobReport, &AppChange),
    (level, id): (Level, &str),
    (text, object): (&str, Option<Object<'_>>),
) {
    let tag = change.to.as_ref().map_or("", |tag| tag.as_str());
    let previous = change.from.as_ref().map_or("", |tag| tag.as_str());
    let result = report.result.map_or("", Outcome::as_str);
    let caller = report.caller_uid.map(|uid| uid.to_string()).unwrap_or_default();
    // Only of one that has ended; the record is then all that there is to know of it, for `venvctl log`.
    let ended = report.result.filter(|_| object.is_none());
    let (process, unit, user_unit) = match object {
        Some(Object::Process(process)) => (Some(process), None, None),
        Some(Object::Unit(unit)) => (None, Some(unit), None),
        Some(Object::UserUnit(unit)) => (None, None, Some(unit)),
        None => (None, None, None),
    };
    macro_rules! record {
        ($level:ident) => {
            tracing::$level!(
                message_id = id,
                venvd_app = %change.app,
                venvd_tag = tag,
                venvd_previous = previous,
                venvd_job = report.id,
                venvd_result = result,
                venvd_cause = report.cause.as_str(),
                venvd_caller_uid = caller,
                venvd_kind = report.kind.as_str(),
                venvd_started = ended.map(|_| report.started),
                venvd_code = ended.and(report.code.as_ref()).map(Code::as_str),
                venvd_why = ended.and(report.message.as_deref()),
                object_pid = process,
                object_systemd_unit = unit,
                object_systemd_user_unit = user_unit,
                "{text}"
            )
        };
    }
    // The level is a part of what the macro makes.
    match level {
        Level::ERROR => record!(error),
        Level::WARN => record!(warn),
        _ => record!(info),
    }
}

/// Writes that the rights of a venv have ended that is in force no more.
pub(crate) fn rights_ended(venv: &VenvName, why: &str) {
    tracing::info!(
        message_id = event::RIGHTS_ENDED,
        venvd_app = %venv.app(),
        venvd_tag = %venv.tag(),
        "{}: the rights of {venv} end: {why}",
        venv.app()
    );
}

/// Returns what was asked for.
fn what(kind: Kind, change: &AppChange) -> String {
    let app = &change.app;
    match kind {
        Kind::Activate if change.to.is_none() => format!("the activation that was asked for {app}"),
        Kind::Activate => format!("activating {}", change.after()),
        Kind::Enable => format!("enabling {app}"),
        Kind::Disable => format!("disabling {app}"),
    }
}

/// Returns what came of it.
fn outcome(report: &JobReport, change: &AppChange) -> String {
    let app = &change.app;
    let (to, from) = (change.after(), change.before());
    let what = what(report.kind, change);
    match (report.result, report.kind) {
        (Some(Outcome::Done), Kind::Activate) => format!("{to} is in force (before: {from})"),
        (Some(Outcome::Done), Kind::Enable) => format!("{app} is enabled, with {to}"),
        (Some(Outcome::Done), Kind::Disable) => format!("{app} is disabled, its units are the distribution's"),
        (Some(Outcome::Refused), _) => format!("{what} is refused, nothing was changed"),
        (Some(Outcome::RolledBack), _) => format!("{what} failed, and all is as before ({from})"),
        _ => format!("{what} failed and needs you (before: {from})"),
    }
}

#[cfg(test)]
mod tests;
