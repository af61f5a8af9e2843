//! hold and unhold: venvs that are never collected.

use std::process::ExitCode;
use venvd_app::Layout;
use venvd_app::VenvName;

use crate::failure::Failure;

/// Holds a venv.
pub(super) fn hold(
    _layout: &Layout,
    _venv: &VenvName,
    _reason: Option<&str>,
    _json: bool,
) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}

/// Lets a venv go.
pub(super) fn unhold(_layout: &Layout, _venv: &VenvName, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
