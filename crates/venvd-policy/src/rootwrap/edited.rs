//! Which files venvd put venvs into, written down: one that the definition names no more has to be put back, too.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use venvd_app::{AppName, Layout};
use venvd_fs::atomic;

use crate::listing::names;

/// What the file says for people. Paths begin with a slash, so this is none.
const TITLE: &str = "# rootwrap.conf files whose exec_dirs venvd changed, and is to put back\n";

/// The files of an app, as real paths of the host.
///
/// At every moment the record names all files that are changed: it grows before the first edit and shrinks after the last.
#[derive(Debug)]
pub(crate) struct EditedConfs {
    /// Where that is written down.
    pub(crate) path: PathBuf,
    /// What is written there now.
    pub(crate) before: BTreeSet<PathBuf>,
    /// What is to be written there afterwards.
    pub(crate) after: BTreeSet<PathBuf>,
}

impl EditedConfs {
    /// Reads what is written down, with nothing to be written yet.
    pub(crate) fn read(layout: &Layout, app: &AppName) -> Result<Self, venvd_fs::Error> {
        let path = layout.edited_rootwrap_confs(app);
        let text = atomic::read(&path)?.unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n').map(OsStr::from_bytes).map(Path::new);
        let before = lines.filter(|line| line.is_absolute()).map(Path::to_path_buf).collect();
        Ok(Self {
            path,
            before,
            after: BTreeSet::new(),
        })
    }

    /// Writes down what is about to be edited, beside what was.
    pub(crate) fn begin(&self) -> Result<(), venvd_fs::Error> {
        let all: BTreeSet<_> = self.before.union(&self.after).collect();
        self.write(all)
    }

    /// Forgets what has been put back.
    pub(crate) fn finish(&self) -> Result<(), venvd_fs::Error> {
        if self.after.is_empty() && !self.before.is_empty() {
            return atomic::remove(&self.path).map(drop);
        }
        self.write(&self.after)
    }

    fn write<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), venvd_fs::Error> {
        let lines = paths
            .into_iter()
            .map(|path| [path.as_os_str().as_bytes(), b"\n"].concat());
        let lines = lines.collect::<Vec<_>>().concat();
        if lines.is_empty() {
            return Ok(());
        }
        atomic::write(&self.path, &[TITLE.as_bytes(), &lines].concat(), 0o644).map(drop)
    }
}

/// Returns the apps that have such files.
pub(crate) fn apps(layout: &Layout) -> Result<Vec<AppName>, venvd_fs::Error> {
    let app = |name: &OsString| name.to_str()?.strip_suffix(".edited")?.parse().ok();
    Ok(names(&layout.rootwrap())?.iter().filter_map(app).collect())
}
