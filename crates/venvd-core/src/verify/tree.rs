//! Comparing a tree with what its manifest lists.
//!
//! First all directories are listed, which finds what should not be there; then every listed file is opened and read.
//! Each step down is an `openat2(2)` from the venv's own directory that follows no link and crosses no mount, so that
//! whoever can change the tree meanwhile can't make root read something else. Both passes are parallel.

use std::collections::HashSet;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use rustix::io::Errno;

pub(crate) use super::attributes::Owner;
use super::attributes::{check_attributes, check_mode, check_owner};
use super::content;
use super::expected::{Entry, Expected};
use super::finding::{Code, Finding, runs_at_start};
use super::{Progress, Report};
use crate::below::Below;
use crate::manifest::{File, Link, Manifest};

/// All directories of a venv have it.
const DIRECTORY_MODE: u32 = 0o755;

/// What `getdents64(2)` gets at once: more names than nearly all directories have.
const LISTING: usize = 32 << 10;

/// Compares the tree in `directory` with a manifest.
pub(crate) fn compare(directory: &Path, manifest: &Manifest, owner: Owner, progress: &dyn Progress) -> Report {
    progress.begin(manifest.size());
    let top = match Below::open(directory) {
        Ok(top) => top,
        Err(error) => {
            let finding = Finding::of(Code::Unreadable, "", format!("can't be opened: {error}"));
            return Report {
                findings: vec![finding],
                ..Report::default()
            };
        }
    };
    let tree = Tree {
        top,
        owner,
        expected: Expected::of(manifest),
    };
    let mut listed = tree.list();
    // What lies in a listed file's or link's place was told; it must not be opened: it may be a device.
    let other: HashSet<String> = std::mem::take(&mut listed.other).into_iter().collect();
    let links = manifest.links.iter().filter(|link| !other.contains(&link.path));
    listed.findings.extend(links.flat_map(|link| tree.link(link)));
    let files: Vec<&File> = manifest
        .files
        .iter()
        .filter(|file| !other.contains(&file.path))
        .collect();
    let read = |file: &&File| {
        let findings = tree.file(file);
        progress.advance(file.size);
        findings
    };
    listed.findings.par_extend(files.par_iter().flat_map_iter(read));
    Report {
        files: files.len() as u64,
        bytes: manifest.size(),
        findings: listed.findings,
        notes: Vec::new(),
    }
}

struct Tree<'a> {
    top: Below,
    owner: Owner,
    expected: Expected<'a>,
}

/// What was found in one or several directories.
#[derive(Default)]
struct Listed {
    findings: Vec<Finding>,
    /// Directories to go on with.
    below: Vec<String>,
    /// Paths at which something of another kind lies.
    other: Vec<String>,
}

impl Listed {
    fn merge(mut self, other: Self) -> Self {
        self.findings.extend(other.findings);
        self.below.extend(other.below);
        self.other.extend(other.other);
        self
    }
}

impl Tree<'_> {
    /// Lists all directories, level by level, so that only as many are open as there are threads.
    fn list(&self) -> Listed {
        let mut all = Listed {
            below: vec![String::new()],
            ..Listed::default()
        };
        while !all.below.is_empty() {
            let level = std::mem::take(&mut all.below);
            let listed = level
                .par_iter()
                .map(|path| self.directory(path))
                .reduce(Listed::default, Listed::merge);
            all = all.merge(listed);
        }
        all
    }

    fn directory(&self, path: &str) -> Listed {
        let mut listed = Listed::default();
        if let Err(error) = self.list_one(path, &mut listed) {
            listed.findings.push(unopened(path, error));
        }
        listed
    }

    fn list_one(&self, path: &str, listed: &mut Listed) -> Result<(), Errno> {
        let directory = self.top.get(path, OFlags::DIRECTORY)?;
        let status = rustix::fs::fstat(&directory)?;
        check_owner(path, &status, self.owner, &mut listed.findings);
        check_mode(path, &status, DIRECTORY_MODE, &mut listed.findings);
        check_attributes(path, directory.as_fd(), &mut listed.findings);
        let mut buffer = [MaybeUninit::uninit(); LISTING];
        let mut entries = RawDir::new(&directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let status = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                kind = FileType::from_raw_mode(status.st_mode);
            }
            let is_text = name.to_str().is_ok();
            let name = name.to_string_lossy();
            let path = if path.is_empty() {
                name.into_owned()
            } else {
                format!("{path}/{name}")
            };
            if is_text {
                self.entry(path, kind, listed);
            } else {
                // A manifest may have the sign that stands here for what is not UTF-8, but then it means itself.
                listed.findings.push(extra(&path, kind));
            }
        }
        Ok(())
    }

    /// Compares the kind of an entry with what should lie there.
    fn entry(&self, path: String, kind: FileType, listed: &mut Listed) {
        let code = match (self.expected.get(&path), kind) {
            (Some(Entry::Directory), FileType::Directory) => {
                listed.below.push(path);
                return;
            }
            (Some(Entry::File), FileType::RegularFile) | (Some(Entry::Link), FileType::Symlink) => return,
            (Some(Entry::Own { mode }), FileType::RegularFile) => {
                listed.findings.extend(self.own(&path, mode));
                return;
            }
            (None, _) => {
                listed.findings.push(extra(&path, kind));
                return;
            }
            (Some(Entry::Directory), _) => Code::Directory,
            (Some(Entry::Link), _) => Code::Link,
            (Some(Entry::File | Entry::Own { .. }), _) => Code::Changed,
        };
        let what = match code {
            Code::Directory => "directory",
            Code::Link => "symbolic link",
            _ => "file",
        };
        let message = format!("is {}; its manifest has a {what} there", kind_name(kind));
        listed.findings.push(Finding::of(code, &path, message));
        listed.other.push(path);
    }

    /// Checks the owner and mode of a file of venvd's own, without opening it: the log is for root only.
    fn own(&self, path: &str, mode: u32) -> Vec<Finding> {
        let mut findings = Vec::new();
        match rustix::fs::statat(&self.top, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => {
                check_owner(path, &status, self.owner, &mut findings);
                check_mode(path, &status, mode, &mut findings);
            }
            Err(error) => findings.push(unopened(path, error)),
        }
        findings
    }

    fn link(&self, link: &Link) -> Vec<Finding> {
        let mut findings = Vec::new();
        let path = link.path.as_str();
        match self.read_link(path, &mut findings) {
            Ok(target) if target == link.target => {}
            Ok(target) => {
                let message = format!("leads to {target:?}, not to {:?}", link.target);
                findings.push(Finding::of(Code::Link, path, message));
            }
            Err(error) => findings.push(unopened(path, error)),
        }
        findings
    }

    fn read_link(&self, path: &str, findings: &mut Vec<Finding>) -> Result<OsString, Errno> {
        let link = self.top.link(path)?;
        check_owner(path, &rustix::fs::fstat(&link)?, self.owner, findings);
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn file(&self, file: &File) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Err(error) = self.read(file, &mut findings) {
            findings.push(unopened(&file.path, error));
        }
        findings
    }

    fn read(&self, file: &File, findings: &mut Vec<Finding>) -> Result<(), Errno> {
        let path = file.path.as_str();
        let opened = self.top.get(path, OFlags::empty())?;
        let status = rustix::fs::fstat(&opened)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind != FileType::RegularFile {
            let message = format!("is {}; its manifest has a file there", kind_name(kind));
            findings.push(Finding::of(Code::Changed, path, message));
            return Ok(());
        }
        check_owner(path, &status, self.owner, findings);
        check_mode(path, &status, file.mode, findings);
        check_attributes(path, opened.as_fd(), findings);
        let size = u64::try_from(status.st_size).unwrap_or(0);
        if size != file.size {
            let message = format!("has {size} bytes, not {} as when it was sealed", file.size);
            findings.push(Finding::of(Code::Changed, path, message));
        } else if !content::is(opened.as_fd(), file)? {
            findings.push(Finding::of(
                Code::Changed,
                path,
                "has other content than when it was sealed",
            ));
        }
        Ok(())
    }
}

fn extra(path: &str, kind: FileType) -> Finding {
    let mut message = match kind {
        FileType::Directory => "is a directory that was not there when the venv was sealed".to_owned(),
        _ => format!("is {} that was not there when the venv was sealed", kind_name(kind)),
    };
    if let Some(why) = runs_at_start(path) {
        message.push_str("; ");
        message.push_str(why);
    }
    Finding::of(Code::Extra, path, message)
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

/// Says why something could not be opened.
fn unopened(path: &str, error: Errno) -> Finding {
    let (code, message) = match error {
        Errno::NOENT | Errno::NOTDIR => (Code::Missing, "is not there".to_owned()),
        Errno::LOOP => (
            Code::Missing,
            "is not there: a directory above it is a symbolic link".to_owned(),
        ),
        Errno::XDEV => (
            Code::Mount,
            "is on another mount: something is mounted over it, or over a directory above it".to_owned(),
        ),
        Errno::ACCESS | Errno::PERM => (
            Code::Unreadable,
            "may not be read by this user; run this as root".to_owned(),
        ),
        error => (
            Code::Unreadable,
            format!("can't be read: {error}; see `dmesg` for the disk's state"),
        ),
    };
    Finding::of(code, path, message)
}
