//! What a service pays at every start.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::super::Row;
use super::super::contest::{Side, contest, processor, wall};
use super::build::UV_VENV;
use super::{LOCK, Site};

/// No more than from a venv that uv made and compiled.
const IMPORT: f64 = 1.0;

/// What nova-compute imports before it does anything.
const MODULE: &str = "import nova.cmd.compute";

/// Debian's nobody.
const NOBODY: &str = "65534";

pub(super) fn row(site: &Site<'_>) -> Result<Row> {
    wall(&mut site.fixture.uv_install(UV_VENV, LOCK)?)?;
    let (ours, uv) = (site.host.directory(&site.venv), site.fixture.path(UV_VENV));
    let sides = vec![
        Side::new("venvd", || processor(&mut import(&ours))),
        Side::new("uv", || processor(&mut import(&uv))),
    ];
    let rounds = contest(sides, site.options.samples * 2 + 1)?;
    Ok(Row::against("import nova.cmd.compute", "s", &rounds.paired(1), IMPORT).how(
        "processor time (user and system) of a python that imports it as nobody, who can't write bytecode, page cache \
         warm; both venvs equally deep; the ratio is the median of the rounds' ratios",
    ))
}

fn import(venv: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"])
        .arg(venv.join("bin/python"))
        .args(["-c", MODULE])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/");
    command
}
