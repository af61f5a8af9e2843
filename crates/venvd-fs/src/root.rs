use std::path::{Component, Path, PathBuf};

/// The directory below which venvd works: `/` on a running host, an image or a test's directory elsewhere.
///
/// Paths that end up *inside* files (units, policies, links) are always those of the running host; only where they
/// are read or written does the root come in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// Returns the root of the running host.
    #[must_use]
    pub fn host() -> Self {
        Self(PathBuf::from("/"))
    }

    /// Returns a root at `directory`.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Returns whether this is the running host's own root.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Returns the directory itself.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Returns where the host's absolute `path` is found below this root.
    ///
    /// `..` never leaves the root: it is dropped, as `chroot(2)` would do at the top.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let mut joined = self.0.clone();
        for component in path.as_ref().components() {
            if let Component::Normal(name) = component {
                joined.push(name);
            }
        }
        joined
    }

    /// Returns the host's path for a `path` below this root; the path unchanged when it is not below it.
    #[must_use]
    pub fn on_host(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.0) {
            Ok(rest) => Path::new("/").join(rest),
            Err(_) => path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_strips() {
        let root = Root::at("/srv/image");
        assert_eq!(root.join("/etc/venvd"), Path::new("/srv/image/etc/venvd"));
        assert_eq!(root.join("/../etc"), Path::new("/srv/image/etc"));
        assert_eq!(root.on_host(Path::new("/srv/image/etc/venvd")), Path::new("/etc/venvd"));
        assert_eq!(Root::host().join("/etc"), Path::new("/etc"));
    }
}
