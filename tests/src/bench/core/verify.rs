//! Reading every file again.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::super::Row;
use super::super::contest::{Side, contest, wall};
use super::super::fixture::tag;
use super::{LOCK, Site};

/// Against SHA-256 over two processes.
const SHA256: f64 = 0.5;

/// Against b3sum, which only hashes.
const B3SUM: f64 = 1.3;

pub(super) fn rows(site: &Site<'_>) -> Result<Vec<Row>> {
    let directory = site.host.directory(&site.venv);
    let list = site.fixture.path("files");
    let mut names = String::new();
    for file in &site.host.manifest(&site.venv)?.files {
        names.push_str(&file.path);
        names.push('\0');
    }
    fs::write(&list, names).with_context(|| format!("can't write {}", list.display()))?;

    let ours = || wall(site.venvctl().arg("verify").arg(format!("nova:{}", tag(LOCK))));
    let xargs = |processes: &str| {
        let mut xargs = Command::new("xargs");
        xargs
            .current_dir(&directory)
            .args(["-0", "-P", processes, "-a"])
            .arg(&list);
        xargs
    };
    let sha256sum = || wall(xargs("2").arg("sha256sum"));
    let b3sum = || wall(xargs("1").arg(&site.fixture.b3sum));
    let sides = vec![
        Side::new("venvctl verify", ours),
        Side::new("xargs -P2 sha256sum", sha256sum),
        Side::new("b3sum", b3sum),
    ];
    let rounds = contest(sides, site.options.samples * 2)?;
    let how = "whole processes, the files of the manifest, page cache warm; venvctl also looks at modes, owners, extra \
               and missing files, the host and what the distributions need of each other";
    Ok(vec![
        Row::against("verify, to SHA-256", "s", &rounds.outcome(1), SHA256).how(how),
        Row::against("verify, to b3sum", "s", &rounds.outcome(2), B3SUM).how(how),
    ])
}
