//! verify: venvs against their manifests, and against what they need of the host.

use std::process::ExitCode;

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{Layout, VenvName};
use venvd_core::brake;
use venvd_core::list;
use venvd_core::verify::{self, Code, Cure, Options, Report};

use super::{NO_VENVS, no_venv_of};
use crate::args::Target;
use crate::failure::Failure;
use crate::output::progress::Bytes;
use crate::output::{self, table::size};

/// How many findings of a venv are shown to people: the worst come first, and the rest would hide what to do.
const SHOWN: usize = 20;

#[derive(Debug, Serialize)]
struct Verified {
    venv: String,
    path: std::path::PathBuf,
    sound: bool,
    #[serde(flatten)]
    report: Report,
}

/// Verifies venvs; exit status 1 when something is wrong with any.
pub(super) fn run(layout: &Layout, targets: &[Target], deep: bool, json: bool) -> Result<ExitCode, Failure> {
    let venvs = chosen(layout, targets)?;
    let mut all = Vec::new();
    for venv in venvs {
        let bar = Bytes::new(venv.name().to_string());
        let mut report = verify::verify(layout, &venv, Options { deep }, &bar)?;
        if let Some(note) = brake::revoked(layout, venv.name())? {
            // That it is whole does not mean that it may run.
            report.notes.push(format!("it is revoked{note}"));
        }
        drop(bar);
        all.push(Verified {
            venv: venv.name().to_string(),
            path: venv.path(),
            sound: report.findings.is_empty(),
            report,
        });
    }
    output::show(&all, json, |all| match all.as_slice() {
        [] => NO_VENVS.to_owned(),
        all => all.iter().map(|verified| text(layout, verified)).collect(),
    })?;
    Ok(if all.iter().all(|verified| verified.sound) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the venvs that are meant; all of the host where none is named.
fn chosen(layout: &Layout, targets: &[Target]) -> Result<Vec<VenvPath>, Failure> {
    let mut venvs = Vec::new();
    if targets.is_empty() {
        venvs = list::paths(layout, None)?;
    }
    for target in targets {
        let of_app = list::paths(layout, Some(&target.app))?;
        if let Some(tag) = &target.tag {
            let name = VenvName::new(target.app.clone(), tag.clone())?;
            // What lies there need not be a directory: then that is the finding.
            match of_app.into_iter().find(|venv| *venv.name() == name) {
                Some(venv) => venvs.push(venv),
                None => venvs.push(list::find(layout, &name)?),
            }
            continue;
        }
        if of_app.is_empty() {
            return Err(no_venv_of(&target.app));
        }
        venvs.extend(of_app);
    }
    venvs.sort();
    venvs.dedup();
    Ok(venvs)
}

fn text(layout: &Layout, verified: &Verified) -> String {
    let Verified { venv, report, .. } = verified;
    let looked_at = format!("{} files, {}", report.files, size(report.bytes));
    let mut text = match report.findings.len() {
        0 => format!("{venv} is as it was sealed: {looked_at}\n"),
        1 => format!("{venv} has 1 finding: {looked_at}\n"),
        count => format!("{venv} has {count} findings: {looked_at}\n"),
    };
    for finding in report.findings.iter().take(SHOWN) {
        text.push_str(&format!("  ! {finding}  [{}]\n", finding.code));
    }
    if report.findings.len() > SHOWN {
        text.push_str(&format!(
            "    and {} more; --json has them all\n",
            report.findings.len() - SHOWN
        ));
    }
    for note in &report.notes {
        text.push_str(&format!("    {note}\n"));
    }
    for advice in advice(layout, verified) {
        text.push_str(&format!("  > {advice}\n"));
    }
    text
}

/// Says what to do next, one line for each way out.
fn advice(layout: &Layout, verified: &Verified) -> Vec<String> {
    let venv = &verified.venv;
    let has = |wanted: &dyn Fn(Code) -> bool| verified.report.findings.iter().any(|finding| wanted(finding.code));
    let venvctl = if layout.root().is_host() {
        "venvctl".to_owned()
    } else {
        format!("venvctl --root {}", layout.root().directory().display())
    };
    let mut lines = Vec::new();
    if has(&|code| matches!(code, Code::Chain | Code::Mount)) {
        lines.push(
            "put the directories or mounts that are named right first: all below them is only as safe".to_owned(),
        );
    }
    if has(&|code| matches!(code, Code::NotSealed | Code::Manifest | Code::Prefix)) {
        lines.push(format!(
            "this can't be repaired in place: `{venvctl} remove {venv}`, then build or install it again"
        ));
    }
    if has(&|code| code == Code::Unreadable) && !nix::unistd::geteuid().is_root() {
        lines.push("run this as root to have all of it looked at".to_owned());
    } else if has(&|code| code.cure() != Cure::Elsewhere) {
        lines.push(format!(
            "`{venvctl} repair {venv}` puts the files back as they were sealed"
        ));
    }
    if has(&|code| {
        use Code::{Platform, PythonAbi, PythonBroken, PythonGone, PythonMinor};
        matches!(code, PythonGone | PythonMinor | PythonAbi | PythonBroken | Platform)
    }) {
        let (app, _) = venv.split_once(':').unwrap_or((venv, ""));
        lines.push(format!(
            "install the python that is named again, or `{venvctl} build {app}:NEWTAG` for the one that is there"
        ));
    }
    if has(&|code| code == Code::HostModule) {
        lines.push(
            "install the host's package of the module again, or build the venv anew for what is there".to_owned(),
        );
    }
    if has(&|code| code == Code::Requirement) {
        lines.push("put the distributions that are named into the lock, and build it under a new tag".to_owned());
    }
    lines
}
