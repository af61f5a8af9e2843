//! What goes to the journal.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use venvd_bus::{AppChange, JobReport, Kind, Outcome};

use crate::commands::Run;

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

/// Writes on how a job ended: one record for each of its apps.
pub(crate) fn result(report: &JobReport) {
    for change in &report.apps {
        result_of(report, change);
    }
}

fn result_of(report: &JobReport, change: &AppChange) {
    let text = sentence(report, change);
    let tag = change.to.as_ref().map_or("", |tag| tag.as_str());
    let previous = change.from.as_ref().map_or("", |tag| tag.as_str());
    let result = report.result.map_or("", Outcome::as_str);
    let caller = report.caller_uid.map(|uid| uid.to_string()).unwrap_or_default();
    macro_rules! record {
        ($level:ident) => {
            tracing::$level!(
                venvd_app = %change.app,
                venvd_tag = tag,
                venvd_previous = previous,
                venvd_job = report.id,
                venvd_result = result,
                venvd_cause = report.cause.as_str(),
                venvd_caller_uid = caller,
                "{text}"
            )
        };
    }
    match report.result {
        Some(Outcome::Done) => record!(info),
        Some(Outcome::Refused) => record!(warn),
        _ => record!(error),
    }
}

/// Returns what an operator reads.
fn sentence(report: &JobReport, change: &AppChange) -> String {
    let app = &change.app;
    let (to, from) = (change.after(), change.before());
    let what = match report.kind {
        Kind::Activate if change.to.is_none() => format!("the activation that was asked for {app}"),
        Kind::Activate => format!("activating {to}"),
        Kind::Enable => format!("enabling {app}"),
        Kind::Disable => format!("disabling {app}"),
    };
    let mut text = match (report.result, report.kind) {
        (Some(Outcome::Done), Kind::Activate) => format!("{to} is in force (before: {from})"),
        (Some(Outcome::Done), Kind::Enable) => format!("{app} is enabled, with {to}"),
        (Some(Outcome::Done), Kind::Disable) => format!("{app} is disabled, its units are the distribution's"),
        (Some(Outcome::Refused), _) => format!("{what} is refused, nothing was changed"),
        (Some(Outcome::RolledBack), _) => format!("{what} failed, and all is as before ({from})"),
        _ => format!("{what} failed and needs you (before: {from})"),
    };
    if let Some(message) = &report.message {
        text.push_str(": ");
        text.push_str(message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::tests::example;
    use venvd_bus::Stage;

    #[test]
    fn sentences() {
        let with = |kind, result, message: Option<&str>| JobReport {
            kind,
            result: Some(result),
            message: message.map(str::to_owned),
            state: Stage::Ended,
            ..example(1).report()
        };
        for (report, expected) in [
            (
                with(Kind::Activate, Outcome::Done, None),
                "nova:2 is in force (before: nova:1)",
            ),
            (
                with(Kind::Activate, Outcome::Refused, Some("no such venv")),
                "activating nova:2 is refused, nothing was changed: no such venv",
            ),
            (
                with(Kind::Activate, Outcome::RolledBack, Some("x")),
                "activating nova:2 failed, and all is as before (nova:1): x",
            ),
            (
                with(Kind::Disable, Outcome::Done, None),
                "nova is disabled, its units are the distribution's",
            ),
            (
                with(Kind::Enable, Outcome::Failed, None),
                "enabling nova failed and needs you (before: nova:1)",
            ),
        ] {
            assert_eq!(sentence(&report, &report.apps[0]), expected);
        }
    }
}
