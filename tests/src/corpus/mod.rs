//! Real unit files: those of hundreds of Debian packages, read by us and by the systemd of their release.

mod fetch;

pub use fetch::ensure;

/// Where a machine shows the corpus, by convention: `MachineBuilder::bind_ro(corpus, corpus::GUEST)`.
pub const GUEST: &str = "/srv/corpus";
