//! doctor: what is wrong on this host.

use std::process::ExitCode;
use venvd_app::AppName;
use venvd_app::Layout;

use crate::failure::Failure;

/// Looks for what is wrong.
pub(super) fn run(_layout: &Layout, _app: Option<&AppName>, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
