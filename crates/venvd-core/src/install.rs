//! A sealed venv from a directory: of another root, another host, a medium, or of this host under another name.
//!
//! The directory is somebody else's: its manifest says what there should be, and anything else in it is refused. What is
//! in the store already is not copied; the rest is hashed while it is. Bytecode is believed without a look at its source
//! (DESIGN 4.6), so that of a foreign directory must be what the sources compile to here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use venvd_app::links::VenvPath;
use venvd_app::{Layout, VenvName};
use venvd_fs::lock::Lock as FileLock;
use venvd_fs::{IoContext, atomic};

use crate::build::{Interrupt, Outcome, Progress, Stage, Staging};
use crate::error::Error;
use crate::lock::Lock;
use crate::manifest::{self, File, LOG, Manifest};
use crate::place::{self, Material};
use crate::relocate::{self, Moved};
use crate::store::{Check, Store};
use crate::{Interpreter, seal, space, verify};

mod bytecode;
mod same;
pub(crate) mod source;

use source::Source;

/// What to install, and how.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The directory of a sealed venv, on disk.
    pub from: &'a Path,
    /// The name to install it under; none for its own.
    pub name: Option<VenvName>,
    /// What may end the install before its end.
    pub interrupt: Interrupt,
}

impl<'a> Request<'a> {
    /// Returns the request to install a directory under its venv's own name.
    #[must_use]
    pub fn new(from: &'a Path) -> Self {
        Self {
            from,
            name: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// What came of an install.
#[derive(Debug)]
pub struct Installed {
    /// Name and place.
    pub venv: VenvPath,
    /// Whether anything had to be done.
    pub outcome: Outcome,
    /// Files that share their content with what was here before.
    pub shared: u64,
    /// The bytes of these.
    pub shared_bytes: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Bytecode that is another with this host's patch version of Python, and was taken from here.
    pub recompiled: u64,
}

/// Places a sealed venv on this host.
///
/// # Errors
/// When the directory is not exactly what its manifest says, does not fit this host, or the name is taken by another content.
/// What was there before is as it was.
pub fn install(layout: &Layout, request: &Request<'_>, progress: &mut dyn Progress) -> Result<Installed, Error> {
    let source = Source::open(layout, request.from)?;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => source.manifest.name()?,
    };
    let venv = VenvPath::local(layout, name);
    let interpreter = source.interpreter(venv.name())?;
    let mut moved = relocate::move_to(&source.manifest, &venv, &mut |file| source.read(file))?;
    moved.manifest.created = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    if let Some(installed) = there(layout, &venv, &moved.manifest)? {
        return Ok(installed);
    }
    check_lock(layout, &source, &moved.manifest)?;
    let work = Work {
        layout,
        interrupt: &request.interrupt,
        source,
        interpreter,
        venv,
        staging: Staging::open(layout, moved.manifest.name()?.app())?,
    };
    work.install(moved, progress)
}

/// Refuses a lock that is none, or another one than is kept for the tag: later builds are made from what is kept.
fn check_lock(layout: &Layout, source: &Source, manifest: &Manifest) -> Result<(), Error> {
    let format = manifest.lock.format;
    let new = Lock::parse(Path::new(manifest::PATH), format, manifest.lock.text.clone());
    let foreign = |reason: String| Error::Foreign {
        directory: source.tree.path().to_owned(),
        reasons: vec![reason],
    };
    let new = new.map_err(|error| foreign(format!("its lock is none: {error}")))?;
    // By the digest a build finds that its venv is there already.
    if let Some(finding) = verify::digest_of(manifest) {
        return Err(foreign(finding.to_string()));
    }
    let path = kept_lock(layout, manifest);
    let Some(bytes) = atomic::read(&path)? else {
        return Ok(());
    };
    let differences = match String::from_utf8(bytes).map(|text| Lock::parse(&path, format, text)) {
        Ok(Ok(kept)) => new.differences(&kept),
        _ => vec!["it can't be read".to_owned()],
    };
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::KeptLock {
        venv: manifest.name()?,
        path,
        differences,
    })
}

fn kept_lock(layout: &Layout, manifest: &Manifest) -> PathBuf {
    let name = format!("{}.{}", manifest.tag, manifest.lock.format.extension());
    layout.locks(&manifest.app).join(name)
}

/// Returns the venv if it is there with this content.
fn there(layout: &Layout, venv: &VenvPath, manifest: &Manifest) -> Result<Option<Installed>, Error> {
    let Some(present) = VenvPath::find(layout, venv.name()) else {
        return Ok(None);
    };
    let directory = layout.on_disk(present.path());
    let sealed = Manifest::load(&directory).map_err(|error| Error::NotSealed {
        path: directory,
        reason: error.to_string(),
    })?;
    let differences = same::differences(&sealed, manifest);
    if !differences.is_empty() {
        return Err(Error::OtherContent {
            venv: venv.name().clone(),
            differences,
        });
    }
    Ok(Some(Installed {
        venv: present,
        outcome: Outcome::AlreadyThere,
        shared: 0,
        shared_bytes: 0,
        copied: 0,
        recompiled: 0,
    }))
}

struct Work<'a> {
    layout: &'a Layout,
    interrupt: &'a Interrupt,
    source: Source,
    interpreter: Interpreter,
    venv: VenvPath,
    staging: Staging,
}

impl Work<'_> {
    fn install(self, mut moved: Moved, progress: &mut dyn Progress) -> Result<Installed, Error> {
        let tree = self.staging.tree();
        let store = Store::open(self.layout)?;
        space::require(&tree, store.missing(&moved.manifest.files)?)?;
        progress.report(
            Stage::Copy,
            &format!(
                "{} files, {} MiB",
                moved.manifest.files.len(),
                moved.manifest.size() >> 20
            ),
        );
        let material = Material {
            store: &store,
            check: Check::Content,
            source: Some(&self.source.tree),
        };
        let mut placed = {
            // Lest objects are swept between the look at them and the link to them.
            let _store = FileLock::exclusive(&self.layout.store_lock())?;
            self.interrupt.check()?;
            place::fill(&moved, &tree, &material)?
        };
        self.interrupt.check()?;
        let mut recompiled = Vec::new();
        if !self.source.own {
            progress.report(Stage::Compile, "");
            let compiled = self.compile(&mut moved.manifest);
            // A Ctrl-C goes to the compilers too: that they failed is not what is to be told.
            self.interrupt.check()?;
            recompiled = compiled?;
            let again = |file: &File| recompiled.iter().find(|new| new.path == file.path).cloned();
            placed.copied.retain(|file| again(file).is_none());
            placed.copied.extend(recompiled.iter().cloned());
        }
        self.interrupt.check()?;
        progress.report(Stage::Seal, "");
        place::write_manifest(&tree, &moved.manifest)?;
        self.write_log()?;
        self.check(&moved.manifest)?;
        sync(&tree)?;
        self.interrupt.check()?;
        let installed = Installed {
            venv: self.venv.clone(),
            outcome: Outcome::New,
            shared: placed.shared,
            shared_bytes: placed.shared_bytes,
            copied: placed.copied.len() as u64,
            recompiled: recompiled.len() as u64,
        };
        self.put_in_place(&moved.manifest, &store, &placed.copied)
            .map(|present| present.unwrap_or(installed))
    }

    /// Replaces the bytecode that this host's Python compiles to something else.
    fn compile(&self, manifest: &mut Manifest) -> Result<Vec<File>, Error> {
        let scratch = self.staging.directory().join("scratch");
        atomic::create_directories(&scratch, 0o755)?;
        let new =
            bytecode::compare(&self.staging.tree(), manifest, &self.interpreter, &scratch).map_err(
                |error| match error {
                    bytecode::Error::Other(error) => *error,
                    bytecode::Error::Untrue(reasons) => Error::Foreign {
                        directory: self.source.tree.path().to_owned(),
                        reasons,
                    },
                },
            )?;
        fs::remove_dir_all(&scratch).at("remove", &scratch)?;
        Ok(new)
    }

    /// Says where the venv is from, in the place of a build's log: that of a foreign build is not taken over.
    fn write_log(&self) -> Result<(), Error> {
        let path = self.staging.tree().join(LOG);
        let text = format!("installed from {}\n", self.source.tree.path().display());
        // As a build's: for root only.
        atomic::write(&path, text.as_bytes(), 0o600)?;
        Ok(())
    }

    /// Reads everything once more: what is on the disk now is what counts.
    fn check(&self, manifest: &Manifest) -> Result<(), Error> {
        let tree = self.staging.tree();
        let mut report = verify::tree(&tree, manifest, &verify::Silent);
        // A manifest may hide from us that a script names a place.
        report.findings.extend(verify::prefixes(&tree, &self.venv, manifest));
        if report.findings.is_empty() {
            return Ok(());
        }
        Err(Error::Foreign {
            directory: self.source.tree.path().to_owned(),
            reasons: report
                .findings
                .iter()
                .map(|finding| format!("its copy is not what its manifest says, {finding}"))
                .collect(),
        })
    }

    /// The one rename by which the venv is there. Returns what somebody else has installed meanwhile.
    fn put_in_place(&self, manifest: &Manifest, store: &Store, new: &[File]) -> Result<Option<Installed>, Error> {
        let (tree, target) = (self.staging.tree(), self.layout.on_disk(self.venv.path()));
        let _store = FileLock::exclusive(&self.layout.store_lock())?;
        if let Some(installed) = there(self.layout, &self.venv, manifest)? {
            return Ok(Some(installed));
        }
        store.share(&tree, new)?;
        seal::set_times(&tree, manifest)?;
        sync(&tree)?;
        let kept = kept_lock(self.layout, manifest);
        let had_lock = atomic::read(&kept)?.is_some();
        self.interrupt.check()?;
        atomic::write(&kept, manifest.lock.text.as_bytes(), 0o644)?;
        if let Err(error) = rename(&tree, &target) {
            if !had_lock {
                // A lock without its venv would stand in the way of another under this tag.
                fs::remove_file(&kept).at("remove", &kept)?;
            }
            return Err(error);
        }
        Ok(None)
    }
}

fn rename(tree: &Path, target: &Path) -> Result<(), Error> {
    if let Some(parent) = target.parent() {
        atomic::create_directories(parent, 0o755)?;
    }
    Ok(atomic::rename_new(tree, target)?)
}

/// One call for thousands of files: each fsync would wait for the journal by itself.
fn sync(tree: &Path) -> Result<(), Error> {
    let directory = fs::File::open(tree).at("open", tree)?;
    rustix::fs::syncfs(&directory).at("sync the file system of", tree)?;
    Ok(())
}
