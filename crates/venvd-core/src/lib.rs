//! The venv itself: made from a lock, sealed, checked, listed, removed.
//!
//! Root runs code from a sealed venv, so nothing that a package brought is ever executed here as uid 0: downloads and
//! installing run as a fresh unprivileged user ([`mod@build`]), root only copies, rewrites and hashes what they left.
//!
//! - [`host_modules`]: modules of the host's Python in a venv
//! - [`interpreter`]: the Python that a venv is bound to
//! - [`lock`]: requirements with hashes, and their digest
//! - [`mod@build`]: from a lock to a sealed venv
//! - [`manifest`]: what is in a sealed venv
//! - [`relocate`]: what in a venv names its place
//! - [`preflight`]: may this venv be put in force?
//! - [`requires`]: do its distributions fit each other?
//! - [`store`], [`place`]: the content that venvs share, and a venv made of it
//! - [`mod@install`], [`mod@repair`]: a venv from a directory, and damage put right
//! - [`verify`]: is it still what was sealed?
//! - [`doctor`]: what is wrong on a host
//! - [`list`], [`usage`], [`hold`], [`collect`], [`remove`]: what is there, who needs it, what stays, what goes
//! - [`leftovers`]: root's daemons of a venv whose rights end
//! - [`brake`]: what an administrator forbids, and what failed before
//! - [`detached`]: apps that run without venvd
//! - [`mod@diff`]: two venvs side by side

mod below;
pub mod brake;
pub mod build;
pub mod collect;
pub mod detached;
pub mod diff;
pub mod doctor;
mod error;
pub mod hold;
pub mod host_modules;
pub mod install;
pub mod interpreter;
pub mod leftovers;
pub mod list;
pub mod lock;
pub mod manifest;
pub mod note;
pub mod place;
pub mod preflight;
mod record;
pub mod relocate;
pub mod remove;
pub mod repair;
pub mod requires;
mod seal;
pub mod space;
pub mod store;
pub mod usage;
pub mod verify;

pub use build::build;
pub use error::Error;
pub use interpreter::Interpreter;
pub use manifest::{Manifest, committed_record};
