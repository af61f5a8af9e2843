//! gc: what nothing needs any more.

use std::process::ExitCode;
use venvd_app::AppName;
use venvd_app::Layout;

use crate::failure::Failure;

/// What was asked for.
#[derive(Debug)]
#[expect(dead_code, reason = "read as soon as venvs are collected")]
pub(super) struct Asked {
    pub(super) app: Option<AppName>,
    pub(super) keep: Option<u32>,
    pub(super) dry_run: bool,
}

/// Collects venvs.
pub(super) fn run(_layout: &Layout, _asked: &Asked, _json: bool) -> Result<ExitCode, Failure> {
    Err(Failure::refused("not-yet", "not there yet"))
}
