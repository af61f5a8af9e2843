//! A venv built once more from the lock in its manifest, below a root of its own.

use std::path::PathBuf;

use venvd_app::links::VenvPath;
use venvd_app::{Layout, search};
use venvd_fs::{IoContext, Root, atomic};

use crate::build::{self, Progress, Request, Staging};
use crate::error::Error;

use super::Work;

/// A rebuilt venv; it goes with this.
pub(super) struct Rebuilt {
    pub(super) directory: PathBuf,
    _staging: Staging,
}

/// Builds the venv anew, as the app's definition says, from the manifest's own lock.
///
/// Its path below that root is the same as on the host, so that its files are the same too.
pub(super) fn rebuild(work: &Work<'_>, progress: &mut dyn Progress) -> Result<Rebuilt, Box<dyn std::error::Error>> {
    let Work {
        layout,
        venv,
        manifest,
        request: asked,
    } = *work;
    let mut app = search::load_app(layout, venv.name().app())?;
    let settings = search::load_settings(layout)?;
    let staging = Staging::open(layout, venv.name().app())?;
    let root = staging.directory().join("root");
    atomic::create_directories(&root.join("etc"), 0o755)?;
    let lock = root.join(format!("lock.{}", manifest.lock.format.extension()));
    atomic::write(&lock, manifest.lock.text.as_bytes(), 0o644)?;
    // The definition's paths are the host's, not those of the root that is built below.
    let places = std::mem::take(&mut app.build.index.find_links);
    let (local, remote): (Vec<_>, Vec<_>) = places.into_iter().partition(|place| place.starts_with('/'));
    app.build.index.find_links = remote;
    app.build.python.clone_from(&manifest.python.interpreter);
    let mut request = Request::new(app);
    request.find_links = local.iter().map(|place| layout.on_disk(place.as_str())).collect();
    request.tag = Some(venv.name().tag().clone());
    request.lock = Some(lock);
    request.interrupt = asked.interrupt.clone();
    let below = Layout::new(Root::at(&root));
    if let Err(error) = build::build(&below, &settings, &request, progress) {
        return Err(Box::new(keep_log(error, layout, venv)?));
    }
    Ok(Rebuilt {
        directory: below.on_disk(venv.path()),
        _staging: staging,
    })
}

/// Keeps the log of a failed rebuild where that of a build is kept, and says so: its own place goes.
fn keep_log(mut error: Error, layout: &Layout, venv: &VenvPath) -> Result<Error, venvd_fs::Error> {
    let mut innermost = &mut error;
    while let Error::Hinted { error, .. } = innermost {
        innermost = error;
    }
    if let Error::Step { log, .. } = innermost {
        let kept = layout.staging().join(format!("{}.log", venv.name().app()));
        std::fs::rename(&*log, &kept).at("keep the log as", &kept)?;
        *log = kept;
    }
    Ok(error)
}
