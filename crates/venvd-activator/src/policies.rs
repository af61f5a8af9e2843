//! sudoers and rootwrap.conf as this boot needs them (`venvd --policies`).
//!
//! The generator decides at each boot which venv an app's units run from, if any: the kernel command line may have the
//! app off, or the interpreter of its venv may have gone. It may write no policies, systemd.generator(7), so this does,
//! before any service starts; and venvd once more, for venvs whose file system was not there yet. Where everything is as
//! it should be, which is nearly every boot, nothing is written.

use std::collections::BTreeMap;
use std::fs;

use anyhow::bail;
use venvd_app::cmdline::Switch;
use venvd_app::in_force::{self, Switches};
use venvd_app::links::{LinkError, VenvPath};
use venvd_app::search::{self, Declared};
use venvd_app::{App, AppName, Layout};
use venvd_fs::lock::Lock;
use venvd_fs::report;
use venvd_policy::{Edited, leaving};

use crate::exposed;

/// Lets the policies of all apps follow what is in force.
///
/// # Errors
/// When that failed for some apps; each was logged, and the others are done.
pub(crate) fn follow(layout: &Layout) -> anyhow::Result<()> {
    if !layout.has_policies() {
        return Ok(());
    }
    exposed::follow(layout);
    let Declared {
        settings, apps, broken, ..
    } = search::load(layout);
    let switches = Switches {
        host: settings.enabled,
        kernel: Switch::of_this_boot(layout),
    };
    let mut failed = Vec::new();
    let apps: Vec<App> = apps.into_values().chain(accepted(layout, broken)).collect();
    let (off, on): (Vec<_>, Vec<_>) = apps
        .iter()
        .map(|app| (app, admitted(layout, app, &switches)))
        .partition(|(_, admitted)| admitted.as_ref().is_ok_and(Vec::is_empty));
    // Rights are taken away first: what fails later leaves no more behind than it must.
    for (app, _) in off.into_iter().chain(on) {
        if let Err(why) = locked(layout, app, &switches) {
            tracing::error!(venvd_app = %app.name, "{}: its sudoers and rootwrap.conf stay as they are: {why}", app.name);
            failed.push(app.name.to_string());
        }
    }
    failed.extend(sweep(layout));
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "the policies of {} could not be made to follow what is in force at this boot; `venvctl status` shows what is",
        failed.join(", ")
    )
}

/// Takes away what no definition asks for any more, and returns the apps of which something is left.
fn sweep(layout: &Layout) -> Vec<String> {
    let swept = match venvd_policy::sweep(layout) {
        Ok(swept) => swept,
        Err(error) => {
            tracing::error!(
                "what is left of apps that are not declared any more stays: {}",
                report(&error)
            );
            return Vec::new();
        }
    };
    for path in &swept.changed {
        tracing::info!("{path:?} is put right: no definition asks for what it said");
    }
    for path in &swept.edited {
        tracing::warn!("{path:?} stays, though no definition asks for it: somebody edited it");
    }
    let failed = swept.failed.into_iter().map(|(app, error)| {
        tracing::error!(venvd_app = %app, "{app}: what is left of its rights stays: {}", report(&error));
        app.to_string()
    });
    failed.collect()
}

/// Returns the definitions that were accepted last of apps whose files are broken, as the generator goes on with them.
fn accepted(layout: &Layout, broken: BTreeMap<AppName, search::LoadError>) -> impl Iterator<Item = App> {
    broken.into_iter().filter_map(|(name, error)| {
        let found = search::load_accepted(layout, &name);
        if !matches!(found, Ok(Some(_))) {
            tracing::warn!(venvd_app = %name, "{name}: its policies stay as they are: {}", report(&error));
        }
        found.ok().flatten()
    })
}

/// Returns the venvs that an app's policies are to admit.
fn admitted(layout: &Layout, app: &App, switches: &Switches) -> Result<Vec<VenvPath>, String> {
    match in_force::of_app(layout, app, switches) {
        Ok(in_force) => leaving::admitted(layout, &app.name, in_force.venv).map_err(|error| report(&error)),
        // The generator leaves its units to the distribution, so no rights may be left to a venv.
        Err(error @ LinkError::Foreign { .. }) => {
            tracing::error!(venvd_app = %app.name, "{}", report(&error));
            Ok(Vec::new())
        }
        Err(error) => Err(report(&error)),
    }
}

/// Does one app, unless somebody works on it: an activation, or the end of earlier rights, writes its policy itself, and
/// what was to be admitted a moment ago need not be any more.
fn locked(layout: &Layout, app: &App, switches: &Switches) -> Result<(), String> {
    let lock = Lock::try_exclusive(&layout.app_lock(&app.name)).map_err(|error| report(&error))?;
    match lock {
        Some(_lock) => one(layout, app, &admitted(layout, app, switches)?),
        None => Ok(()),
    }
}

fn one(layout: &Layout, app: &App, venvs: &[VenvPath]) -> Result<(), String> {
    let name = &app.name;
    if let [venv, ..] = venvs {
        // Who goes on with the activation decides; until then the units wait for that, or run as they do.
        if fs::symlink_metadata(layout.pending(name)).is_ok() {
            return Ok(());
        }
        if !layout.on_disk(venv.path()).is_dir() {
            tracing::warn!(venvd_app = %name, "{name}: {} is not there (yet), so its policies stay as they are", venv.name());
            return Ok(());
        }
    }
    // Rights must be possible to take away, whoever edited the file.
    let edited = if venvs.is_empty() {
        Edited::SetAside
    } else {
        Edited::Refuse
    };
    let plan = venvd_policy::plan(layout, app, venvs, edited).map_err(|error| report(&error))?;
    if plan.edits().is_empty() {
        return Ok(());
    }
    // Under the lock, and so anew: somebody may have written since.
    venvd_policy::write(layout, app, venvs, edited).map_err(|error| report(&error))?;
    match venvs.first() {
        Some(venv) => tracing::info!(venvd_app = %name, "{name}: sudoers and rootwrap.conf follow {}", venv.name()),
        None => tracing::info!(
            venvd_app = %name,
            "{name}: sudoers and rootwrap.conf are as the distribution made them, as it is not in force at this boot"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use venvd_fs::Root;

    const CONF: &str = "[DEFAULT]\nfilters_path=/etc/cinder/rootwrap.d\nexec_dirs=/sbin,/usr/sbin\n";
    const OURS: &str = "/var/lib/venvd/venvs/cinder/1/bin";

    /// A root with an app that is on, has a venv in force, and a rootwrap.conf that does not know of it.
    fn host() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        for (path, text) in [
            (
                "/etc/venvd/apps/cinder.toml",
                "enabled = true\n[rootwrap]\nconfig = \"/etc/cinder/rootwrap.conf\"\n",
            ),
            ("/etc/cinder/rootwrap.conf", CONF),
            ("/etc/cinder/rootwrap.d/volume.filters", "[Filters]\n"),
            ("/sbin/lvs", ""),
            ("/usr/sbin/lvs", ""),
            ("/var/lib/venvd/venvs/cinder/1/bin/cinder-volume", ""),
        ] {
            write(&layout, path, text);
        }
        fs::create_dir_all(layout.on_disk("/etc/venvd/committed")).unwrap();
        symlink(
            "/var/lib/venvd/venvs/cinder/1",
            layout.on_disk("/etc/venvd/committed/cinder"),
        )
        .unwrap();
        (directory, layout)
    }

    fn write(layout: &Layout, path: &str, text: &str) {
        let path = layout.on_disk(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn conf(layout: &Layout) -> String {
        fs::read_to_string(layout.on_disk("/etc/cinder/rootwrap.conf")).unwrap()
    }

    #[test]
    fn off_for_one_boot_and_on_again() {
        let (_directory, layout) = host();
        follow(&layout).unwrap();
        let on = conf(&layout);
        assert!(on.contains(OURS), "{on}");
        for word in ["venvd.enabled=0", "venvd.enabled=nova"] {
            write(&layout, "/proc/cmdline", word);
            follow(&layout).unwrap();
            assert_eq!(conf(&layout), CONF, "{word}");
            write(&layout, "/proc/cmdline", "venvd.enabled=cinder");
            follow(&layout).unwrap();
            assert_eq!(conf(&layout), on, "{word}");
        }
        write(&layout, "/etc/venvd/venvd.toml", "enabled = false\n");
        follow(&layout).unwrap();
        assert_eq!(conf(&layout), CONF);
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        use std::os::unix::fs::MetadataExt;
        let (_directory, layout) = host();
        follow(&layout).unwrap();
        let inode = || fs::metadata(layout.on_disk("/etc/cinder/rootwrap.conf")).unwrap().ino();
        let before = inode();
        follow(&layout).unwrap();
        assert_eq!(inode(), before);
    }

    #[test]
    fn a_venv_that_is_not_mounted_yet_or_on_trial_changes_nothing() {
        let (_directory, layout) = host();
        write(&layout, "/etc/venvd/pending/cinder", "7\n");
        follow(&layout).unwrap();
        assert_eq!(conf(&layout), CONF);
        fs::remove_file(layout.on_disk("/etc/venvd/pending/cinder")).unwrap();
        fs::rename(layout.on_disk("/var/lib/venvd"), layout.on_disk("/var/lib/away")).unwrap();
        follow(&layout).unwrap();
        assert_eq!(conf(&layout), CONF);
    }

    #[test]
    fn a_committed_link_to_somewhere_else_leaves_no_rights() {
        let (_directory, layout) = host();
        follow(&layout).unwrap();
        let link = layout.on_disk("/etc/venvd/committed/cinder");
        fs::remove_file(&link).unwrap();
        symlink("/srv/cinder", &link).unwrap();
        follow(&layout).unwrap();
        assert_eq!(conf(&layout), CONF);
    }

    #[test]
    fn what_no_definition_asks_for_any_more_goes() {
        let (_directory, layout) = host();
        follow(&layout).unwrap();
        fs::remove_file(layout.on_disk("/etc/venvd/apps/cinder.toml")).unwrap();
        follow(&layout).unwrap();
        assert_eq!(conf(&layout), CONF);
    }

    #[test]
    fn who_works_on_an_app_writes_its_policy() {
        let (_directory, layout) = host();
        let lock = Lock::try_exclusive(&layout.app_lock(&"cinder".parse().unwrap())).unwrap();
        follow(&layout).unwrap();
        assert_eq!(conf(&layout), CONF);
        drop(lock);
        follow(&layout).unwrap();
        assert!(conf(&layout).contains(OURS));
    }

    #[test]
    fn one_that_fails_does_not_stop_the_others() {
        let (_directory, layout) = host();
        write(
            &layout,
            "/etc/venvd/apps/barbican.toml",
            "enabled = true\n[rootwrap]\nconfig = \"/etc/barbican/rootwrap.conf\"\n",
        );
        write(&layout, "/var/lib/venvd/venvs/barbican/1/bin/x", "");
        symlink(
            "/var/lib/venvd/venvs/barbican/1",
            layout.on_disk("/etc/venvd/committed/barbican"),
        )
        .unwrap();
        let error = follow(&layout).unwrap_err().to_string();
        assert!(error.contains("of barbican could"), "{error}");
        assert!(conf(&layout).contains(OURS));
    }

    #[test]
    fn a_broken_definition_goes_on_with_the_accepted_one() {
        let (_directory, layout) = host();
        search::accept(&layout, &"cinder".parse().unwrap()).unwrap();
        write(&layout, "/etc/venvd/apps/cinder.toml", "enabld = true\n");
        follow(&layout).unwrap();
        assert!(conf(&layout).contains(OURS));
    }
}
