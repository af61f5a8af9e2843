//! Which venv, and which file is the command. Each is answered once: a link that flips later changes nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::unistd::{AccessFlags, access};
use venvd_app::cmdline::Switch;
use venvd_app::in_force::{self, InForce, Why};
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, Tag, VenvName};

use crate::args::Target;
use crate::environment::absolute_entries;
use crate::error::Error;

/// Finds the venv, and checks that nobody but root (or the caller) could have put something into its `bin`.
pub(crate) fn venv(layout: &Layout, target: &Target) -> Result<VenvPath, Error> {
    let app = &target.app;
    let venv = match &target.tag {
        None => in_force(layout, app)?,
        Some(tag) => {
            let name = VenvName::new(app.clone(), tag.clone()).map_err(|error| Error::Usage(error.to_string()))?;
            VenvPath::find(layout, &name).ok_or_else(|| Error::NoSuchVenv {
                tags: tags(layout, app),
                venv: name,
            })?
        }
    };
    layout.trusted(&venv.bin()).map_err(|source| Error::UnsafeVenv {
        venv: venv.name().clone(),
        source,
    })?;
    Ok(venv)
}

/// Returns the venv that the app's units run from at this boot. One that is off for good may be tried all the same; off
/// for this boot means that the distribution's services run, and what the venv's programs would do to their data is not
/// what somebody expects who types the name of the app alone.
fn in_force(layout: &Layout, app: &AppName) -> Result<VenvPath, Error> {
    let switch = Switch::of_this_boot(layout);
    if !switch.admits(app) {
        return Err(Error::OffForThisBoot {
            app: app.clone(),
            switch,
            tags: tags(layout, app),
        });
    }
    let InForce { venv, why, .. } = in_force::of_links(layout, app)?;
    match (venv, why) {
        (Some(venv), _) => Ok(venv),
        (None, Why::NoVenv) => Err(Error::NothingInForce {
            app: app.clone(),
            tags: tags(layout, app),
        }),
        (None, why) => Err(Error::NoneCanRun {
            app: app.clone(),
            why: Box::new(why),
        }),
    }
}

/// Finds the command's file along `path`, in which the venv comes first. A name with a slash is a file already.
pub(crate) fn command(layout: &Layout, (app, name): (&AppName, &OsStr), path: &OsStr) -> Result<PathBuf, Error> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let mut unusable = None;
    if !name.is_empty() {
        for directory in absolute_entries(path) {
            let program = directory.join(name);
            match fs::metadata(&program) {
                Ok(metadata) if metadata.is_file() && access(&program, AccessFlags::X_OK).is_ok() => {
                    return Ok(program);
                }
                Ok(metadata) if metadata.is_file() => unusable = unusable.or(Some(program)),
                // As execvp(3): what can't be looked at is not there.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Err(match unusable {
        Some(program) => Error::NotExecutable { program },
        None => Error::NoCommand {
            command: name.to_owned(),
            tags: tags_with(layout, app, name),
        },
    })
}

/// Lists the tags of an app that are on this host. Only for a hint, so what can't be read is left out.
fn tags(layout: &Layout, app: &AppName) -> Vec<Tag> {
    let mut tags = BTreeSet::new();
    for base in layout.venv_directories() {
        let Ok(entries) = fs::read_dir(layout.on_disk(base.join(app.as_str()))) else {
            continue;
        };
        for entry in entries.flatten() {
            tags.extend(entry.file_name().to_str().and_then(|name| name.parse::<Tag>().ok()));
        }
    }
    tags.into_iter().collect()
}

fn tags_with(layout: &Layout, app: &AppName, program: &OsStr) -> Vec<VenvName> {
    tags(layout, app)
        .into_iter()
        .filter_map(|tag| VenvName::new(app.clone(), tag).ok())
        .filter(|name| {
            VenvPath::find(layout, name)
                .is_some_and(|venv| !program.is_empty() && layout.on_disk(venv.bin().join(program)).is_file())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env::join_paths;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use venvd_app::Record;
    use venvd_app::links::{self, Link};
    use venvd_fs::Root;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            for (tag, program) in [("1", "old"), ("2", "new")] {
                host.program(&format!("/var/lib/venvd/venvs/nova/{tag}/bin/{program}"), 0o755);
            }
            host.program("/usr/bin/true", 0o755);
            host
        }

        fn layout(&self) -> Layout {
            Layout::new(Root::at(self.0.path()))
        }

        fn program(&self, path: &str, mode: u32) {
            let path = self.layout().on_disk(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn commit(&self, tag: &str) {
            let venv = VenvPath::local(&self.layout(), format!("nova:{tag}").parse().unwrap());
            links::set(&self.layout(), Link::Committed, venv.name().app(), Some(&venv)).unwrap();
        }

        fn venv(&self, tag: Option<&str>) -> Result<PathBuf, Error> {
            let target = Target {
                app: "nova".parse().unwrap(),
                tag: tag.map(|tag| tag.parse().unwrap()),
            };
            venv(&self.layout(), &target).map(|venv| venv.path())
        }

        fn command(&self, name: &str) -> Result<PathBuf, Error> {
            let on_disk = |path: &str| self.layout().on_disk(path);
            let path = join_paths([
                on_disk("/var/lib/venvd/venvs/nova/2/bin"),
                "relative".into(),
                "".into(),
                on_disk("/usr/bin"),
            ]);
            let app = "nova".parse().unwrap();
            command(&self.layout(), (&app, name.as_ref()), &path.unwrap())
        }
    }

    #[test]
    fn the_committed_venv_is_the_default() {
        let host = Host::new();
        host.commit("1");
        assert_eq!(host.venv(None).unwrap(), Path::new("/var/lib/venvd/venvs/nova/1"));
        assert_eq!(host.venv(Some("2")).unwrap(), Path::new("/var/lib/venvd/venvs/nova/2"));
    }

    #[test]
    fn off_for_this_boot_means_the_tag_must_be_typed() {
        let host = Host::new();
        host.commit("1");
        let cmdline = host.layout().on_disk("/proc/cmdline");
        fs::create_dir_all(cmdline.parent().unwrap()).unwrap();
        for (words, off) in [("venvd.enabled=nova", false), ("venvd.enabled=glance", true)] {
            fs::write(&cmdline, words).unwrap();
            assert_eq!(host.venv(None).is_err(), off, "{words}");
            assert!(host.venv(Some("1")).is_ok());
        }
        let error = host.venv(None).unwrap_err();
        assert_eq!(error.exit_code(), 125);
        let text = error.to_string();
        assert!(
            text.contains("`venvd.enabled=glance`") && text.ends_with("there is 1, 2"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_venv_says_which_there_are() {
        let host = Host::new();
        let error = host.venv(None).unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert!(error.to_string().ends_with("there is 1, 2"), "{error}");
        let error = host.venv(Some("3")).unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert_eq!(error.to_string(), "there is no venv nova:3; there is 1, 2");
    }

    #[test]
    fn without_its_python_the_previous_venv_stands_in() {
        let host = Host::new();
        host.commit("2");
        let app = "nova".parse().unwrap();
        let previous = VenvPath::local(&host.layout(), "nova:1".parse().unwrap());
        links::set(&host.layout(), Link::Previous, &app, Some(&previous)).unwrap();
        for (link, tag, minor) in [(Link::Committed, "2", "3.13"), (Link::Previous, "1", "3.11")] {
            let record = Record {
                venv: format!("nova:{tag}").parse().unwrap(),
                interpreter: format!("/usr/bin/python{minor}").into(),
                minor: minor.to_owned(),
                soabi: String::new(),
                version: String::new(),
                programs: Vec::new(),
            };
            record.write(&link.record(&host.layout(), &app)).unwrap();
        }
        let error = host.venv(None).unwrap_err();
        assert_eq!(error.exit_code(), 126);
        assert!(
            error.to_string().contains("/usr/bin/python3.13 is not there"),
            "{error}"
        );
        host.program("/usr/bin/python3.11", 0o755);
        assert_eq!(host.venv(None).unwrap(), previous.path());
    }

    #[test]
    fn a_dangling_or_foreign_link_or_a_writable_venv_is_refused() {
        let host = Host::new();
        host.commit("3");
        let error = host.venv(None).unwrap_err();
        assert!(matches!(error, Error::UnsafeVenv { .. }), "{error}");
        assert_eq!(error.exit_code(), 126);

        let link = Link::Committed.path(&host.layout(), &"nova".parse().unwrap());
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/srv/nova", &link).unwrap();
        assert_eq!(host.venv(None).unwrap_err().exit_code(), 126);

        let bin = host.layout().on_disk("/var/lib/venvd/venvs/nova/2/bin");
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o777)).unwrap();
        let error = host.venv(Some("2")).unwrap_err();
        assert!(venvd_fs::report(&error).contains("chmod go-w"), "{error}");
        assert_eq!(error.exit_code(), 126);
    }

    #[test]
    fn the_venv_comes_before_the_system() {
        let host = Host::new();
        host.program("/usr/bin/new", 0o755);
        let bin = "/var/lib/venvd/venvs/nova/2/bin/new";
        assert_eq!(host.command("new").unwrap(), host.layout().on_disk(bin));
        assert_eq!(host.command("true").unwrap(), host.layout().on_disk("/usr/bin/true"));
        assert_eq!(host.command("./x/y").unwrap(), Path::new("./x/y"));
    }

    #[test]
    fn a_missing_command_says_which_venvs_have_it() {
        let host = Host::new();
        let error = host.command("old").unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert_eq!(
            error.to_string(),
            "\"old\" is neither in the venv nor in PATH; it is in nova:1"
        );
        for nothing in ["", "..", "."] {
            assert_eq!(host.command(nothing).unwrap_err().exit_code(), 127, "{nothing:?}");
        }
    }

    #[test]
    fn a_file_without_an_execute_bit_is_something_else_than_no_file() {
        let host = Host::new();
        host.program("/usr/bin/data", 0o644);
        let error = host.command("data").unwrap_err();
        assert!(matches!(error, Error::NotExecutable { .. }), "{error}");
        assert_eq!(error.exit_code(), 126);
    }
}
