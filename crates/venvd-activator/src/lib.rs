//! venvd, the daemon.
pub mod machine;
pub mod transaction;
