//! Which venv a path of a process is in.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, ffi::OsStr};

use venvd_app::links::VenvPath;
use venvd_app::{Layout, Scope};

/// What proc(5) appends to the path of a file that has been removed. No tag has a blank.
const DELETED: &[u8] = b" (deleted)";

/// The directories of venvs, under all names by which a process may call them.
#[derive(Debug)]
pub(super) struct Places {
    layout: Layout,
    directories: Vec<Directory>,
    /// The mount namespace of this process.
    namespace: Option<PathBuf>,
}

#[derive(Debug)]
struct Directory {
    /// With a slash at the end.
    prefix: Vec<u8>,
    /// As a path of the host.
    base: PathBuf,
    /// Whether the path is that of this process; else of one whose root is the layout's.
    ours: bool,
}

/// How a process sees files.
#[derive(Debug)]
pub(super) struct View {
    /// Its root, as a path that leads there from here.
    root: PathBuf,
    /// Whether a path means the same to it as to this process.
    same: bool,
    known: BTreeMap<VenvPath, bool>,
}

impl Places {
    pub(super) fn new(layout: &Layout, proc: &Path, own: u32) -> Self {
        let mut directories = Vec::new();
        for base in layout.venv_directories() {
            let on_disk = layout.on_disk(base);
            // The kernel tells paths without links: /var/lib may be one.
            let real = fs::canonicalize(&on_disk).ok().filter(|real| *real != on_disk);
            for path in [Some(on_disk), real].into_iter().flatten() {
                directories.push(Directory::new(&path, base, true));
            }
            if !layout.root().is_host() {
                directories.push(Directory::new(base, base, false));
            }
        }
        Self {
            layout: layout.clone(),
            directories,
            namespace: namespace(proc, own),
        }
    }

    /// Returns whose venvs are looked for.
    pub(super) fn scope(&self) -> Scope {
        self.layout.scope()
    }

    /// Returns how a process sees files.
    pub(super) fn view(&self, proc: &Path, pid: u32, root: Option<&Path>) -> View {
        View {
            root: super::of(proc, pid).join("root"),
            same: root.is_none_or(|root| root == Path::new("/")) && namespace(proc, pid) == self.namespace,
            known: BTreeMap::new(),
        }
    }

    /// Returns whether a path could be in a venv: cheap, for the many that are not.
    pub(super) fn may_be(&self, path: &[u8]) -> bool {
        self.directories
            .iter()
            .any(|directory| path.starts_with(&directory.prefix))
    }

    /// Returns the venv that a path of a process is in.
    pub(super) fn venv(&self, path: &[u8], view: &mut View) -> Option<VenvPath> {
        let path = path.strip_suffix(DELETED).unwrap_or(path);
        self.directories.iter().find_map(|directory| {
            let rest = path.strip_prefix(directory.prefix.as_slice())?;
            let mut parts = rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
            let relative = Path::new(OsStr::from_bytes(parts.next()?)).join(OsStr::from_bytes(parts.next()?));
            let venv = VenvPath::parse(&self.layout, &directory.base.join(&relative))?;
            let seen = Path::new(OsStr::from_bytes(&directory.prefix)).join(relative);
            self.is_ours(&venv, &seen, (directory, view)).then_some(venv)
        })
    }

    /// A container has paths of the same names: there, only the very same directory counts.
    fn is_ours(&self, venv: &VenvPath, seen: &Path, (directory, view): (&Directory, &mut View)) -> bool {
        if view.same {
            return directory.ours;
        }
        if let Some(known) = view.known.get(venv) {
            return *known;
        }
        let relative = seen.strip_prefix("/").unwrap_or(seen);
        let ours = match (
            identity(&view.root.join(relative)),
            identity(&self.layout.on_disk(venv.path())),
        ) {
            (Some(theirs), Some(ours)) => theirs == ours,
            // It may be in use though it can't be reached by that name any more.
            _ => directory.ours,
        };
        view.known.insert(venv.clone(), ours);
        ours
    }
}

impl Directory {
    fn new(path: &Path, base: &Path, ours: bool) -> Self {
        let mut prefix = path.as_os_str().as_bytes().to_owned();
        prefix.push(b'/');
        Self {
            prefix,
            base: base.to_owned(),
            ours,
        }
    }
}

fn namespace(proc: &Path, pid: u32) -> Option<PathBuf> {
    fs::read_link(super::of(proc, pid).join("ns/mnt")).ok()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
