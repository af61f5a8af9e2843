//! Where everything lies, below a [`Root`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use venvd_fs::Root;
use venvd_fs::chain::{self, Owners};

use crate::name::{AppName, UserName, VenvName};
use crate::scope::{Places, Scope, UserPlaces};

/// Says where everything lies. All paths it returns are on disk, with the root in front, unless it says otherwise.
#[derive(Debug, Clone)]
pub struct Layout {
    root: Root,
    places: Arc<Places>,
}

impl Layout {
    /// Returns the layout of the host's own venvs below `root`.
    #[must_use]
    pub fn new(root: Root) -> Self {
        // An image belongs to whoever prepares it.
        let owners = if root.is_host() {
            Owners::ROOT
        } else {
            Owners::of_this_process()
        };
        Self {
            root,
            places: Arc::new(Places::system(owners)),
        }
    }

    /// Returns the layout of a user's venvs below `root`.
    #[must_use]
    pub fn user(root: Root, user: &UserPlaces) -> Self {
        Self {
            root,
            places: Arc::new(Places::user(user)),
        }
    }

    /// Returns whose venvs these are.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.places.scope
    }

    /// Returns whether apps may have sudo rules and rootwrap configuration: those of a user have none.
    #[must_use]
    pub fn has_policies(&self) -> bool {
        self.places.scope == Scope::System
    }

    /// Returns who may own files that are believed.
    #[must_use]
    pub fn owners(&self) -> Owners {
        self.places.owners
    }

    /// Checks that nobody else than those could change a path of the host, as [`chain::check`].
    ///
    /// # Errors
    /// The first component at fault, or that one is missing.
    pub fn trusted(&self, path: &Path) -> Result<PathBuf, chain::Error> {
        chain::check(&self.root, self.places.owners, path)
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

    fn config(&self, below: impl AsRef<Path>) -> PathBuf {
        self.on_disk(self.places.config.join(below))
    }

    fn data(&self, below: impl AsRef<Path>) -> PathBuf {
        self.on_disk(self.places.data.join(below))
    }

    fn runtime(&self, below: impl AsRef<Path>) -> PathBuf {
        self.on_disk(self.places.runtime.join(below))
    }

    /// Returns the directory of what is configured and of the links.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.on_disk(&self.places.config)
    }

    /// Returns the settings' file, as a path of the host. Fragments lie in the directory of that name with a `.d`.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.places.config.join("venvd.toml")
    }

    /// Returns the directories of definitions, as paths of the host, from the weakest to the strongest.
    #[must_use]
    pub fn definition_directories(&self) -> &[PathBuf] {
        &self.places.definitions
    }

    /// Returns the directories of sealed venvs, as paths of the host: what is built or fetched here, and what comes with
    /// packages.
    #[must_use]
    pub fn venv_directories(&self) -> &[PathBuf] {
        &self.places.venvs
    }

    /// Returns the directory of those that are built or fetched here, as a path of the host.
    #[must_use]
    pub fn own_venvs(&self) -> PathBuf {
        self.places.data.join("venvs")
    }

    /// Returns systemd's directory of units that are gone at the next boot or login.
    #[must_use]
    pub fn runtime_units(&self) -> PathBuf {
        self.on_disk(&self.places.runtime_units)
    }

    /// Returns the directory of what generators write.
    #[must_use]
    pub fn generated(&self) -> PathBuf {
        self.on_disk(&self.places.generated)
    }

    /// Returns the directory of some of the links.
    #[must_use]
    pub fn links(&self, directory: &str) -> PathBuf {
        self.config(directory)
    }

    /// Returns the directory that is watched for flips.
    #[must_use]
    pub fn active_links(&self) -> PathBuf {
        self.links("active")
    }

    /// Returns the copy of the definition that was last found sound by an activation: what goes on when the files break.
    #[must_use]
    pub fn accepted_definition(&self, app: &AppName) -> PathBuf {
        self.config(format!("committed/{app}.toml"))
    }

    /// Returns the table of exposed commands.
    #[must_use]
    pub fn exposed_commands(&self) -> PathBuf {
        self.config("commands.json")
    }

    /// Returns the marker of an open activation.
    #[must_use]
    pub fn pending(&self, app: &AppName) -> PathBuf {
        self.config(format!("pending/{app}"))
    }

    /// Returns the directory of those markers.
    #[must_use]
    pub fn pending_markers(&self) -> PathBuf {
        self.config("pending")
    }

    /// Returns the directory of the locks an app's venvs were built from.
    #[must_use]
    pub fn locks(&self, app: &AppName) -> PathBuf {
        self.config(format!("locks/{app}"))
    }

    /// Returns the definition fragment in which `enable` and `disable` leave their word.
    #[must_use]
    pub fn enabled_fragment(&self, app: &AppName) -> PathBuf {
        self.config(format!("apps/{app}.toml.d/90-enabled.toml"))
    }

    /// Returns the directory in which this host builds venvs.
    #[must_use]
    pub fn venvs(&self) -> PathBuf {
        self.on_disk(self.own_venvs())
    }

    /// Returns where a venv that is built here goes.
    #[must_use]
    pub fn venv(&self, name: &VenvName) -> PathBuf {
        self.venvs().join(name.relative())
    }

    /// Returns the directory of work in progress, on the file system of the venvs.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.data("staging")
    }

    /// Returns the directory of content that venvs share, on the file system of the venvs.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.data("store")
    }

    /// Returns the directory of what says that venvs are held.
    #[must_use]
    pub fn held_venvs(&self) -> PathBuf {
        self.config("held")
    }

    /// Returns the file that says that a venv is held, and why.
    #[must_use]
    pub fn held(&self, name: &VenvName) -> PathBuf {
        self.held_venvs().join(name.relative())
    }

    /// Returns the file that says that an app is to stay as it is, and why.
    #[must_use]
    pub fn frozen(&self, app: &AppName) -> PathBuf {
        self.config(format!("frozen/{app}"))
    }

    /// Returns the directory of what says that venvs must not run any more.
    #[must_use]
    pub fn revoked_venvs(&self) -> PathBuf {
        self.config("revoked")
    }

    /// Returns the file that says that a venv must not run any more, and why.
    #[must_use]
    pub fn revoked(&self, name: &VenvName) -> PathBuf {
        self.revoked_venvs().join(name.relative())
    }

    /// Returns the directory of what says that venvs did not run well on this host.
    #[must_use]
    pub fn known_bad_venvs(&self) -> PathBuf {
        self.data("known-bad")
    }

    /// Returns the file that says that a venv did not run well on this host.
    #[must_use]
    pub fn known_bad(&self, name: &VenvName) -> PathBuf {
        self.known_bad_venvs().join(name.relative())
    }

    /// Returns the directory of activations' journals.
    #[must_use]
    pub fn transactions(&self) -> PathBuf {
        self.data("transactions")
    }

    /// Returns the lock file for activations of an app.
    #[must_use]
    pub fn app_lock(&self, app: &AppName) -> PathBuf {
        self.runtime(format!("{app}.lock"))
    }

    /// Returns the directory of what says which venvs keep rights although they are not in force any more.
    #[must_use]
    pub fn leaving_venvs(&self) -> PathBuf {
        self.runtime("leaving")
    }

    /// Returns the file that says so for an app.
    #[must_use]
    pub fn leaving(&self, app: &AppName) -> PathBuf {
        self.leaving_venvs().join(format!("{app}.json"))
    }

    /// Returns the lock file for whoever adds or removes venvs. No app name begins with an underscore.
    #[must_use]
    pub fn store_lock(&self) -> PathBuf {
        self.runtime("_store.lock")
    }

    /// Returns the lock file for a user id that a step of a build runs as.
    #[must_use]
    pub fn builder_lock(&self, uid: u32) -> PathBuf {
        self.runtime(format!("_builder-{uid}.lock"))
    }

    /// Returns the file that says which `rootwrap.conf` files have venvs of an app in them.
    #[must_use]
    pub fn edited_rootwrap_confs(&self, app: &AppName) -> PathBuf {
        self.rootwrap().join(format!("{app}.edited"))
    }

    /// Returns the directory of what is known of rootwrap, and of its copies.
    #[must_use]
    pub fn rootwrap(&self) -> PathBuf {
        self.config("rootwrap")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What must be the same as ever, and what a user's is: DESIGN §2.
    #[test]
    fn places_of_both_scopes() {
        let user = UserPlaces {
            config_home: "/home/alice/.config".into(),
            data_home: "/home/alice/.local/share".into(),
            runtime: "/run/user/1000".into(),
            uid: 1000,
        };
        let root = || Root::at("/r");
        let (system, user) = (Layout::new(root()), Layout::user(root(), &user));
        let app: AppName = "nova".parse().unwrap();
        let venv: VenvName = "nova:1".parse().unwrap();
        let places = |layout: &Layout| {
            [
                layout.active_links(),
                layout.accepted_definition(&app),
                layout.pending(&app),
                layout.enabled_fragment(&app),
                layout.held(&venv),
                layout.revoked(&venv),
                layout.locks(&app),
                layout.venv(&venv),
                layout.staging(),
                layout.transactions(),
                layout.app_lock(&app),
                layout.leaving(&app),
                layout.runtime_units(),
                layout.generated(),
            ]
            .map(|path| path.display().to_string())
        };
        assert_eq!(
            places(&system),
            [
                "/r/etc/venvd/active",
                "/r/etc/venvd/committed/nova.toml",
                "/r/etc/venvd/pending/nova",
                "/r/etc/venvd/apps/nova.toml.d/90-enabled.toml",
                "/r/etc/venvd/held/nova/1",
                "/r/etc/venvd/revoked/nova/1",
                "/r/etc/venvd/locks/nova",
                "/r/var/lib/venvd/venvs/nova/1",
                "/r/var/lib/venvd/staging",
                "/r/var/lib/venvd/transactions",
                "/r/run/venvd/nova.lock",
                "/r/run/venvd/leaving/nova.json",
                "/r/run/systemd/system",
                "/r/run/systemd/generator",
            ]
        );
        assert_eq!(
            places(&user),
            [
                "/r/home/alice/.config/venvd/active",
                "/r/home/alice/.config/venvd/committed/nova.toml",
                "/r/home/alice/.config/venvd/pending/nova",
                "/r/home/alice/.config/venvd/apps/nova.toml.d/90-enabled.toml",
                "/r/home/alice/.config/venvd/held/nova/1",
                "/r/home/alice/.config/venvd/revoked/nova/1",
                "/r/home/alice/.config/venvd/locks/nova",
                "/r/home/alice/.local/share/venvd/venvs/nova/1",
                "/r/home/alice/.local/share/venvd/staging",
                "/r/home/alice/.local/share/venvd/transactions",
                "/r/run/user/1000/venvd/nova.lock",
                "/r/run/user/1000/venvd/leaving/nova.json",
                "/r/run/user/1000/systemd/user",
                "/r/run/user/1000/systemd/generator",
            ]
        );
        assert_eq!(user.owners(), Owners::root_and(1000));
        assert_eq!(Layout::new(Root::host()).owners(), Owners::ROOT);
    }
}
