//! policy: the sudoers files and the rootwrap.conf of apps, outside of an activation.

mod adopt;
mod apply;
mod check;
mod diff;
mod show;

use std::fs;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::cmdline::Switch;
use venvd_app::in_force::{self, Switches};
use venvd_app::links::VenvPath;
use venvd_app::{App, AppName, Layout, search};
use venvd_policy::{Edited, Plan, leaving};

use crate::args::PolicyCommand;
use crate::failure::Failure;

/// What is said where there is nothing to be shown.
const NO_POLICIES: &str = "no app has [sudo] commands or [rootwrap]\n";

/// Does what was asked of policies.
pub(super) fn run(layout: &Layout, command: &PolicyCommand, json: bool) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Show { app } => show::run(layout, app.as_ref(), json),
        PolicyCommand::Diff { app } => diff::run(layout, app.as_ref(), json),
        PolicyCommand::Check { app } => check::run(layout, app.as_ref(), json),
        PolicyCommand::Adopt { app, dry_run } => adopt::run(layout, app, *dry_run, json),
        PolicyCommand::Apply { app, force } => {
            let edited = if *force { Edited::SetAside } else { Edited::Refuse };
            apply::run(layout, app.as_ref(), edited, json)
        }
    }
}

/// Makes the policy of one app as it should be now.
pub(super) fn write(layout: &Layout, app: &AppName, edited: Edited) -> Result<(), Failure> {
    apply::one(layout, app, edited).map(drop)
}

/// An app, and the venvs that its policy is to admit: the one in force, with those whose rights are about to end; or none.
#[derive(Debug)]
struct Subject {
    app: App,
    admitted: Vec<VenvPath>,
    why: String,
    /// An activation is open, which admits what it needs itself.
    open: bool,
}

impl Subject {
    fn plan(&self, layout: &Layout, edited: Edited) -> Result<Plan, venvd_policy::Error> {
        venvd_policy::plan(layout, &self.app, &self.admitted, edited)
    }

    fn in_force(&self) -> Option<String> {
        self.admitted.first().map(|venv| venv.name().to_string())
    }
}

/// An app whose policy can't be told.
#[derive(Debug, Serialize)]
struct Trouble {
    app: AppName,
    code: String,
    message: String,
}

impl Trouble {
    /// Returns what to print of an app of which there is nothing else to show; `sign` marks the message.
    fn text(&self, sign: char) -> String {
        format!("{}\n  {sign} {}\n", self.app, self.message.replace('\n', "\n    "))
    }

    fn new(app: &AppName, failure: Failure) -> Self {
        Self {
            app: app.clone(),
            code: failure.code,
            message: failure.message,
        }
    }
}

/// Returns one app, or all that have a policy; and those whose definition or link is broken.
fn subjects(layout: &Layout, only: Option<&AppName>) -> Result<(Vec<Subject>, Vec<Trouble>), Failure> {
    let declared = search::load(layout);
    let switches = Switches {
        host: declared.settings.enabled,
        kernel: Switch::of_this_boot(layout),
    };
    if let Some(name) = only
        && !declared.apps.contains_key(name)
        && !declared.broken.contains_key(name)
    {
        // This says where one would have to be.
        search::load_app(layout, name)?;
    }
    let wanted = |name: &AppName| only.is_none_or(|only| only == name);
    let (mut subjects, mut troubles) = (Vec::new(), Vec::new());
    for (name, error) in declared.broken.into_iter().filter(|(name, _)| wanted(name)) {
        troubles.push(Trouble::new(&name, error.into()));
    }
    for (name, app) in declared.apps.into_iter().filter(|(name, _)| wanted(name)) {
        if only.is_none() && app.sudo.is_empty() && app.rootwrap.is_none() {
            continue;
        }
        match in_force::of_app(layout, &app, &switches) {
            Ok(found) => match leaving::admitted(layout, &name, found.venv) {
                Ok(admitted) => subjects.push(Subject {
                    open: fs::symlink_metadata(layout.pending(&name)).is_ok(),
                    app,
                    why: found.why.to_string(),
                    admitted,
                }),
                Err(error) => troubles.push(Trouble::new(&name, error.into())),
            },
            Err(error) => troubles.push(Trouble::new(&name, error.into())),
        }
    }
    Ok((subjects, troubles))
}

fn status(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use venvd_fs::Root;

    use super::*;

    const SUDOERS: &str = "etc/sudoers.d/venvd-cinder";

    /// An image with cinder 1 in force; `None` where there is no sudo to check with.
    fn image() -> Option<(tempfile::TempDir, Layout)> {
        if !Path::new("/usr/sbin/visudo").exists() {
            eprintln!("SKIPPED: there is no /usr/sbin/visudo");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str, mode: u32| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        put(
            "etc/venvd/apps/cinder.toml",
            "enabled = true\nuser = \"cinder\"\n[sudo]\ncommands = [\"cinder-manage /etc/cinder/cinder.conf\"]\n",
            0o644,
        );
        put("var/lib/venvd/venvs/cinder/1/bin/cinder-manage", "#!/bin/sh\n", 0o755);
        put("etc/sudoers", "Defaults env_reset\n", 0o440);
        for needed in ["etc/sudoers.d", "etc/venvd/committed", "run"] {
            fs::create_dir_all(directory.path().join(needed)).unwrap();
        }
        let link = directory.path().join("etc/venvd/committed/cinder");
        symlink("/var/lib/venvd/venvs/cinder/1", link).unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        Some((directory, layout))
    }

    fn edits(layout: &Layout) -> usize {
        let (subjects, troubles) = subjects(layout, None).unwrap();
        assert!(troubles.is_empty() && subjects.len() == 1);
        subjects[0].plan(layout, Edited::SetAside).unwrap().edits().len()
    }

    fn is_refused(code: ExitCode) -> bool {
        format!("{code:?}") == format!("{:?}", ExitCode::FAILURE)
    }

    #[test]
    fn apply_writes_once_and_over_an_edit_only_by_force() {
        let Some((directory, layout)) = image() else { return };
        let cinder = "cinder".parse().unwrap();
        let apply = |edited| is_refused(apply::run(&layout, Some(&cinder), edited, true).unwrap());
        assert_eq!(edits(&layout), 2);
        assert!(!apply(Edited::Refuse));
        assert_eq!(edits(&layout), 0);
        assert!(!apply(Edited::Refuse), "again");

        let file = directory.path().join(SUDOERS);
        fs::write(&file, "# mine\n").unwrap();
        assert!(apply(Edited::Refuse));
        assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
        assert!(!apply(Edited::SetAside));
        assert_eq!(fs::read_to_string(file.with_extension("edited")).unwrap(), "# mine\n");
        assert_eq!(edits(&layout), 0);

        // Off for this image: nothing of it stays.
        fs::create_dir_all(directory.path().join("etc/venvd/apps/cinder.toml.d")).unwrap();
        let switch = directory.path().join("etc/venvd/apps/cinder.toml.d/90-enabled.toml");
        fs::write(switch, "enabled = false\n").unwrap();
        assert!(!apply(Edited::Refuse));
        assert!(!file.exists());
    }

    #[test]
    fn an_open_activation_writes_its_policy_itself() {
        let Some((directory, layout)) = image() else { return };
        fs::create_dir_all(directory.path().join("etc/venvd/pending")).unwrap();
        fs::write(directory.path().join("etc/venvd/pending/cinder"), "x").unwrap();
        assert!(is_refused(apply::run(&layout, None, Edited::Refuse, true).unwrap()));
        assert!(!directory.path().join(SUDOERS).exists());
    }

    #[test]
    fn an_unknown_app_is_refused_and_a_broken_one_reported() {
        let Some((directory, layout)) = image() else { return };
        assert_eq!(
            subjects(&layout, Some(&"nova".parse().unwrap())).unwrap_err().code,
            "unknown-app"
        );
        fs::write(
            directory.path().join("etc/venvd/apps/nova.toml"),
            "[sudo]\ncommands = [\"x\"]\n",
        )
        .unwrap();
        let (subjects, troubles) = subjects(&layout, None).unwrap();
        assert_eq!((subjects.len(), troubles[0].code.as_str()), (1, "invalid-definition"));
    }
}
