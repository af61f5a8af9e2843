//! Is there room? Asked before anything large is written, so that a full disk is an early, plain error.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use venvd_fs::IoContext;

use crate::error::Error;

/// What a build needs at the very least: wheels, logs, directories.
const LEAST: u64 = 4 << 20;

/// What an activation writes: its journal, links, policies, units; each a few kilobytes, and twice while one replaces the
/// other. The rest is for systemd, which writes units anew at the same time.
const ACTIVATION: u64 = 256 << 10;
/// How many files that is, about.
const FILES: u64 = 64;

/// Checks that an activation can write what it may have to, there and back, in these directories.
///
/// # Errors
/// When one of the file systems is read-only or has no room, or can't be looked at.
pub fn require_for_activation(directories: impl IntoIterator<Item = PathBuf>) -> Result<(), Error> {
    for directory in directories {
        // What is not there yet will be made in what is.
        let Some(path) = directory.ancestors().find(|ancestor| ancestor.exists()) else {
            continue;
        };
        let status = statvfs(path).at("look at the file system of", path)?;
        let path = path.to_owned();
        if status.flags().contains(FsFlags::ST_RDONLY) {
            let (flag, reason) = ("read-only", "an activation writes there");
            return Err(Error::FileSystem { path, flag, reason });
        }
        // What is kept back for root is for us: a full disk must not keep anybody from leaving what fills it.
        let (blocks, files) = match nix::unistd::geteuid().is_root() {
            true => (status.blocks_free(), status.files_free()),
            false => (status.blocks_available(), status.files_available()),
        };
        let free = blocks * status.fragment_size();
        // Some file systems count none, or make files as they go.
        if status.blocks() > 0 && free < ACTIVATION {
            let needed = ACTIVATION;
            return Err(Error::NoSpace { path, needed, free });
        }
        if status.files() > 0 && files < FILES {
            return Err(Error::NoInodes { path, free: files });
        }
    }
    Ok(())
}

/// Returns the error for a file system that turned out to be full.
pub(crate) fn full(path: &Path) -> Error {
    Error::Full {
        path: lasting(path),
        // If not even that can be asked, what is known is that there is none.
        free: free(path).unwrap_or(0),
    }
}

/// Checks that a build can begin at all.
pub(crate) fn require_some(path: &Path) -> Result<(), Error> {
    require(path, LEAST)
}

/// Checks that the wheels in a directory can be unpacked, copied and compiled; returns the bytes they unpack to, about.
pub(crate) fn require_for_wheels(wheels: &Path) -> Result<u64, Error> {
    let mut unpacked = 0;
    for entry in std::fs::read_dir(wheels).at("list", wheels)? {
        let path = entry.at("list", wheels)?.path();
        unpacked += unpacked_size(&path).at("read the wheel", &path)?;
    }
    // What the installer leaves and our copy of it exist together; the bytecode comes when the former is gone, and is
    // less than it. A tenth more for directories and rounding.
    require(wheels, unpacked * 2 + unpacked / 10)?;
    Ok(unpacked)
}

/// Returns whether that many bytes are free.
pub(crate) fn has(path: &Path, bytes: u64) -> Result<bool, Error> {
    Ok(free(path)? >= bytes)
}

/// Checks that so many bytes can be written.
pub(crate) fn require(path: &Path, needed: u64) -> Result<(), Error> {
    let free = free(path)?;
    if free < needed {
        return Err(Error::NoSpace {
            path: lasting(path),
            needed,
            free,
        });
    }
    Ok(())
}

/// Returns venvd's own directory above a path: that of a build is gone when its error is read.
fn lasting(path: &Path) -> PathBuf {
    let above = path.ancestors().filter(|above| above.ends_with("var/lib/venvd"));
    above.last().unwrap_or(path).to_owned()
}

fn free(path: &Path) -> Result<u64, venvd_fs::Error> {
    let status = statvfs(path).at("look at the file system of", path)?;
    Ok(status.blocks_available() * status.fragment_size())
}

/// A zip's end-of-central-directory record without its comment, APPNOTE.TXT 4.3.16.
const END_LENGTH: u64 = 22;

/// Returns the size of a zip's files by its central directory; of what is no plain zip, a guess from its own size.
fn unpacked_size(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let tail = length.min(END_LENGTH + u64::from(u16::MAX));
    file.seek(SeekFrom::Start(length - tail))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    // Wheels of more than 4 GiB have a larger record elsewhere (zip64); a guess does for them.
    let guess = Ok(length * 4);
    let Some(at) = end.windows(4).rposition(|window| window == b"PK\x05\x06") else {
        return guess;
    };
    let (Some(size), Some(offset)) = (u32_at(&end, at + 12), u32_at(&end, at + 16)) else {
        return guess;
    };
    if u64::from(offset) + u64::from(size) > length {
        return guess;
    }
    file.seek(SeekFrom::Start(offset.into()))?;
    let mut directory = vec![0; size as usize];
    file.read_exact(&mut directory)?;
    Ok(sum(&directory).unwrap_or(length * 4))
}

/// Adds up the entries of a central directory, each rounded up to a block; 4.3.12.
fn sum(directory: &[u8]) -> Option<u64> {
    let (mut at, mut total) = (0, 0);
    while at < directory.len() {
        let size = u64::from(u32_at(directory, at + 24)?);
        let names = [28, 30, 32]
            .iter()
            .map(|field| u16_at(directory, at + field).map(usize::from));
        at += 46 + names.sum::<Option<usize>>()?;
        total += size.div_ceil(4096) * 4096;
    }
    Some(total)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_there_when_the_build_is_gone() {
        for (path, named) in [
            ("/var/lib/venvd/staging/nova.x1/tree", "/var/lib/venvd"),
            ("/srv/image/var/lib/venvd/venvs", "/srv/image/var/lib/venvd"),
            (
                "/var/lib/venvd/staging/nova.x1/root/var/lib/venvd/staging",
                "/var/lib/venvd",
            ),
            ("/tmp/x", "/tmp/x"),
        ] {
            assert_eq!(lasting(Path::new(path)), Path::new(named));
        }
    }

    #[test]
    fn sizes_come_from_the_central_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.whl");
        let script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as z:\n \
                      z.writestr('a', b'x' * 10000)\n z.writestr('b/c', b'y')";
        let made = std::process::Command::new("/usr/bin/python3")
            .args(["-I", "-c", script])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        assert_eq!(unpacked_size(&path).unwrap(), 4 * 4096);
        std::fs::write(&path, "no zip").unwrap();
        assert_eq!(unpacked_size(&path).unwrap(), 24);
        std::fs::write(&path, b"PK\x05\x06\0\0\0\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\0\0").unwrap();
        assert_eq!(unpacked_size(&path).unwrap(), 88, "an impossible directory is not read");
    }

    #[test]
    fn too_little_space_is_an_error_with_figures() {
        let directory = tempfile::tempdir().unwrap();
        let error = require(directory.path(), u64::MAX).unwrap_err();
        assert_eq!(error.code(), "no-space");
        require_some(directory.path()).unwrap();
    }
}
