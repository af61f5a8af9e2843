//! Files that must not be lost or hijacked.
//!
//! Everything venvd writes and root later believes goes through this crate: [`atomic`] for files that are there
//! whole or not at all, [`chain`] for paths whose every component only trusted users can change, [`beneath`] for trees that
//! somebody else filled, [`lock`] for one writer at a time, and [`Root`] for working below a directory other than `/`.
//! [`diagnose`] shows what is wrong in a file to whoever wrote it.

pub mod atomic;
pub mod beneath;
pub mod chain;
pub mod diagnose;
mod error;
pub mod lock;
mod root;

pub use error::{Error, IoContext, report};
pub use root::Root;
