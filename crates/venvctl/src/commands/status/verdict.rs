//! What is wrong, and what to type next.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use venvd_app::Layout;
use venvd_app::cmdline::Switch;

use super::brakes;
use super::model::{AppStatus, Files, Load, Problem, Severity, Shadow, ShadowKind, UnitStatus, Why};
use crate::units::DROP_IN;

/// The host as far as the verdict depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) layout: &'a Layout,
    /// systemd runs here, sd_booted(3).
    pub(super) booted: bool,
    pub(super) switch: &'a Switch,
}

/// Returns what is wrong with an app besides its files that can't be read.
pub(super) fn of_app(host: Host<'_>, app: &AppStatus) -> Vec<Problem> {
    let name = &app.app;
    let mut problems = Vec::new();
    if app.why == Why::OffByKernelCommandLine {
        let message = format!(
            "the kernel command line has `{}`, so units, sudoers and rootwrap.conf are the distribution's for this boot",
            host.switch
        );
        problems.push(
            Problem::note("off-for-this-boot", message)
                .advise("boot without that word to have it on again, or `venvctl disable` it for good"),
        );
    }
    if app.asked_for != app.committed && app.asked_for.is_some() && !app.pending && host.booted {
        let asked = app.asked_for.as_deref().unwrap_or_default();
        problems.push(
            Problem::wrong("not-followed", format!("{asked} is asked for, and nothing works on it")).advise(format!(
                "`venvctl activate {name}:{asked}` tries and says why not; `journalctl -u venvd -n 20`"
            )),
        );
    }
    problems.extend(brakes::problems(app));
    if app.pending && host.booted {
        let message = app.brakes.job.as_ref().map_or_else(
            || "an activation is open; if it is not going on, it was cut off".to_owned(),
            brakes::open_job,
        );
        problems.push(
            Problem::note("pending", message).advise(
                "`journalctl -u venvd -n 20` shows it; `systemctl restart venvd` takes back one that was cut off",
            ),
        );
    }
    // Only root may look there; others are told by root's next look.
    let rules = host.layout.sudoers(name);
    if app.in_force.is_none() && !app.pending && app.brakes.detached.is_none() && fs::symlink_metadata(&rules).is_ok() {
        problems.push(
            Problem::wrong(
                "rules-left",
                format!(
                    "{} still gives sudo rights to a venv that is not in force",
                    rules.display()
                ),
            )
            .advise("`systemctl restart venvd-policy-boot.service` takes them away, or says why not"),
        );
    }
    // What a detached app's units run is whoever's who detached it.
    let units = app.units.iter().filter(|_| app.brakes.detached.is_none());
    for unit in units {
        problems.extend(
            of_unit(host, app, unit)
                .into_iter()
                .map(|problem| problem.of(&unit.unit)),
        );
    }
    // What is wrong first.
    problems.sort_by_key(|problem| problem.severity == Severity::Note);
    problems
}

fn of_unit(host: Host<'_>, app: &AppStatus, status: &UnitStatus) -> Vec<Problem> {
    let UnitStatus { unit, state, files, .. } = status;
    let mut problems = Vec::new();
    if let Some(state) = state {
        let again = state.sub.starts_with("auto-restart");
        if state.active == "failed" || again {
            let what = if again {
                "fails and is restarted, again and again"
            } else {
                "has failed"
            };
            problems.push(Problem::wrong("failed", what).advise(format!(
                "`journalctl -b -u {unit} -n 50` says why; `venvctl rollback {}` goes back to the venv before",
                app.app
            )));
        }
    }
    let wants = app.in_force.as_deref().filter(|_| app.why.is_on());
    let by_files = match wants {
        Some(wanted) => of_files(host, (unit, wanted), files),
        None => {
            let stale = files.generated.as_ref().filter(|_| host.booted && files.tag.is_some());
            let problem = |_| {
                Problem::wrong("stale-files", "its files still name a venv though none is in force")
                    .advise(format!("systemctl daemon-reload && systemctl try-restart {unit}"))
            };
            stale.map(problem).into_iter().collect()
        }
    };
    let explained = by_files.iter().any(|problem| problem.severity == Severity::Wrong) || files.skipped.is_some();
    problems.extend(by_files);
    let Some(state) = state else { return problems };
    let changed = state.need_daemon_reload || !is_what_was_read(host.layout, (files, &state.loaded_files));
    if changed && state.active != "not-found" && files.load == Load::Loaded {
        problems.push(
            Problem::wrong("reload-due", "its files changed since systemd read them").advise("systemctl daemon-reload"),
        );
    }
    if !state.is_known() || explained || status.only_variables {
        return problems;
    }
    let restart = format!("systemctl restart {unit}");
    let runs = match (wants, files.tag.as_deref(), state.tag.as_deref()) {
        // That is said already, with the same advice.
        (_, _, running) if app.brakes.is_revoked(running) => None,
        (Some(wanted), Some(_), Some(running)) if running != wanted => {
            Some(format!("still runs {running}, not {wanted}"))
        }
        (Some(wanted), Some(_), None) => Some(format!("does not run {wanted} yet: it was started before")),
        (None, _, Some(running)) => Some(format!("still runs {running} though the app is off")),
        _ => None,
    };
    problems.extend(runs.map(|message| Problem::wrong("restart-due", message).advise(restart)));
    problems
}

/// Returns whether systemd has read the files that are there. It does not say so itself of everything: 252 does not notice
/// the first drop-in of a unit (`unit_need_daemon_reload()` asks its cache of directories).
fn is_what_was_read(layout: &Layout, (files, loaded): (&Files, &[PathBuf])) -> bool {
    // Debian 12's systemd is built for hosts where /lib is no link. Masks have nothing to read.
    let plain = |path: &PathBuf| match path.strip_prefix("/usr/lib") {
        Ok(below) => Path::new("/lib").join(below),
        Err(_) => path.clone(),
    };
    let has_text =
        |path: &&PathBuf| fs::metadata(layout.on_disk(path)).is_ok_and(|data| data.is_file() && data.len() > 0);
    let there: BTreeSet<PathBuf> = files
        .fragment
        .iter()
        .chain(&files.drop_ins)
        .filter(has_text)
        .map(plain)
        .collect();
    let gone = |path: &&PathBuf| fs::symlink_metadata(layout.on_disk(path)).is_err();
    let read = loaded.iter().filter(|path| gone(path) || has_text(path)).map(plain);
    loaded.is_empty() || there == read.collect()
}

/// Says why the files of a unit do not name the venv that they should.
fn of_files(host: Host<'_>, (unit, wanted): (&str, &str), files: &Files) -> Vec<Problem> {
    let mut problems: Vec<Problem> = files.shadowed_by.iter().map(|shadow| of_shadow(unit, shadow)).collect();
    let warn = |code, message: &String| Problem::note(code, message.clone());
    problems.extend(files.warnings.iter().map(|warning| warn("odd", warning)));
    problems.extend(files.ignored.iter().map(|ignored| {
        match files.load {
            Load::Broken => Problem::wrong("broken-unit", format!("systemd can't load it: {ignored}"))
                .advise("mend that line, then `systemctl daemon-reload`"),
            _ => Problem::note("ignored", format!("systemd ignores {ignored}")),
        }
    }));
    if !problems.is_empty() && files.load != Load::Loaded || files.load == Load::NotFound || !host.booted {
        return problems;
    }
    match (&files.skipped, &files.generated) {
        // The reason is in front of us.
        (Some(_), _) if !files.shadowed_by.is_empty() => {}
        (Some(reason), _) => problems.push(
            Problem::wrong("skipped", format!("is as the distribution made it: {reason}"))
                .advise("mend that, then `systemctl daemon-reload` and restart it"),
        ),
        (None, None) if files.generator.is_none() => problems.push(
            Problem::wrong("not-generated", "the generator has not written anything for it")
                .advise("`systemctl daemon-reload` runs it; what it says is in `journalctl -b -t venvd-generator`"),
        ),
        (None, Some(_)) if files.tag.as_deref() != Some(wanted) && files.shadowed_by.is_empty() => {
            let says = files.tag.as_deref().unwrap_or("no venv");
            problems.push(
                Problem::wrong("stale-files", format!("its files name {says}, not {wanted}"))
                    .advise(format!("systemctl daemon-reload && systemctl try-restart {unit}")),
            );
        }
        _ => {}
    }
    problems
}

fn of_shadow(unit: &str, shadow: &Shadow) -> Problem {
    let (path, reload) = (shadow.path.display(), "systemctl daemon-reload");
    let place = match shadow.line {
        0 => path.to_string(),
        line => format!("{path}:{line}"),
    };
    let message = format!("{place} {}", shadow.what);
    let (problem, advice) = match shadow.kind {
        ShadowKind::LaterDropIn => (
            Problem::wrong("shadowed", message),
            format!("{} && {reload} && systemctl try-restart {unit}", earlier(&shadow.path)),
        ),
        ShadowKind::UnitFile => (
            Problem::wrong("unit-replaced", message),
            format!("rm {path} && {reload}"),
        ),
        // Both are the documented ways out.
        ShadowKind::SameName => (
            Problem::note("switched-off", format!("{message}: it is as the distribution made it")),
            format!("to have venvd change it again: rm {path} && {reload} && systemctl try-restart {unit}"),
        ),
        ShadowKind::Mask => (
            Problem::note("masked", message),
            format!("to have it again: systemctl unmask {unit}"),
        ),
    };
    let mut problem = problem.advise(advice);
    problem.path = Some(shadow.path.clone());
    problem.line = Some(shadow.line).filter(|line| *line > 0);
    problem
}

/// Says how a drop-in is made to apply before ours: then its lines are taken into account.
fn earlier(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let changeable = path.starts_with("/etc") || path.starts_with("/run");
    if name < DROP_IN || !changeable {
        // It takes a variable away, or comes with a package.
        return format!("change {}", path.display());
    }
    let to = path.with_file_name(format!("50-{name}"));
    format!("mv {} {}", path.display(), to.display())
}

#[cfg(test)]
mod tests;
