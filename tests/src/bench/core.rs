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
    let mut add = |say: Say<'_>, row: Row| {
        say(&row.line());
        rows.push(row);
    };
    if wants("sealing") {
        let row = build::sealing(&fixture, options, say)?;
        add(say, row);
    }
    if PARTS.into_iter().all(|part| part == "sealing" || !wants(part)) {
        return Ok(rows);
    }
    say("nova in two point releases");
    let host = fixture.host("host")?;
    let (venv, disk) = store::second_release(&fixture, &host)?;
    if wants("disk") {
        add(say, disk);
    }
    let site = Site {
        fixture: &fixture,
        options,
        host,
        venv,
    };
    if wants("no-op") {
        add(say, build::no_op(&site)?);
    }
    if wants("verify") {
        for row in verify::rows(&site)? {
            add(say, row);
        }
    }
    if wants("placing") {
        add(say, store::placing(&site)?);
    }
    if wants("import") {
        add(say, import::row(&site)?);
    }
    Ok(rows)
}
