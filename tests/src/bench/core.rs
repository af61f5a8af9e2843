//! The venv itself: building, sealing, verifying, placing, importing. On nova, with some 140 distributions and 20,000
//! files.

mod build;
mod import;
mod store;
mod verify;

use anyhow::Result;
use venvd_app::links::VenvPath;

use super::fixture::{Fixture, Host};
use super::{Options, Row, Say};
use crate::locks;

/// What can be measured by itself.
pub(super) const PARTS: [&str; 6] = ["sealing", "disk", "no-op", "verify", "placing", "import"];

/// The lock of most figures: the newer one.
const LOCK: &str = locks::NOVA[1];

/// A host with nova in two point releases; the second one is that of [`LOCK`].
struct Site<'a> {
    fixture: &'a Fixture,
    options: &'a Options,
    host: Host,
    venv: VenvPath,
}

pub(super) fn rows(options: &Options, say: Say<'_>) -> Result<Vec<Row>> {
    let fixture = Fixture::ensure(say)?;
    let wants = |part| options.wants("core", part);
    let mut rows = Vec::new();
    if wants("sealing") {
        rows.push(build::sealing(&fixture, options, say)?);
    }
    if ["disk", "no-op", "verify", "placing", "import"]
        .into_iter()
        .all(|part| !wants(part))
    {
        return Ok(rows);
    }
    say("nova in two point releases");
    let host = fixture.host("host")?;
    let (venv, disk) = store::second_release(&fixture, &host)?;
    rows.extend(wants("disk").then_some(disk));
    let site = Site {
        fixture: &fixture,
        options,
        host,
        venv,
    };
    if wants("no-op") {
        say("a build of what is there");
        rows.push(build::no_op(&site)?);
    }
    if wants("verify") {
        say("verify");
        rows.extend(verify::rows(&site)?);
    }
    if wants("placing") {
        say("placing");
        rows.push(store::placing(&site)?);
    }
    if wants("import") {
        say("import");
        rows.push(import::row(&site)?);
    }
    Ok(rows)
}
