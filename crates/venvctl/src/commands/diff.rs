//! diff: two venvs side by side.

use std::process::ExitCode;
use venvd_app::Layout;
use venvd_app::VenvName;

use crate::failure::Failure;

/// Compares two venvs.
pub(super) fn run(_layout: &Layout, _before: &VenvName, _after: &VenvName, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
