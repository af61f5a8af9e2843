//! From a lock to a sealed venv.

use std::path::PathBuf;

use venvd_app::links::VenvPath;
use venvd_app::{App, Layout, Settings, Tag};

use crate::error::Error;

/// What to build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The app, as declared.
    pub app: App,
    /// The tag; made from the lock where there is none.
    pub tag: Option<Tag>,
    /// A lock to build from, on disk; it goes before what the definition says.
    pub lock: Option<PathBuf>,
    /// Ask no index: the wheels must be in the definition's `find-links`.
    pub offline: bool,
    /// The uv to build with, where it is not the one in `/usr/local/bin` or `/usr/bin`.
    pub uv: Option<PathBuf>,
}

impl Request {
    /// Returns the request to build an app as its definition says.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self {
            app,
            tag: None,
            lock: None,
            offline: false,
            uv: None,
        }
    }
}

/// A venv that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its name and place.
    pub venv: VenvPath,
    /// Whether anything had to be done.
    pub outcome: Outcome,
}

/// Whether a build had to do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The venv was made.
    New,
    /// It was there already, built from the same lock.
    AlreadyThere,
}

/// What a build is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Resolving packages to a lock.
    Lock,
    /// Getting wheels.
    Download,
    /// Installing them, confined.
    Install,
    /// Copying what was installed to root's own files.
    Copy,
    /// Making it fit its final place.
    Relocate,
    /// Compiling the sources.
    Compile,
    /// Hashing all files, writing the manifest, syncing, renaming.
    Seal,
}

/// Hears how a build goes on.
pub trait Progress {
    /// A stage has begun, or has something new to say. `detail` is one line for people, and may be empty.
    fn report(&mut self, stage: Stage, detail: &str);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _: Stage, _: &str) {}
}

/// Builds the venv of an app, or finds that it is there already.
///
/// Nothing is ever half there: until one final rename everything lies in the staging directory, and is removed when
/// something fails. The log of a failed build stays, and its error names it.
///
/// # Errors
/// See [`Error`]; each leaves what was there before.
pub fn build(
    layout: &Layout,
    settings: &Settings,
    request: &Request,
    progress: &mut dyn Progress,
) -> Result<Built, Error> {
    let _ = (layout, settings, request, progress);
    Err(Error::NotRoot)
}
