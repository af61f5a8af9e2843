//! The manager that reads what is generated: the system's, or a user's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use venvd_app::{Layout, Scope};
use venvd_unit::search_path::SYSTEM_DIRECTORIES;
use venvd_unit::{UnitFiles, UserDirectories};

/// What the plan has to know of a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// Whose it is.
    pub scope: Scope,
    /// Where units come from that hide generated ones.
    before_generated: Vec<PathBuf>,
    after_generated: Vec<PathBuf>,
    /// The `PATH` that its services have if nothing says otherwise; nothing where it did not start us.
    path: Option<String>,
}

impl Manager {
    /// Returns the system's. Where it started us, for this host, it gave us what it gives to services: what is compiled
    /// in, `DefaultEnvironment=` and what the kernel command line sets, merged.
    pub fn system(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let own = |directory: &PathBuf| !directory.starts_with("/usr") && !directory.starts_with("/lib");
        let (before_generated, after_generated) = SYSTEM_DIRECTORIES.map(PathBuf::from).into_iter().partition(own);
        Self {
            scope: Scope::System,
            before_generated,
            after_generated,
            path: variable("PATH")
                .filter(|_| variable("SYSTEMD_SCOPE").is_some() && variable("VENVD_ROOT").is_none())
                .and_then(for_units),
        }
    }

    /// Returns a user's: a generator has the environment of the manager that started it, with what environment.d(5) adds,
    /// which is that of its services.
    pub fn user(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = variable("PATH").and_then(for_units);
        let directories = UserDirectories::new(variable);
        Self {
            scope: Scope::User,
            before_generated: directories.before_generated,
            after_generated: directories.after_generated,
            path,
        }
    }

    /// Reads its units.
    #[must_use]
    pub fn scan(&self, layout: &Layout) -> UnitFiles {
        let directories = [self.before_generated.as_slice(), &self.after_generated].concat();
        UnitFiles::scan_directories(layout.root().directory(), &directories)
    }

    /// Returns whether a unit's file, or a drop-in, comes before ours of the same name: systemd.generator(7).
    #[must_use]
    pub fn hides_generated(&self, path: &Path) -> bool {
        self.before_generated
            .iter()
            .any(|directory| path.starts_with(directory))
    }

    /// Returns the `PATH` that its services have if nothing says otherwise; nothing where it did not start us.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

/// In a unit, `%` begins a specifier.
fn for_units(path: OsString) -> Option<String> {
    let path = path.into_string().ok().filter(|path| !path.is_empty())?;
    Some(path.replace('%', "%%"))
}

impl Default for Manager {
    fn default() -> Self {
        Self::system(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_generated_units() {
        let user = Manager::user(|name| {
            let value = match name {
                "HOME" => "/home/alice",
                "XDG_RUNTIME_DIR" => "/run/user/7",
                "PATH" => "/home/alice/bin:/usr/bin",
                _ => return None,
            };
            Some(value.into())
        });
        assert_eq!(user.path(), Some("/home/alice/bin:/usr/bin"));
        assert_eq!(Manager::default().path(), None);
        for (path, system, of_user) in [
            ("/etc/systemd/system/a.service", true, false),
            ("/run/systemd/system/a.service.d/zz-venvd.conf", true, false),
            ("/usr/local/lib/systemd/system/a.service", false, false),
            ("/usr/lib/systemd/system/a.service", false, false),
            ("/lib/systemd/system/a.service", false, false),
            ("/home/alice/.config/systemd/user/a.service", false, true),
            ("/etc/systemd/user/a.service", false, true),
            ("/run/user/7/systemd/user/a.service", false, true),
            ("/home/alice/.local/share/systemd/user/a.service", false, false),
            ("/usr/lib/systemd/user/a.service", false, false),
        ] {
            assert_eq!(Manager::default().hides_generated(Path::new(path)), system, "{path}");
            assert_eq!(user.hides_generated(Path::new(path)), of_user, "{path}");
        }
    }
}
