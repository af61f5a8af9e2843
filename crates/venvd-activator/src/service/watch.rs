//! Notices that what the objects of apps say may have changed, whoever changed it: definitions, links, freezing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::Notify;
use venvd_app::Layout;

/// Changes that come this soon after another one are looked at together with it.
const COALESCE: Duration = Duration::from_millis(50);

/// How long a watch that failed is left alone before it is set up anew.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// Begins to watch; look after this, not before, and whenever something is notified. It wakes nobody while nothing changes.
///
/// Where it can't be set up, changes are noticed when a job comes along.
pub(super) fn watch(layout: &Layout) -> Arc<Notify> {
    let changed = Arc::new(Notify::new());
    let (told, layout) = (Arc::clone(&changed), layout.clone());
    let begun = arm(&layout).map_err(std::io::Error::from).and_then(|armed| {
        std::thread::Builder::new()
            .name("watch-apps".to_owned())
            .spawn(move || follow(&layout, armed, &told))
    });
    if let Err(error) = begun {
        tracing::warn!("changes of definitions are noticed late: {error}");
    }
    changed
}

fn follow(layout: &Layout, mut armed: Inotify, changed: &Notify) {
    loop {
        match armed.read_events() {
            Ok(_) => std::thread::sleep(COALESCE),
            Err(Errno::EINTR) => continue,
            Err(errno) => {
                tracing::warn!("changes of definitions are noticed late: {errno}");
                std::thread::sleep(WATCH_AGAIN);
            }
        }
        // Anew: directories may have come and gone. All that happens from here on is an event again.
        match arm(layout) {
            Ok(again) => armed = again,
            Err(errno) => tracing::warn!("changes of definitions are noticed late: {errno}"),
        }
        changed.notify_one();
    }
}

fn arm(layout: &Layout) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let what = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    for directory in directories(layout) {
        match inotify.add_watch(&directory, what) {
            Ok(_) => {}
            // It, or what it hangs on, is made later: that is an event in the directory above.
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(inotify)
}

/// Returns what to watch: each directory, the one above it for when it is made, and those of fragments.
fn directories(layout: &Layout) -> Vec<PathBuf> {
    let on_disk = |directory: &PathBuf| layout.on_disk(directory);
    let definitions: Vec<_> = layout.definition_directories().iter().map(on_disk).collect();
    let links = ["active", "committed", "previous", "frozen"].map(|name| layout.links(name));
    let mut all: Vec<_> = definitions.iter().flat_map(|directory| fragments(directory)).collect();
    for directory in definitions.into_iter().chain(links) {
        all.extend(directory.parent().map(Path::to_owned));
        all.push(directory);
    }
    all.sort();
    all.dedup();
    all
}

fn fragments(directory: &Path) -> Vec<PathBuf> {
    // One that can't be listed has none.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "d"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use venvd_fs::Root;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn whatever_matters_is_noticed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        fs::create_dir_all(root.join("etc/venvd")).unwrap();
        let changed = watch(&Layout::new(Root::at(&root)));
        let etc = |name: &str| root.join("etc/venvd").join(name);
        let steps: [(&str, &dyn Fn()); 9] = [
            ("the directory of definitions", &|| fs::create_dir(etc("apps")).unwrap()),
            ("a definition", &|| fs::write(etc("apps/nova.toml"), "").unwrap()),
            ("fragments", &|| fs::create_dir(etc("apps/nova.toml.d")).unwrap()),
            ("a fragment", &|| {
                fs::write(etc("apps/nova.toml.d/50-enabled.toml"), "").unwrap();
            }),
            ("links", &|| fs::create_dir(etc("active")).unwrap()),
            ("a link", &|| symlink("v1", etc("active/nova")).unwrap()),
            ("freezing", &|| fs::create_dir(etc("frozen")).unwrap()),
            ("a freeze", &|| fs::write(etc("frozen/nova"), "").unwrap()),
            ("a definition goes", &|| {
                fs::remove_file(etc("apps/nova.toml")).unwrap();
            }),
        ];
        for (what, step) in steps {
            assert!(
                tokio::time::timeout(2 * COALESCE, changed.notified()).await.is_err(),
                "nothing before {what}"
            );
            step();
            let noticed = tokio::time::timeout(SOON, changed.notified()).await;
            assert!(noticed.is_ok(), "{what}");
        }
    }
}
