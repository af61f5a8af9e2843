//! The D-Bus interface `org.venvd1.Job`.
//!
//! Everybody may read it and hears of its changes. So it has no message, and not what commands wrote: those may quote what
//! is not for everybody. `GetJob` of the manager has them, for who may ask.

use std::collections::HashMap;

use zbus::interface;

use super::facts::{Facts, JobFacts, code};

/// An object at `/org/venvd1/job/<number>`.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) facts: Facts<JobFacts>,
}

/// What `CallerUid` says where nobody is known: systemd's `UID_INVALID`.
const NOBODY_KNOWN: u32 = u32::MAX;

const MICROSECONDS: u64 = 1_000_000;

// The comments on properties are part of the introspection data.
#[interface(name = "org.venvd1.Job")]
impl Job {
    /// Its number, unique on the host.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> u32 {
        self.facts.get().report.id
    }

    /// What was asked for: `activate`, `enable` or `disable`.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn kind(&self) -> String {
        self.facts.get().report.kind.to_string()
    }

    /// The apps that change together, each with the tag that was in force before and the one that was asked for; empty
    /// where there is none.
    #[zbus(property)]
    async fn apps(&self) -> Vec<(String, String, String)> {
        let facts = self.facts.get();
        let apps = facts.report.apps.iter();
        apps.map(|change| {
            (
                change.app.to_string(),
                text(change.from.as_ref()),
                text(change.to.as_ref()),
            )
        })
        .collect()
    }

    /// The first of the apps.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn app(&self) -> String {
        let facts = self.facts.get();
        text(facts.report.apps.first().map(|change| &change.app))
    }

    /// The tag that was asked for of the first app; empty when there is none.
    #[zbus(property)]
    async fn tag(&self) -> String {
        let facts = self.facts.get();
        text(facts.report.apps.first().and_then(|change| change.to.as_ref()))
    }

    /// The tag that was in force of the first app before; empty when there is none.
    #[zbus(property)]
    async fn previous(&self) -> String {
        let facts = self.facts.get();
        text(facts.report.apps.first().and_then(|change| change.from.as_ref()))
    }

    /// What asked: `dbus`, `link`, `apply`, `boot` or `rollback`.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn cause(&self) -> String {
        self.facts.get().report.cause.to_string()
    }

    /// Who asked; 4294967295 when that is not known, as for a flip of a link.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn caller_uid(&self) -> u32 {
        self.facts.get().report.caller_uid.unwrap_or(NOBODY_KNOWN)
    }

    /// Its stage: `queued`, `preflight`, … `ended`.
    #[zbus(property)]
    async fn state(&self) -> String {
        self.facts.get().report.state.to_string()
    }

    /// Each unit that it touches, and how that is: `waiting`, a result of systemd's job, a state, or `done`.
    #[zbus(property)]
    async fn units(&self) -> HashMap<String, String> {
        self.facts.get().units()
    }

    /// When the settle window closes if all stays well, in microseconds of `CLOCK_MONOTONIC`; 0 while none is open.
    #[zbus(property)]
    async fn settle_until(&self) -> u64 {
        self.facts.get().settle_until()
    }

    /// How it ended: `done`, `refused`, `rolled-back` or `failed`; empty while it is open.
    #[zbus(property)]
    async fn result(&self) -> String {
        text(self.facts.get().report.result.as_ref())
    }

    /// Why it was refused or failed, in one word; empty when it was not.
    #[zbus(property)]
    async fn code(&self) -> String {
        code(&self.facts.get().report)
    }

    /// When it began, in microseconds since 1970.
    #[zbus(property)]
    async fn started(&self) -> u64 {
        self.facts.get().report.started.saturating_mul(MICROSECONDS)
    }

    /// When it ended, in microseconds since 1970; 0 while it is open.
    #[zbus(property)]
    async fn ended(&self) -> u64 {
        let ended = self.facts.get().report.ended.unwrap_or_default();
        ended.saturating_mul(MICROSECONDS)
    }
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(String::new, T::to_string)
}
