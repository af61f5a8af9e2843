//! The `exec_dirs` line of a `rootwrap.conf`, and who else could write what rootwrap believes.

pub(crate) mod check;
pub mod conf;
pub(crate) mod edited;
mod interpreter;
mod tree;
