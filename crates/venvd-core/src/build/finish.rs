//! From what the installer left to a sealed venv in its place.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use venvd_app::links::VenvPath;
use venvd_fs::beneath::Copied;
use venvd_fs::lock::Lock as FileLock;
use venvd_fs::{IoContext, atomic};

use super::confine::{Hooks, Job, Left};
use super::install;
use super::plan::Plan;
use super::{Amount, Bench, Built, Outcome, Stage, Unit, compile, contest};
use crate::error::{Error, Step};
use crate::host_modules::Host;
use crate::lock::Lock;
use crate::manifest::{BuilderRecord, Contested, FORMAT, HostModule, LOG, LockRecord, Manifest, PATH, Python};
use crate::record::{self, Installed};
use crate::relocate;
use crate::requires;
use crate::seal::{self, Contents};
use crate::store::Store;

/// What has been installed, and as what.
pub(super) struct Finished<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) venv: VenvPath,
    pub(super) lock: Lock,
    pub(super) builder: BuilderRecord,
}

/// What is known of a tree that has all but its manifest.
struct Sealed {
    contents: Contents,
    installed: Installed,
    host_modules: Vec<HostModule>,
}

/// Makes root's own copy of what was installed, seals it, and puts it in place.
pub(super) fn finish(bench: &mut Bench<'_>, finished: Finished<'_>, left: Left) -> Result<Built, Error> {
    let (tree, interpreter) = (bench.staging.tree(), bench.interpreter);
    bench.begin(Stage::Copy)?;
    let mut choose = |path: &Path, kind| relocate::choose(path, kind, interpreter);
    let (progress, unpacked) = (&mut *bench.progress, bench.unpacked);
    let mut tell = |copied: Copied| {
        let amount = Amount {
            done: copied.bytes,
            total: Some(unpacked.max(copied.bytes)),
            unit: Unit::Bytes,
        };
        progress.amount(Stage::Copy, amount);
    };
    let hooks = Hooks {
        choose: &mut choose,
        tell: &mut tell,
    };
    let copied = left.take_and_tell(install::NAME, &tree, hooks)?;
    bench.progress.report(
        Stage::Copy,
        &format!("{} files, {} MiB", copied.files, copied.bytes >> 20),
    );
    let sealed = if crate::space::has(&tree, copied.bytes)? {
        // Both wait for the disk, and compiling does not.
        std::thread::scope(|scope| {
            let removal = scope.spawn(|| left.remove().and_then(|()| sync(&tree)));
            let sealed = seal_tree(bench, &finished)?;
            let panicked = |_| {
                Err(std::io::Error::other("it panicked"))
                    .at("remove", &tree)
                    .map_err(Error::Io)
            };
            removal.join().unwrap_or_else(panicked).map(|()| sealed)
        })?
    } else {
        // Makes room for the bytecode.
        left.remove()?;
        seal_tree(bench, &finished)?
    };
    let manifest = manifest(bench, &finished, sealed);
    note_misfits(bench, &manifest)?;
    write_own(bench, &manifest)?;
    bench.request.interrupt.check()?;
    put_in_place(bench, &finished, &manifest)
}

/// Makes of root's copy a tree that has all but its manifest.
fn seal_tree(bench: &mut Bench<'_>, finished: &Finished<'_>) -> Result<Sealed, Error> {
    let (tree, interpreter) = (bench.staging.tree(), bench.interpreter);
    bench.begin(Stage::Relocate)?;
    let mut placed = relocate::relocate(&tree, &finished.venv, interpreter)?;
    let installed = record::update(&tree, &interpreter.site_packages(), &placed)?;
    placed.extend(installed.placed.iter().cloned());
    compare(&installed, &finished.lock)?;
    let wheels = bench.staging.wheels();
    contest::settle(&tree, &wheels, (&installed, interpreter), &mut bench.staging.log)?;
    let pruned = relocate::prune(&tree, &installed)?;
    bench.staging.log.heading("files of no distribution, left out")?;
    for path in pruned {
        bench.staging.log.line(&path.to_string_lossy())?;
    }
    placed.insert(relocate::write_own_files(&tree, &finished.venv, interpreter)?);

    bench.begin(Stage::Compile)?;
    compile::compile(&tree, interpreter, &mut bench.staging.log, &bench.request.interrupt)?;

    bench.begin(Stage::Seal)?;
    let host_modules = host_modules(bench, finished, &installed)?;
    let contents = seal::contents(&tree, interpreter, &installed, &placed)?;
    Ok(Sealed {
        contents,
        installed,
        host_modules,
    })
}

/// Links the modules of the host that the definition names, and sees that the venv's own Python can import them.
fn host_modules(
    bench: &mut Bench<'_>,
    finished: &Finished<'_>,
    installed: &Installed,
) -> Result<Vec<HostModule>, Error> {
    let declared = &bench.request.app.build.host_modules;
    let names: Vec<String> = declared.iter().map(|name| name.as_str().to_owned()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let tree = bench.staging.tree();
    let linked = Host::of(bench.interpreter).link(&tree, &names, &installed.distributions)?;
    let mut phase = bench.phase(Step::Check)?;
    phase.show_at(&tree, &finished.venv.path());
    let code = format!("import {}", names.join(", "));
    let job = Job {
        name: "python",
        program: finished.venv.bin().join("python"),
        arguments: ["-I", "-B", "-c", &code].map(Into::into).to_vec(),
        environment: Vec::new(),
    };
    bench.run(phase, &[job])?.remove()?;
    Ok(linked)
}

/// Says which distributions do not fit each other. It is no reason to refuse: locks that overrule somebody's too narrow
/// requirement are made on purpose, and `verify` goes on telling.
fn note_misfits(bench: &mut Bench<'_>, manifest: &Manifest) -> Result<(), Error> {
    let paths = manifest.files.iter().map(|file| file.path.as_str());
    let misfits = requires::check(&bench.staging.tree(), paths, bench.interpreter);
    bench.staging.log.heading("distributions that do not fit each other")?;
    for misfit in misfits {
        bench.progress.report(Stage::Seal, &format!("note: {misfit}"));
        bench.staging.log.line(&misfit.to_string())?;
    }
    Ok(())
}

/// Compares what is installed with what the lock demands.
fn compare(installed: &Installed, lock: &Lock) -> Result<(), Error> {
    let has = |name: &str| {
        installed
            .distributions
            .iter()
            .any(|distribution| distribution.name == name)
    };
    let mut differences = Vec::new();
    for distribution in &installed.distributions {
        if lock.version_of(&distribution.name).is_none() {
            differences.push(format!("{} is installed and not in the lock", distribution.name));
        }
    }
    // What a marker excludes here is rightly not there.
    for pinned in lock
        .requirements
        .iter()
        .filter(|pinned| pinned.marker.is_none() && !has(&pinned.name))
    {
        differences.push(format!("{} is in the lock and not installed", pinned.name));
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(Error::NotAsLocked { differences })
    }
}

fn manifest(bench: &Bench<'_>, finished: &Finished<'_>, sealed: Sealed) -> Manifest {
    let Sealed {
        contents,
        installed,
        host_modules,
    } = sealed;
    let interpreter = bench.interpreter;
    let name = finished.venv.name();
    // A clock before 1970 is wrong anyhow.
    let created = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    let contested = |contest: record::Contest| Contested {
        path: contest.path.to_string_lossy().into_owned(),
        distributions: contest.distributions,
    };
    Manifest {
        format: FORMAT,
        app: name.app().clone(),
        tag: name.tag().clone(),
        created,
        builder: finished.builder.clone(),
        lock: LockRecord {
            digest: finished.plan.digest(&finished.lock),
            format: finished.lock.format,
            text: finished.lock.text.clone(),
        },
        python: Python {
            interpreter: interpreter.path.clone(),
            version: interpreter.version.clone(),
            minor: interpreter.minor.clone(),
            soabi: interpreter.soabi.clone(),
            cache_tag: interpreter.cache_tag.clone(),
            magic: interpreter.magic.clone(),
        },
        platform: interpreter.platform.clone(),
        arch: interpreter.arch.clone(),
        glibc: installed.glibc.map(|(major, minor)| format!("{major}.{minor}")),
        host_modules,
        distributions: installed.distributions,
        programs: contents.programs,
        uncompiled: contents.uncompiled,
        contested: installed.contested.into_iter().map(contested).collect(),
        files: contents.files,
        links: contents.links,
    }
}

/// Writes manifest and log into the tree, and all of the tree to the disk.
fn write_own(bench: &Bench<'_>, manifest: &Manifest) -> Result<(), Error> {
    let tree = bench.staging.tree();
    let path = tree.join(PATH);
    let json = manifest.to_json().map_err(std::io::Error::from).at("write", &path)?;
    atomic::write(&path, &json, 0o644)?;
    let log = tree.join(LOG);
    let text = fs::read(bench.staging.log.path()).at("read", bench.staging.log.path())?;
    // What a client says of its index is for root only.
    atomic::write(&log, &text, 0o600)?;
    // The bulk, while nobody waits for the store's lock.
    sync(&tree)
}

/// The one rename by which the venv is there.
fn put_in_place(bench: &mut Bench<'_>, finished: &Finished<'_>, manifest: &Manifest) -> Result<Built, Error> {
    let Finished { plan, venv, lock, .. } = finished;
    let target = bench.layout.on_disk(venv.path());
    let _store = FileLock::exclusive(&bench.layout.store_lock())?;
    // Somebody may have built the same meanwhile, or something else under this name.
    if let Some(venv) = plan.already_sealed(bench.layout, venv.name(), lock)? {
        return Ok(Built {
            venv,
            outcome: Outcome::AlreadyThere,
        });
    }
    share(bench, manifest)?;
    let kept = bench
        .layout
        .locks(&manifest.app)
        .join(format!("{}.{}", manifest.tag, lock.format.extension()));
    atomic::write(&kept, lock.text.as_bytes(), 0o644)?;
    if let Some(parent) = target.parent() {
        atomic::create_directories(parent, 0o755)?;
    }
    atomic::rename_new(&bench.staging.tree(), &target)?;
    Ok(Built {
        venv: venv.clone(),
        outcome: Outcome::New,
    })
}

/// Lets the new venv share what others have already.
fn share(bench: &mut Bench<'_>, manifest: &Manifest) -> Result<(), Error> {
    let tree = bench.staging.tree();
    let store = Store::open(bench.layout)?;
    let shared = store.share(&tree, &manifest.files)?;
    bench.progress.report(Stage::Seal, &shared.to_string());
    // Only now: sharing renames files.
    seal::set_times(&tree, manifest)?;
    sync(&tree)
}

/// One call for thousands of files: each fsync would wait for the journal by itself.
fn sync(tree: &Path) -> Result<(), Error> {
    let directory = fs::File::open(tree).at("open", tree)?;
    rustix::fs::syncfs(&directory).at("sync the file system of", tree)?;
    Ok(())
}
