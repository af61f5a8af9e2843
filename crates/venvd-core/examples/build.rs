//! Builds the venv of an app below a root: `build ROOT APP [TAG] [LOCK] [UV]`, `-` leaves a word out.
//!
//! For trying the crate by hand; the definition is read from `ROOT/etc/venvd/apps/APP.toml`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use venvd_app::links::VenvPath;
use venvd_app::{Layout, search};
use venvd_core::build::{Progress, Request, Stage};
use venvd_core::{Manifest, preflight};
use venvd_fs::Root;

struct Lines(Instant);

impl Progress for Lines {
    fn report(&mut self, stage: Stage, detail: &str) {
        eprintln!("{:6.2} {stage:?} {detail}", self.0.elapsed().as_secs_f64());
    }

    fn distribution(&mut self, stage: Stage, name: &str) {
        self.report(stage, name);
    }

    fn heard(&mut self, stage: Stage, line: &str) {
        self.report(stage, &format!("| {line}"));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<Option<String>> = std::env::args()
        .skip(1)
        .map(|word| Some(word).filter(|word| word != "-"))
        .collect();
    let word = |index: usize| words.get(index).cloned().flatten();
    let (Some(root), Some(app)) = (word(0), word(1)) else {
        return Err("usage: build ROOT APP [TAG] [LOCK] [UV]".into());
    };
    let layout = Layout::new(Root::at(Path::new(&root).canonicalize()?));
    let mut request = Request::new(search::load_app(&layout, &app.parse()?)?);
    request.tag = word(2).map(|tag| tag.parse()).transpose()?;
    request.lock = word(3).map(PathBuf::from);
    request.uv = word(4).map(PathBuf::from);
    let settings = search::load_settings(&layout)?;
    let start = Instant::now();
    let result = venvd_core::build(&layout, &settings, &request, &mut Lines(start));
    let built = result.map_err(|error| format!("{}: {}", error.code(), venvd_fs::report(&error)))?;
    eprintln!("{:6.2} {built:?}", start.elapsed().as_secs_f64());
    check(&layout, &built.venv)
}

fn check(layout: &Layout, venv: &VenvPath) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let manifest: Manifest = preflight::check(layout, venv, &[]).map_err(|error| venvd_fs::report(&error))?;
    eprintln!(
        "preflight {:.3} s: {} distributions, {} programs, {} files, {} MiB, glibc {:?}, manifest {}",
        start.elapsed().as_secs_f64(),
        manifest.distributions.len(),
        manifest.programs.len(),
        manifest.files.len(),
        manifest.size() >> 20,
        manifest.glibc,
        manifest.digest(),
    );
    Ok(())
}
