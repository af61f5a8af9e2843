//! Where everything lies, below a [`Root`].

use std::path::{Path, PathBuf};

use venvd_fs::Root;

use crate::name::{AppName, UserName, VenvName};

/// The directories of sealed venvs, as paths of the host: what is built or fetched here, and what comes with packages.
pub const VENV_DIRECTORIES: [&str; 2] = ["/var/lib/venvd/venvs", "/usr/lib/venvd/venvs"];

/// The directories of definitions, as paths of the host, from the weakest to the strongest.
pub const DEFINITION_DIRECTORIES: [&str; 3] = ["/usr/lib/venvd/apps", "/run/venvd/apps", "/etc/venvd/apps"];

/// Says where everything lies. All paths it returns are on disk, with the root in front.
#[derive(Debug, Clone)]
pub struct Layout {
    root: Root,
}

impl Layout {
    /// Returns the layout below `root`.
    #[must_use]
    pub fn new(root: Root) -> Self {
        Self { root }
    }

    /// Returns the root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns where a path of the host lies on disk.
    pub fn on_disk(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Returns the directory that is watched for flips.
    #[must_use]
    pub fn active_links(&self) -> PathBuf {
        self.on_disk("/etc/venvd/active")
    }

    /// Returns the copy of the definition that was last found sound by an activation: what goes on when the files break.
    #[must_use]
    pub fn accepted_definition(&self, app: &AppName) -> PathBuf {
        self.on_disk(format!("/etc/venvd/committed/{app}.toml"))
    }

    /// Returns the marker of an open activation.
    #[must_use]
    pub fn pending(&self, app: &AppName) -> PathBuf {
        self.on_disk(format!("/etc/venvd/pending/{app}"))
    }

    /// Returns the directory of the locks an app's venvs were built from.
    #[must_use]
    pub fn locks(&self, app: &AppName) -> PathBuf {
        self.on_disk(format!("/etc/venvd/locks/{app}"))
    }

    /// Returns the definition fragment in which `enable` and `disable` leave their word.
    #[must_use]
    pub fn enabled_fragment(&self, app: &AppName) -> PathBuf {
        self.on_disk(format!("/etc/venvd/apps/{app}.toml.d/90-enabled.toml"))
    }

    /// Returns the directory in which this host builds venvs.
    #[must_use]
    pub fn venvs(&self) -> PathBuf {
        self.on_disk(VENV_DIRECTORIES[0])
    }

    /// Returns where a venv that is built here goes.
    #[must_use]
    pub fn venv(&self, name: &VenvName) -> PathBuf {
        self.venvs().join(name.relative())
    }

    /// Returns the directory of work in progress, on the file system of the venvs.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.on_disk("/var/lib/venvd/staging")
    }

    /// Returns the directory of content that venvs share, on the file system of the venvs.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.on_disk("/var/lib/venvd/store")
    }

    /// Returns the file that says that a venv is held, and why.
    #[must_use]
    pub fn held(&self, name: &VenvName) -> PathBuf {
        self.on_disk("/etc/venvd/held").join(name.relative())
    }

    /// Returns the directory of activations' journals.
    #[must_use]
    pub fn transactions(&self) -> PathBuf {
        self.on_disk("/var/lib/venvd/transactions")
    }

    /// Returns the lock file for activations of an app.
    #[must_use]
    pub fn app_lock(&self, app: &AppName) -> PathBuf {
        self.on_disk(format!("/run/venvd/{app}.lock"))
    }

    /// Returns the lock file for whoever adds or removes venvs. No app name begins with an underscore.
    #[must_use]
    pub fn store_lock(&self) -> PathBuf {
        self.on_disk("/run/venvd/_store.lock")
    }

    /// Returns the app's sudoers file.
    #[must_use]
    pub fn sudoers(&self, app: &AppName) -> PathBuf {
        self.on_disk(format!("/etc/sudoers.d/venvd-{app}"))
    }

    /// Returns the sudoers file that holds a user's `secure_path`, merged over its apps.
    #[must_use]
    pub fn sudoers_path_of(&self, user: &UserName) -> PathBuf {
        // No app name begins like this, so that no app's own file is hit: `venvd-path-nova` would be app `path-nova`.
        self.on_disk(format!("/etc/sudoers.d/venvd_path-{user}"))
    }
}
