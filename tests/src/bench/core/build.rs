//! Sealing, and building what is there already.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use venvd_core::build::{Progress, Stage};

use super::super::contest::{Side, contest, wall};
use super::super::fixture::{Fixture, tag};
use super::super::{Options, Row, Say};
use super::{LOCK, Site};
use crate::{host, locks};

/// How much longer than uv's installing with bytecode, which does none of the rest, sealing may take.
const SEALING: f64 = 1.15;

/// How long a build that has nothing to do may take, in milliseconds.
const NO_OP: f64 = 50.0;

/// Where uv's venv lies afterwards: as deep as ours, since every import looks all of its path up.
pub(super) const UV_VENV: &str = "peer/var/lib/venvd/venvs/nova/33.0.2";

/// Remembers when sealing began.
#[derive(Default)]
struct Stamp(Option<Instant>);

impl Progress for Stamp {
    fn report(&mut self, stage: Stage, _: &str) {
        if stage == Stage::Relocate {
            self.0.get_or_insert_with(Instant::now);
        }
    }
}

/// Sealing against uv's install.
pub(super) fn sealing(fixture: &Fixture, options: &Options, say: Say<'_>) -> Result<Row> {
    say("sealing, and uv's install with bytecode");
    let ours = || {
        let host = fixture.host("sealing")?;
        // What others have not written yet would be written at our expense.
        host::run(&mut Command::new("sync"))?;
        let mut stamp = Stamp::default();
        fixture.build(&host, LOCK, &mut stamp)?;
        let took = stamp.0.context("the build did not seal anything")?.elapsed();
        host.remove()?;
        Ok(took.as_secs_f64())
    };
    let uv = || wall(&mut fixture.uv_install(UV_VENV, LOCK)?);
    let rounds = contest(
        vec![
            Side::new("venvd", ours),
            Side::new("uv pip sync --compile-bytecode", uv),
        ],
        options.samples,
    )?;
    Ok(Row::against("sealing", "s", &rounds.outcome(1), SEALING).how(
        "venvd: from the stage `relocate` to the end of the build, by the time stamps of its progress, in the process of \
         the measurement: relocate, RECORD, compile, hash, manifest, fill the empty store, sync, rename. uv: the whole \
         process, into an empty venv, from a warm cache on the same file system (hard links), offline; no sync.",
    ))
}

/// Building what is there.
pub(super) fn no_op(site: &Site<'_>) -> Result<Row> {
    let ours = || {
        let mut build = site.venvctl();
        build
            .arg("build")
            .arg(format!("nova:{}", tag(LOCK)))
            .arg("--lock")
            .arg(locks::path(LOCK));
        Ok(wall(&mut build)? * 1000.0)
    };
    let rounds = contest(vec![Side::new("venvctl build", ours)], site.options.samples * 2)?;
    Ok(
        Row::limited("a build of what is there", "ms", (rounds.median(0), NO_OP))
            .how("the whole process of `venvctl build nova:TAG --lock FILE`"),
    )
}

impl Site<'_> {
    /// Returns the release program, at work on this host.
    pub(super) fn venvctl(&self) -> Command {
        let mut venvctl = Command::new(&self.options.venvctl);
        venvctl.arg("--root").arg::<&Path>(&self.host.root);
        venvctl
    }
}
