//! What is written below `/etc/sudoers.d`, and what the installed sudo makes of it.

pub(crate) mod header;
pub(crate) mod identity;
pub(crate) mod installed;
mod lines;
mod listing;
pub mod model;
pub(crate) mod prove;
pub(crate) mod system;
pub(crate) mod validate;
