//! detach and attach: units that run from their venv without venvd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;
use venvd_app::cmdline::Switch;
use venvd_app::in_force::{self, Switches};
use venvd_app::{App, AppName, Layout, Scope, search};
use venvd_core::detached::{self, Detached};
use venvd_fs::lock::Lock;
use venvd_fs::{IoContext, atomic};

use super::hold::note;
use crate::failure::Failure;
use crate::units::DROP_IN;
use crate::{output, systemd};

/// Where an administrator's units lie.
const UNITS: &str = "/etc/systemd/system";

/// The name of the drop-ins that are left: another one than venvd's, which would keep venvd's away later.
const LEFT: &str = "zz-venvd-detached.conf";

/// What a drop-in says of venvd's own units, which may be gone.
const OF_VENVD: [&str; 5] = [
    "SourcePath=",
    "PartOf=venvd-",
    "Before=venvd-",
    "Requires=venvd-recover.service",
    "After=venvd-recover.service",
];

#[derive(Debug, Serialize)]
struct State {
    app: AppName,
    detached: bool,
    files: Vec<PathBuf>,
}

/// A file to be left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    File(PathBuf, String),
    Link(PathBuf, PathBuf),
}

impl Left {
    fn path(&self) -> &Path {
        match self {
            Self::File(path, _) | Self::Link(path, _) => path,
        }
    }
}

/// Leaves plain files that run an app's units from its venv, and takes it out of venvd's hands.
pub(super) fn detach(layout: &Layout, name: &AppName, json: bool) -> Result<ExitCode, Failure> {
    let _lock = own(layout, name)?;
    let app = search::load_app(layout, name)?;
    let settings = search::load_settings(layout)?;
    let switches = Switches {
        host: settings.enabled,
        kernel: Switch::of_this_boot(layout),
    };
    if in_force::of_app(layout, &app, &switches)?.venv.is_none() {
        let message = format!("{name} runs from no venv, so there is nothing to leave; `venvctl status {name}`");
        return Err(Failure::refused("not-in-force", message));
    }
    shares_no_path(layout, &app)?;
    let left = plan(layout, name)?;
    if let Some(there) = left
        .iter()
        .find(|left| layout.on_disk(left.path()).symlink_metadata().is_ok())
    {
        let message = format!("{} is there already; move it away first", there.path().display());
        return Err(Failure::refused("exists", message));
    }
    let said = note(None)?;
    let files: Vec<PathBuf> = left.iter().map(|left| left.path().to_owned()).collect();
    // First of all: with this, nothing of venvd touches it, and `attach` knows what there is to remove.
    let marker = Detached {
        by: said.by,
        since: said.since,
        files: files.clone(),
    };
    detached::write(layout, name, &marker)?;
    for left in &left {
        match left {
            Left::File(path, text) => drop(atomic::write(&layout.on_disk(path), text.as_bytes(), 0o644)?),
            Left::Link(path, target) => drop(atomic::symlink(target, &layout.on_disk(path))?),
        }
    }
    atomic::write(
        &layout.enabled_fragment(name),
        search::switch_text(false).as_bytes(),
        0o644,
    )?;
    search::switch_accepted(layout, name, false)?;
    systemd::daemon_reload(layout)?;
    let state = State {
        app: name.clone(),
        detached: true,
        files,
    };
    output::show(&state, json, |state| {
        let files: String = state
            .files
            .iter()
            .map(|path| format!("  {}\n", path.display()))
            .collect();
        format!(
            "{name} is detached: its units run from the venv by these files, and nothing of venvd touches it\n{files}\
             sudoers and rootwrap.conf stay as they are; `venvctl attach {name}` takes it back\n"
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Removes what `detach` has left. What then is to be done is to enable the app.
pub(super) fn attach(layout: &Layout, name: &AppName) -> Result<(), Failure> {
    let _lock = own_again(layout, name)?;
    let Some(left) = detached::read(layout, name)? else {
        return Err(Failure::refused("not-detached", format!("{name} is not detached")));
    };
    for path in left.files.iter().filter(|path| path.starts_with(UNITS)) {
        atomic::remove(&layout.on_disk(path))?;
    }
    Ok(detached::remove(layout, name)?)
}

/// Refuses what is not the running host's, or what somebody works on.
fn own(layout: &Layout, name: &AppName) -> Result<Lock, Failure> {
    let lock = own_again(layout, name)?;
    if detached::read(layout, name)?.is_some() {
        let message = format!("{name} is detached already; `venvctl attach {name}` takes it back");
        return Err(Failure::refused("detached", message));
    }
    if layout.pending(name).symlink_metadata().is_ok() {
        let message = format!("an activation of {name} is open; `venvctl status {name}` says more");
        return Err(Failure::refused("activation-open", message));
    }
    Ok(lock)
}

fn own_again(layout: &Layout, name: &AppName) -> Result<Lock, Failure> {
    if layout.scope() == Scope::User {
        let message = "only units of the host can be detached: write a user's to ~/.config/systemd/user by hand";
        return Err(Failure::refused("no-detach", message));
    }
    Lock::try_exclusive(&layout.app_lock(name))?
        .ok_or_else(|| Failure::refused("locked", format!("an activation of {name} goes on; wait for it")))
}

/// Refuses an app whose user has a `secure_path` for several: it would be written anew without this one.
fn shares_no_path(layout: &Layout, app: &App) -> Result<(), Failure> {
    let declared = search::load(layout);
    let shares = |other: &&App| other.name != app.name && other.user == app.user && !other.sudo.is_empty();
    match declared.apps.values().find(shares) {
        Some(other) if !app.sudo.is_empty() => Err(Failure::refused(
            "shared-user",
            format!(
                "{} has sudo rules for the same user, whose secure_path is one for both",
                other.name
            ),
        )),
        _ => Ok(()),
    }
}

/// Returns what the generator wrote for an app, as plain files.
fn plan(layout: &Layout, name: &AppName) -> Result<Vec<Left>, Failure> {
    let generated = layout.generated();
    let text = fs::read(generated.join("venvd-report.json")).unwrap_or_default();
    let report: Value = serde_json::from_slice(&text).unwrap_or_default();
    let units_of = |app: &Value| -> Vec<String> {
        let units = app["units"].as_object().into_iter().flatten();
        let done = units.filter(|(_, unit)| !matches!(unit["state"].as_str(), Some("absent" | "skipped") | None));
        done.map(|(unit, _)| unit.clone()).collect()
    };
    let mut left = Vec::new();
    for unit in units_of(&report["apps"][name.as_str()]) {
        let others = report["apps"].as_object().into_iter().flatten();
        if let Some((other, _)) = others
            .filter(|(other, _)| *other != name.as_str())
            .find(|(_, app)| units_of(app).contains(&unit))
        {
            let message = format!("{unit} belongs to {other}, too; take it out of one of the definitions first");
            return Err(Failure::refused("shared-unit", message));
        }
        let (whole, drop_in) = (generated.join(&unit), generated.join(format!("{unit}.d/{DROP_IN}")));
        let (from, to) = match whole.is_file() {
            true => (whole, Path::new(UNITS).join(&unit)),
            false => (drop_in, Path::new(UNITS).join(format!("{unit}.d/{LEFT}"))),
        };
        let text = fs::read_to_string(&from).at("read", &from)?;
        left.push(Left::File(to, plain(&text, name)));
        left.extend(links(&generated, &unit)?);
    }
    if left.is_empty() {
        let message = "the generator has written nothing for it; `systemctl daemon-reload` runs it";
        return Err(Failure::refused("not-generated", message));
    }
    Ok(left)
}

/// Returns the links that lead to a generated unit: what enables it, and its other names.
fn links(generated: &Path, unit: &str) -> Result<Vec<Left>, Failure> {
    let mut left = Vec::new();
    let mut directories = vec![generated.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            if path.is_symlink() {
                let target = fs::read_link(&path).at("read the link", &path)?;
                let below = path.strip_prefix(generated).unwrap_or(&path);
                if target.file_name().is_some_and(|name| name == unit) && target.is_relative() {
                    left.push(Left::Link(Path::new(UNITS).join(below), target));
                }
            } else if path.is_dir() && directory == generated {
                directories.push(path);
            }
        }
    }
    Ok(left)
}

/// Returns a generated text without what leads to venvd's own units.
fn plain(text: &str, name: &AppName) -> String {
    let of_venvd = |line: &&str| {
        let generated = line.starts_with("# Automatically generated");
        generated || OF_VENVD.iter().any(|start| line.starts_with(start))
    };
    let lines: Vec<&str> = text.lines().filter(|line| !of_venvd(line)).collect();
    format!(
        "# Left by `venvctl detach {name}`: it runs from the venv without venvd. `venvctl attach {name}` removes it.\n{}\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    const REPORT: &str = r#"{"apps": {"nova": {"state": "in-force", "units": {
        "a.service": {"state": "spliced", "lists": ["ExecStart"]}, "w.service": {"state": "whole"},
        "gone.service": {"state": "absent"}}}, "other": {"units": {"o.service": {"state": "exec"}}}}}"#;

    fn host() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let generated = layout.generated();
        fs::create_dir_all(generated.join("a.service.d")).unwrap();
        fs::create_dir_all(generated.join("multi-user.target.wants")).unwrap();
        let drop_in = "# Automatically generated by x\n\n[Unit]\nSourcePath=/x\nPartOf=venvd-nova.target\n\
                       Before=venvd-nova.target\nRequiresMountsFor=/v/1\n\n[Service]\nExecStart=\nExecStart=/v/1/bin/a\n";
        fs::write(generated.join("a.service.d").join(DROP_IN), drop_in).unwrap();
        fs::write(generated.join("w.service"), "[Service]\nExecStart=/v/1/bin/w\n").unwrap();
        for (link, target) in [
            ("multi-user.target.wants/w.service", "../w.service"),
            ("alias.service", "w.service"),
        ] {
            std::os::unix::fs::symlink(target, generated.join(link)).unwrap();
        }
        fs::write(generated.join("venvd-report.json"), REPORT).unwrap();
        (directory, layout)
    }

    #[test]
    fn what_is_left_is_what_the_generator_wrote_without_venvd() {
        let (_directory, layout) = host();
        let left = plan(&layout, &"nova".parse().unwrap()).unwrap();
        let paths: Vec<&str> = left.iter().filter_map(|left| left.path().to_str()).collect();
        for path in [
            "/etc/systemd/system/a.service.d/zz-venvd-detached.conf",
            "/etc/systemd/system/w.service",
            "/etc/systemd/system/multi-user.target.wants/w.service",
            "/etc/systemd/system/alias.service",
        ] {
            assert!(paths.contains(&path), "{paths:?}");
        }
        assert_eq!(paths.len(), 4);
        let Left::File(_, text) = &left[0] else {
            panic!("{left:?}")
        };
        let (head, rest) = text.split_once('\n').unwrap();
        assert!(head.starts_with("# Left by `venvctl detach nova`"), "{head}");
        assert_eq!(
            rest,
            "\n[Unit]\nRequiresMountsFor=/v/1\n\n[Service]\nExecStart=\nExecStart=/v/1/bin/a\n"
        );
    }

    #[test]
    fn a_unit_of_two_apps_is_refused() {
        let (_directory, layout) = host();
        let report = REPORT.replace("o.service", "a.service");
        fs::write(layout.generated().join("venvd-report.json"), report).unwrap();
        let refused = plan(&layout, &"nova".parse().unwrap()).unwrap_err();
        assert_eq!(refused.code, "shared-unit");
        let refused = plan(&layout, &"glance".parse().unwrap()).unwrap_err();
        assert_eq!(refused.code, "not-generated");
    }
}
