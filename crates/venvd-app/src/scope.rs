//! Whose venvs: the host's, or one user's. All that differs by it is decided here, as a table of places.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use venvd_fs::chain::{self, Owners};
use venvd_fs::{Root, report};

/// Whose venvs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The host's: its system manager runs what comes from them.
    System,
    /// A user's: that user's own manager does, `systemd --user`.
    User,
}

/// Where things lie, as paths of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) scope: Scope,
    /// What an administrator or user writes, and the links.
    pub(crate) config: PathBuf,
    /// Venvs, and what making and changing them leaves.
    pub(crate) data: PathBuf,
    /// Locks.
    pub(crate) runtime: PathBuf,
    /// Where venvs are, those that are made here first.
    pub(crate) venvs: Vec<PathBuf>,
    /// Where definitions are, from the weakest to the strongest.
    pub(crate) definitions: Vec<PathBuf>,
    /// Units that are gone at the next boot or login.
    pub(crate) runtime_units: PathBuf,
    /// What generators write.
    pub(crate) generated: PathBuf,
    pub(crate) owners: Owners,
}

impl Places {
    /// Returns those of the host, whose files root owns, and perhaps somebody who prepares an image.
    pub(crate) fn system(owners: Owners) -> Self {
        Self {
            scope: Scope::System,
            config: "/etc/venvd".into(),
            data: "/var/lib/venvd".into(),
            runtime: "/run/venvd".into(),
            venvs: vec!["/var/lib/venvd/venvs".into(), PACKAGED.into()],
            definitions: ["/usr/lib/venvd/apps", "/run/venvd/apps", "/etc/venvd/apps"]
                .map(PathBuf::from)
                .into(),
            runtime_units: "/run/systemd/system".into(),
            generated: "/run/systemd/generator".into(),
            owners,
        }
    }

    /// Returns those of a user.
    pub(crate) fn user(user: &UserPlaces) -> Self {
        let (config, data) = (user.config_home.join("venvd"), user.data_home.join("venvd"));
        let runtime = user.runtime.join("venvd");
        Self {
            scope: Scope::User,
            venvs: vec![data.join("venvs"), PACKAGED.into()],
            definitions: vec![runtime.join("apps"), config.join("apps")],
            config,
            data,
            runtime,
            runtime_units: user.runtime.join("systemd/user"),
            generated: user.runtime.join("systemd/generator"),
            owners: Owners::root_and(user.uid),
        }
    }
}

/// Venvs that come with packages; users have them, too.
const PACKAGED: &str = "/usr/lib/venvd/venvs";

/// A user's directories, found as that user's systemd finds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPlaces {
    /// `XDG_CONFIG_HOME`, or `~/.config`.
    pub config_home: PathBuf,
    /// `XDG_DATA_HOME`, or `~/.local/share`.
    pub data_home: PathBuf,
    /// `XDG_RUNTIME_DIR`, or `/run/user/UID`.
    pub runtime: PathBuf,
    /// Who it is.
    pub uid: u32,
}

/// Why a user's directories can't be told, or can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// There is no home.
    #[error("HOME is not set to an absolute path, so there is no place for a user's venvs; set it")]
    NoHome,
    /// A directory's name has what a unit file or the first line of a script can't.
    #[error(
        "{path:?} can't hold venvs: only letters, digits and any of `/._-+@~` may be in its name, since it goes into \
         unit files and the first lines of scripts; set {variable} to another directory"
    )]
    Name {
        /// The directory.
        path: PathBuf,
        /// The variable that says where it is.
        variable: &'static str,
    },
    /// A directory's name is too long for the first line of a script.
    #[error(
        "{path:?} is too long to hold venvs: the first line of their scripts must fit in 127 bytes; \
         set XDG_DATA_HOME to a shorter one (at most {LONGEST_DATA_HOME} bytes)"
    )]
    Long {
        /// The directory.
        path: PathBuf,
    },
    /// Root is to work in somebody else's directories.
    #[error(
        "{path:?} is not in root's hands alone ({reason}), so root writes nothing there: its owner could lead that \
         anywhere. Run it as the user whose venvs they are, or with root's own HOME"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The longest `XDG_DATA_HOME` that leaves room for an app and a tag of together 32 bytes in a script's first line,
/// `#!DATA/venvd/venvs/APP/TAG/bin/python`: execve(2).
const LONGEST_DATA_HOME: usize = 127 - 32 - "#!/venvd/venvs///bin/python".len();

impl UserPlaces {
    /// Finds those of the user that this process runs as.
    ///
    /// # Errors
    /// See [`UserPlaces::from_environment`].
    pub fn of_this_process() -> Result<Self, ScopeError> {
        let owners = Owners::of_this_process();
        let places = Self::from_environment(|name| std::env::var_os(name), owners.user())?;
        if owners == Owners::ROOT {
            // `sudo -E`, or a HOME that was kept: what root writes, removes and runs there is for the user to redirect.
            places.belong_to(&Root::host(), owners)?;
        }
        Ok(places)
    }

    /// Checks that nobody else can change what is on the way to these directories, as far as they are there.
    fn belong_to(&self, root: &Root, owners: Owners) -> Result<(), ScopeError> {
        for path in [&self.config_home, &self.data_home, &self.runtime] {
            let there = path.ancestors().find(|path| root.join(path).exists());
            chain::check(root, owners, there.unwrap_or(Path::new("/"))).map_err(|error| ScopeError::Foreign {
                path: path.clone(),
                reason: report(&error),
            })?;
        }
        Ok(())
    }

    /// Finds them by the environment of this user, as `systemd --user` does: a variable that is not absolute counts as
    /// unset (file-hierarchy(7), the XDG specification).
    ///
    /// # Errors
    /// When there is no home, or one that can't hold venvs.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, ScopeError> {
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let below_home = |name: &str, default: &str| match absolute(name) {
            Some(path) => Ok(path),
            None => absolute("HOME")
                .map(|home| home.join(default))
                .ok_or(ScopeError::NoHome),
        };
        let places = Self {
            config_home: below_home("XDG_CONFIG_HOME", ".config")?,
            data_home: below_home("XDG_DATA_HOME", ".local/share")?,
            runtime: absolute("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}"))),
            uid,
        };
        plain(&places.config_home, "XDG_CONFIG_HOME")?;
        plain(&places.data_home, "XDG_DATA_HOME")?;
        plain(&places.runtime, "XDG_RUNTIME_DIR")?;
        if places.data_home.as_os_str().len() > LONGEST_DATA_HOME {
            return Err(ScopeError::Long { path: places.data_home });
        }
        Ok(places)
    }
}

/// Specifiers (`%`), quotes and blanks mean something in units, and `:` ends an entry of a PATH.
fn plain(path: &Path, variable: &'static str) -> Result<(), ScopeError> {
    let plain = |character: char| character.is_alphanumeric() || "/._-+@~".contains(character);
    let normal = path.to_str().is_some_and(|text| text.chars().all(plain))
        && !path.components().any(|part| part == std::path::Component::ParentDir);
    if normal {
        return Ok(());
    }
    Err(ScopeError::Name {
        path: path.to_owned(),
        variable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Result<UserPlaces, ScopeError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        UserPlaces::from_environment(|name| find(name).map(|(_, value)| OsString::from(value)), 1000)
    }

    #[test]
    fn directories_follow_the_environment_as_systemd_does() {
        let got = places(&[("HOME", "/home/alice")]).unwrap();
        let want = |config: &str, data: &str, runtime: &str| UserPlaces {
            config_home: config.into(),
            data_home: data.into(),
            runtime: runtime.into(),
            uid: 1000,
        };
        assert_eq!(
            got,
            want("/home/alice/.config", "/home/alice/.local/share", "/run/user/1000")
        );
        let set = [
            ("HOME", "/home/alice"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_DATA_HOME", "relative"),
            ("XDG_RUNTIME_DIR", "/r"),
        ];
        assert_eq!(places(&set).unwrap(), want("/c", "/home/alice/.local/share", "/r"));
        let without_home = [("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "/d")];
        assert_eq!(places(&without_home).unwrap(), want("/c", "/d", "/run/user/1000"));
    }

    #[test]
    fn what_can_not_be_in_a_unit_or_a_first_line_is_refused() {
        for home in [
            "",
            "home",
            "/home/a b",
            "/home/a%h",
            "/home/a:b",
            "/home/../root",
            "/home/a\"b",
        ] {
            assert!(places(&[("HOME", home)]).is_err(), "{home:?}");
        }
        let long = format!("/home/{}", "a".repeat(60));
        assert!(matches!(places(&[("HOME", &long)]), Err(ScopeError::Long { .. })));
        assert!(places(&[("HOME", "/home/j.doe@example-corp.net")]).is_ok());
    }

    #[test]
    fn what_others_may_change_is_foreign() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home/alice");
        std::fs::create_dir_all(&home).unwrap();
        let places = places(&[("HOME", "/home/alice"), ("XDG_RUNTIME_DIR", "/run/user/0")]).unwrap();
        let check = || places.belong_to(&Root::at(root.path()), Owners::of_this_process());
        assert!(check().is_ok());
        std::fs::set_permissions(home.parent().unwrap(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = check().unwrap_err();
        assert!(matches!(&error, ScopeError::Foreign { path, .. } if path.ends_with("alice/.config")));
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
}
