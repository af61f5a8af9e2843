//! Venvs that must not run any more, because an administrator said so: a file of the venv's name in `/etc`, where the
//! generator can see it. What it says is for people; that it is there is what counts.

use std::fs;
use std::io;

use crate::Layout;
use crate::name::VenvName;

/// Returns whether a venv must not run any more.
#[must_use]
pub fn is_revoked(layout: &Layout, venv: &VenvName) -> bool {
    match fs::symlink_metadata(layout.revoked(venv)) {
        Ok(_) => true,
        // Where it can't be told, what may be unsafe does not run.
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use venvd_fs::Root;

    #[test]
    fn whatever_is_there_counts() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let venv: VenvName = "nova:1".parse().unwrap();
        let path = layout.revoked(&venv);
        assert!(!is_revoked(&layout, &venv));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(!is_revoked(&layout, &venv));
        fs::write(&path, "").unwrap();
        assert!(is_revoked(&layout, &venv));
        fs::remove_file(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        assert!(is_revoked(&layout, &venv), "also a link that leads nowhere");
        assert!(!is_revoked(&layout, &"nova:2".parse().unwrap()));
    }
}
