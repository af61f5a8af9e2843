//! Real unit files: those of hundreds of Debian packages, read by us and by the systemd of their release.

pub mod admin;
pub mod bus;
pub mod claims;
mod fetch;
pub mod reading;
mod site;
pub mod start;
pub mod systemd;

pub use fetch::ensure;
pub use site::Site;

/// Where a machine shows the corpus.
pub const GUEST: &str = "/srv/corpus";
