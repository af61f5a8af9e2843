//! The unit files of a host as its systemd has them, with what generators wrote.

use std::path::{Path, PathBuf};

use venvd_app::{Layout, Scope};
use venvd_unit::search_path::SYSTEM_DIRECTORIES;
use venvd_unit::{UnitFiles, UserDirectories};

/// The name of the generator's drop-ins.
pub(crate) const DROP_IN: &str = "zz-venvd.conf";

/// In front of which directories those of generators come: systemd.unit(5), `lookup_paths_init()`.
const GENERATED: [(&str, &str); 2] = [
    ("/etc/systemd/system", "/run/systemd/generator.early"),
    ("/usr/local/lib/systemd/system", "/run/systemd/generator"),
];

/// And the one that comes last.
const GENERATED_LATE: &str = "/run/systemd/generator.late";

/// Reads the directories of units, those of generators among them.
pub(crate) fn scan(layout: &Layout) -> UnitFiles {
    let directories = match layout.scope() {
        Scope::System => system_directories(),
        Scope::User => {
            let generated = layout.root().on_host(&layout.generated());
            UserDirectories::new(|name| std::env::var_os(name)).with_generated(&generated)
        }
    };
    UnitFiles::scan_directories(layout.root().directory(), &directories)
}

fn system_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for directory in SYSTEM_DIRECTORIES {
        let before = GENERATED.iter().filter(|(other, _)| *other == directory);
        directories.extend(before.map(|(_, generated)| PathBuf::from(generated)));
        directories.push(PathBuf::from(directory));
    }
    directories.push(PathBuf::from(GENERATED_LATE));
    directories
}

/// Returns whether a generator wrote the host's file.
pub(crate) fn is_generated(layout: &Layout, path: &Path) -> bool {
    path.starts_with(layout.root().on_host(&layout.generated()))
}

/// Returns whether it is a drop-in of ours.
pub(crate) fn is_our_drop_in(layout: &Layout, path: &Path) -> bool {
    is_generated(layout, path) && path.file_name().is_some_and(|name| name == DROP_IN)
}
