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

/// nova in two point releases on one host, and the second one as uv installs it.
struct Site<'a> {
    fixture: &'a Fixture,
    options: &'a Options,
    host: Host,
    venv: VenvPath,
}

/// The lock of most figures: the newer one.
const LOCK: &str = locks::NOVA[1];

pub(super) fn rows(options: &Options, say: Say<'_>) -> Result<Vec<Row>> {
    let fixture = Fixture::ensure(say)?;
    let mut rows = vec![build::sealing(&fixture, options, say)?];
    say("two point releases on one host");
    let host = fixture.host("host")?;
    let (venv, second) = store::second_release(&fixture, &host)?;
    let site = Site {
        fixture: &fixture,
        options,
        host,
        venv,
    };
    rows.push(second);
    say("building what is there");
    rows.push(build::no_op(&site)?);
    say("verify");
    rows.extend(verify::rows(&site)?);
    say("import");
    rows.push(import::row(&site)?);
    Ok(rows)
}
