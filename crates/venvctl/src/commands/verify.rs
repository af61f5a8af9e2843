//! verify: venvs against their manifests.

use crate::args::Target;
use std::process::ExitCode;
use venvd_app::Layout;

use crate::failure::Failure;

/// Verifies venvs.
pub(super) fn run(_layout: &Layout, _targets: &[Target], _deep: bool, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
