//! The links that say which venv is asked for, in force, and was before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use venvd_fs::{IoContext, atomic};

use crate::Layout;
use crate::name::{AppName, VenvName};

/// Which of an app's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// What is asked for.
    Active,
    /// What is in force.
    Committed,
    /// What was in force before.
    Previous,
}

impl Link {
    /// Returns where the app's link lies on disk.
    #[must_use]
    pub fn path(self, layout: &Layout, app: &AppName) -> PathBuf {
        let directory = match self {
            Self::Active => "active",
            Self::Committed => "committed",
            Self::Previous => "previous",
        };
        layout.links(directory).join(app.as_str())
    }

    /// Returns where the record beside the link lies on disk, see [`crate::record`]. App names have no dot.
    #[must_use]
    pub fn record(self, layout: &Layout, app: &AppName) -> PathBuf {
        self.path(layout, app).with_extension("json")
    }
}

/// A venv's name and the directory it lies in, as a link names it. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VenvPath {
    name: VenvName,
    base: PathBuf,
}

impl VenvPath {
    /// Returns the path of a venv that is built here.
    #[must_use]
    pub fn local(layout: &Layout, name: VenvName) -> Self {
        Self {
            name,
            base: layout.own_venvs(),
        }
    }

    /// Returns the venv's path if one exists in any of the venv directories, those that are built here first.
    #[must_use]
    pub fn find(layout: &Layout, name: &VenvName) -> Option<Self> {
        let mut candidates = layout.venv_directories().iter().map(|base| Self {
            name: name.clone(),
            base: base.clone(),
        });
        candidates.find(|candidate| layout.on_disk(candidate.path()).is_dir())
    }

    /// Reads a link's target: `<venv directory>/<app>/<tag>` and nothing else.
    #[must_use]
    pub fn parse(layout: &Layout, target: &Path) -> Option<Self> {
        layout.venv_directories().iter().find_map(|base| {
            let mut parts = target.strip_prefix(base).ok()?.iter();
            let (app, tag) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
            let name = VenvName::new(app.parse().ok()?, tag.parse().ok()?).ok()?;
            let base = base.clone();
            parts.next().is_none().then_some(Self { name, base })
        })
    }

    /// Reads a path that was written down from [`VenvPath::path`], whoever's venvs they were; [`VenvPath::is_of`] says
    /// whether it is one of a layout's.
    #[must_use]
    pub fn recorded(path: &Path) -> Option<Self> {
        let tag = path.file_name()?.to_str()?.parse().ok()?;
        let directory = path.parent()?;
        let app = directory.file_name()?.to_str()?.parse().ok()?;
        let name = VenvName::new(app, tag).ok()?;
        let base = directory.parent()?.to_owned();
        base.is_absolute().then_some(Self { name, base })
    }

    /// Returns whether it lies in one of a layout's venv directories.
    #[must_use]
    pub fn is_of(&self, layout: &Layout) -> bool {
        layout.venv_directories().contains(&self.base)
    }

    /// Returns whether it comes with a package: it is nothing that is built, changed or removed here.
    #[must_use]
    pub fn is_packaged(&self, layout: &Layout) -> bool {
        self.base != layout.own_venvs()
    }

    /// Returns the venv's name.
    #[must_use]
    pub fn name(&self) -> &VenvName {
        &self.name
    }

    /// Returns the venv's directory, as a path of the host.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.base.join(self.name.relative())
    }

    /// Returns the directory of its programs, as a path of the host.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.path().join("bin")
    }
}

/// Why a link says nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// It leads to something that is no tagged venv of this app.
    #[error(
        "{link:?} leads to {target:?}, which is no venv of {app}; it must be {}/{app}/TAG \
         (`venvctl list {app}` shows the tags)",
        venvs.display()
    )]
    Foreign {
        /// The link, on disk.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// The app.
        app: AppName,
        /// The directory of venvs.
        venvs: PathBuf,
    },
}

/// Reads an app's link, by readlink alone: what it leads to may not be mounted yet.
///
/// # Errors
/// When it is there but can't be read, or names no venv of this app.
pub fn read(layout: &Layout, link: Link, app: &AppName) -> Result<Option<VenvPath>, LinkError> {
    let path = link.path(layout, app);
    let target = match fs::read_link(&path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("read the link", &path).map_err(LinkError::Io),
    };
    match VenvPath::parse(layout, &target) {
        Some(venv) if venv.name().app() == app => Ok(Some(venv)),
        _ => Err(LinkError::Foreign {
            link: path,
            target,
            app: app.clone(),
            venvs: layout.own_venvs(),
        }),
    }
}

/// Points an app's link at a venv, or removes it, by one rename. Only for who holds the app's lock.
///
/// # Errors
/// When it can't be written; the old link is then still there.
pub fn set(layout: &Layout, link: Link, app: &AppName, venv: Option<&VenvPath>) -> Result<(), venvd_fs::Error> {
    let path = link.path(layout, app);
    match venv {
        Some(venv) => atomic::symlink(&venv.path(), &path)?,
        None => atomic::remove(&path)?,
    };
    // What a process that was killed had begun to make.
    atomic::sweep(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn parses_tagged_directories_only() {
        let layout = Layout::new(Root::at("/r"));
        for good in [
            "/var/lib/venvd/venvs/nova/29.2.0",
            "/usr/lib/venvd/venvs/nova/29.2.0/",
            "/var/lib/venvd/venvs//nova/1",
        ] {
            assert!(VenvPath::parse(&layout, Path::new(good)).is_some(), "{good}");
        }
        for bad in [
            "/var/lib/venvd/venvs/nova",
            "/var/lib/venvd/venvs/nova/1/bin",
            "/var/lib/venvd/venvs/nova/../1",
            "/var/lib/venvd/venvs/../nova/1",
            "var/lib/venvd/venvs/nova/1",
            "/srv/nova/1",
            "/var/lib/venvd/venvs/Nova/1",
            "",
        ] {
            assert!(VenvPath::parse(&layout, Path::new(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_user_has_venvs_of_his_own_and_those_of_packages_but_none_of_the_hosts() {
        let user = crate::scope::UserPlaces {
            config_home: "/home/alice/.config".into(),
            data_home: "/home/alice/.local/share".into(),
            runtime: "/run/user/1000".into(),
            uid: 1000,
        };
        let layout = Layout::user(Root::host(), &user);
        let own = VenvPath::parse(&layout, Path::new("/home/alice/.local/share/venvd/venvs/nova/1")).unwrap();
        assert_eq!(own, VenvPath::local(&layout, "nova:1".parse().unwrap()));
        assert!(!own.is_packaged(&layout));
        let packaged = VenvPath::parse(&layout, Path::new("/usr/lib/venvd/venvs/nova/1")).unwrap();
        assert!(packaged.is_packaged(&layout));
        for foreign in [
            "/var/lib/venvd/venvs/nova/1",
            "/home/bob/.local/share/venvd/venvs/nova/1",
        ] {
            assert!(VenvPath::parse(&layout, Path::new(foreign)).is_none(), "{foreign}");
        }
    }

    #[test]
    fn sets_and_reads_links() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let app: AppName = "nova".parse().unwrap();
        assert!(read(&layout, Link::Committed, &app).unwrap().is_none());
        let venv = VenvPath::local(&layout, "nova:1".parse().unwrap());
        set(&layout, Link::Committed, &app, Some(&venv)).unwrap();
        assert_eq!(read(&layout, Link::Committed, &app).unwrap(), Some(venv));
        set(&layout, Link::Committed, &app, None).unwrap();
        assert!(read(&layout, Link::Committed, &app).unwrap().is_none());
        let other = VenvPath::local(&layout, "glance:1".parse().unwrap());
        set(&layout, Link::Active, &app, Some(&other)).unwrap();
        assert!(matches!(
            read(&layout, Link::Active, &app),
            Err(LinkError::Foreign { .. })
        ));
    }
}
