//! Stub.
use crate::{Os, cache};
use anyhow::Result;
use std::path::PathBuf;
/// Where wheels are.
///
/// # Errors
/// When they can't be fetched.
pub fn ensure(_os: Os) -> Result<PathBuf> {
    cache::subdir("wheels")
}
