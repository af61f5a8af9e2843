//! What is written below `/etc/sudoers.d`, and what the installed sudo makes of it.

pub(crate) mod installed;
pub mod model;
pub(crate) mod prove;
pub(crate) mod system;
pub(crate) mod validate;
