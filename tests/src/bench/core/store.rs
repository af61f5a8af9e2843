//! What venvs share, on the disk and in time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use venvd_app::links::VenvPath;
use venvd_core::build::Silent;
use venvd_core::place::{self, Material};
use venvd_core::relocate;
use venvd_core::store::{Check, Store};

use super::super::Row;
use super::super::contest::{Side, contest, wall};
use super::super::fixture::{Fixture, Host, remove};
use super::Site;
use crate::locks;

/// What `st_blocks` counts in (stat(2)).
const BLOCK: u64 = 512;

/// What a file or directory takes at least on the usual file systems.
const CLUSTER: u64 = 4096;

/// What placing may take of what a copy by hard links does.
const PLACING: f64 = 0.65;

const MEGABYTE: f64 = 1e6;

/// Builds two point releases, and compares what the second one took with what is new in it. Returns the second.
pub(super) fn second_release(fixture: &Fixture, host: &Host) -> Result<(VenvPath, Row)> {
    let [first, second] = locks::NOVA;
    let first = fixture.build(host, first, &mut Silent)?;
    let before = disk(&host.root)?;
    let second = fixture.build(host, second, &mut Silent)?;
    let took = disk(&host.root)? - before;

    let known: HashSet<_> = host.manifest(&first)?.files.into_iter().map(content_of).collect();
    let mut new = HashMap::new();
    for file in host.manifest(&second)?.files {
        let size = file.size.div_ceil(CLUSTER) * CLUSTER;
        let content = content_of(file);
        if !known.contains(&content) {
            new.insert(content, size);
        }
    }
    let content: u64 = new.values().sum();
    let inodes = inodes(&host.directory(&second))?;
    let whole = disk(&host.directory(&second))?;
    let row = Row::limited(
        "disk for a second point release",
        "MB",
        (took as f64 / MEGABYTE, (content + inodes) as f64 / MEGABYTE),
    )
    .how(format!(
        "blocks of all distinct inodes of the host before and after; the limit is the new content ({} files, {:.1} MB) plus \
         the directories, manifest, log and lock, which can't be shared ({:.1} MB); the venv by itself has {:.1} MB",
        new.len(),
        content as f64 / MEGABYTE,
        inodes as f64 / MEGABYTE,
        whole as f64 / MEGABYTE,
    ));
    Ok((second, row))
}

/// Returns what two files must have in common to be one: content and mode. What names its venv's place is never shared.
fn content_of(file: venvd_core::manifest::File) -> (String, u32, Option<String>) {
    (file.blake3, file.mode, file.placed.then_some(file.path))
}

/// Returns what a venv's own inodes take: directories, links, and venvd's own files.
fn inodes(venv: &Path) -> Result<u64> {
    let mut sum = 0;
    walk(venv, &mut |path, metadata| {
        if !metadata.is_file() || path.starts_with(venv.join(".venvd")) {
            sum += metadata.blocks() * BLOCK;
        }
    })?;
    // The lock that is kept, and the place in a directory above.
    Ok(sum + fs::metadata(locks::path(locks::NOVA[1]))?.blocks() * BLOCK + CLUSTER)
}

/// Returns what all inodes below a directory take, each counted once.
fn disk(directory: &Path) -> Result<u64> {
    let (mut seen, mut sum) = (HashSet::new(), 0);
    walk(directory, &mut |_, metadata| {
        if seen.insert(metadata.ino()) {
            sum += metadata.blocks() * BLOCK;
        }
    })?;
    Ok(sum)
}

fn walk(directory: &Path, see: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    let read = || format!("can't read {}", directory.display());
    see(directory, &fs::symlink_metadata(directory).with_context(read)?);
    for entry in fs::read_dir(directory).with_context(read)? {
        let entry = entry.with_context(read)?;
        let metadata = entry.metadata().with_context(read)?;
        if metadata.is_dir() {
            walk(&entry.path(), see)?;
        } else {
            see(&entry.path(), &metadata);
        }
    }
    Ok(())
}

/// Places a venv whose files are all in the store, against a copy of the tree by hard links.
pub(super) fn placing(site: &Site<'_>) -> Result<Row> {
    let source = site.host.directory(&site.venv);
    let manifest = site.host.manifest(&site.venv)?;
    let store = Store::open(&site.host.layout)?;
    let to = VenvPath::local(&site.host.layout, "nova:placed".parse()?);
    // Fixed in length, and so few that it is no matter which venv they are of.
    let mut read = |file: &venvd_core::manifest::File| Ok(fs::read(source.join(&file.path)).unwrap_or_default());
    // A new directory for each: ext4 takes no inode again that was freed a minute ago (`recently_deleted()`), and after
    // a removal looks for others bit by bit in every mkdir(2). That would be most of what is measured, on both sides.
    let places = site.fixture.path("placed");
    fs::create_dir(&places)?;
    let used = Cell::new(0);
    let fresh = || {
        used.set(used.get() + 1);
        places.join(used.get().to_string())
    };
    let place = |check: Check| {
        let tree = fresh();
        fs::create_dir(&tree)?;
        let begin = Instant::now();
        let moved = relocate::move_to(&manifest, &to, &mut read)?;
        let material = Material {
            store: &store,
            check,
            source: None,
        };
        place::place(&moved, &tree, &material)?;
        Ok(begin.elapsed().as_secs_f64())
    };
    let place = RefCell::new(place);
    let ours = || (place.borrow_mut())(Check::Metadata);
    let hashed = || (place.borrow_mut())(Check::Content);
    let cp = || wall(Command::new("cp").arg("-al").args([&source, &fresh()]));
    let rounds = contest(
        vec![
            Side::new("venvd", ours),
            Side::new("cp -al", cp),
            Side::new("hashed", hashed),
        ],
        site.options.samples,
    )?;
    remove(&places)?;
    Ok(Row::against("placing", "s", &rounds.outcome(1), PLACING).how(format!(
        "venvd: in the process of the measurement, the {} files of a manifest from the store into another place, the {} \
         that name their place written anew, the manifest too; objects are looked at, and not hashed (with all of them \
         hashed first, as `venvctl install` does it: {:.3} s). cp: the whole process. Nothing is synced by either",
        manifest.files.len(),
        manifest.files.iter().filter(|file| file.placed).count(),
        rounds.median(2),
    )))
}
