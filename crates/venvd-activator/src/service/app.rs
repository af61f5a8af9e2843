//! The D-Bus interface `org.venvd1.App`.

use std::collections::HashMap;
use std::sync::Arc;

use venvd_app::AppName;
use venvd_bus::Cause;
use zbus::message::Header;
use zbus::{OwnedObjectPath, OwnedVariant, fdo, interface};

use super::facts::{AppFacts, Facts};
use super::front::{Front, invalid, options_of};
use crate::request::{Ask, Options, Want};

/// An object at `/org/venvd1/app/<name>`.
#[derive(Debug)]
pub(super) struct App {
    pub(super) name: AppName,
    pub(super) front: Arc<Front>,
    pub(super) facts: Facts<AppFacts>,
}

impl App {
    fn want(&self, ask: Ask) -> Vec<Want> {
        vec![Want::new(self.name.clone(), ask)]
    }
}

// The comments on methods and properties are part of the introspection data.
#[interface(name = "org.venvd1.App")]
impl App {
    /// Asks for the venv of this tag to be in force; see Activate of org.venvd1.Manager.
    #[zbus(out_args("job"))]
    async fn activate(
        &self,
        #[zbus(header)] header: Header<'_>,
        tag: &str,
        options: HashMap<String, OwnedVariant>,
    ) -> fdo::Result<OwnedObjectPath> {
        let tag = tag.parse().map_err(invalid)?;
        let mut wants = self.want(Ask::Activate(tag));
        let options = options_of(&options, &mut wants)?;
        self.front.submit(&header, (wants, options)).await
    }

    /// Asks for the venv that was in force before.
    #[zbus(out_args("job"))]
    async fn rollback(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<OwnedObjectPath> {
        self.front
            .submit(&header, (self.want(Ask::Rollback), Options::of(Cause::Rollback)))
            .await
    }

    /// Makes units, sudoers and rootwrap of the app follow its venv.
    #[zbus(out_args("job"))]
    async fn enable(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<OwnedObjectPath> {
        self.front
            .submit(&header, (self.want(Ask::Enable), Options::of(Cause::Dbus)))
            .await
    }

    /// Puts units, sudoers and rootwrap of the app back to what the distribution made them.
    #[zbus(out_args("job"))]
    async fn disable(&self, #[zbus(header)] header: Header<'_>) -> fdo::Result<OwnedObjectPath> {
        self.front
            .submit(&header, (self.want(Ask::Disable), Options::of(Cause::Dbus)))
            .await
    }

    /// The app's name.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(&self) -> String {
        self.name.to_string()
    }

    /// The tag that is asked for; empty when there is none.
    #[zbus(property)]
    async fn active(&self) -> String {
        self.facts.get().disk.active.clone()
    }

    /// The tag that is in force; empty when there is none.
    #[zbus(property)]
    async fn committed(&self) -> String {
        self.facts.get().disk.committed.clone()
    }

    /// The tag that was in force before; empty when there is none.
    #[zbus(property)]
    async fn previous(&self) -> String {
        self.facts.get().disk.previous.clone()
    }

    /// Whether units, sudoers and rootwrap follow the venv.
    #[zbus(property)]
    async fn enabled(&self) -> bool {
        self.facts.get().disk.enabled
    }

    /// Whether an administrator keeps the app at what is in force.
    #[zbus(property)]
    async fn frozen(&self) -> bool {
        self.facts.get().disk.frozen.is_some()
    }

    /// The reason that was given for that; empty when there is none.
    #[zbus(property)]
    async fn frozen_reason(&self) -> String {
        self.facts.get().disk.frozen.clone().unwrap_or_default()
    }

    /// The stage of its open job, or `idle`.
    #[zbus(property)]
    async fn state(&self) -> String {
        self.facts.get().state.clone()
    }

    /// Its open job that is worked on, or is the next; `/` when there is none.
    #[zbus(property)]
    async fn job(&self) -> OwnedObjectPath {
        self.facts.get().job()
    }

    /// How its last job ended: `done`, `refused`, `rolled-back` or `failed`; empty when none is known.
    #[zbus(property)]
    async fn last_result(&self) -> String {
        self.facts.get().last_result.clone()
    }

    /// Why that was refused or failed, in one word; empty when it was done.
    #[zbus(property)]
    async fn last_code(&self) -> String {
        self.facts.get().last_code.clone()
    }
}
