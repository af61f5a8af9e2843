//! install: a sealed venv from a directory.

use std::path::Path;
use std::process::ExitCode;
use venvd_app::Layout;
use venvd_app::VenvName;

use crate::failure::Failure;

/// Places a sealed venv.
pub(super) fn run(_layout: &Layout, _from: &Path, _name: Option<VenvName>, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
