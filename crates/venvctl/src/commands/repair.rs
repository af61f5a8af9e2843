//! repair: damaged files of a venv.

use std::path::Path;
use std::process::ExitCode;
use venvd_app::Layout;
use venvd_app::VenvName;

use crate::failure::Failure;

/// Repairs a venv.
pub(super) fn run(_layout: &Layout, _venv: &VenvName, _from: Option<&Path>, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
