//! The unit files of a host as its systemd has them, with what generators wrote.

use std::path::Path;

use venvd_app::{Layout, Scope};
use venvd_unit::{UnitFiles, UserDirectories, search_path};

/// The name of the generator's drop-ins.
pub(crate) const DROP_IN: &str = "zz-venvd.conf";

/// Reads the directories of units, those of generators among them.
pub(crate) fn scan(layout: &Layout) -> UnitFiles {
    let directories = match layout.scope() {
        Scope::System => search_path::directories_with_generated(),
        Scope::User => {
            let generated = layout.root().on_host(&layout.generated());
            UserDirectories::new(|name| std::env::var_os(name)).with_generated(&generated)
        }
    };
    UnitFiles::scan_directories(layout.root().directory(), &directories)
}

/// Returns whether a generator wrote the host's file.
pub(crate) fn is_generated(layout: &Layout, path: &Path) -> bool {
    path.starts_with(layout.root().on_host(&layout.generated()))
}

/// Returns whether it is a drop-in of ours.
pub(crate) fn is_our_drop_in(layout: &Layout, path: &Path) -> bool {
    is_generated(layout, path) && path.file_name().is_some_and(|name| name == DROP_IN)
}
