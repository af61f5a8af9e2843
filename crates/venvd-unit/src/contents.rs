//! Reading a unit file or drop-in: as few system calls as it takes, since a host may have thousands.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::UnitFiles;
use crate::chase::{Last, below, chase};

/// Room for nearly every unit file, so that one is read at once.
const TYPICAL: usize = 4 * 1024;

/// More than any unit file has; what has more is none, and would take all memory of a generator.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Opening a pipe waits until somebody writes to it, unless it is done like this.
const PATIENCE: OFlag = OFlag::O_NONBLOCK;

/// Reads the host's file `path`, below `root`; a mask has no contents. `near` is where it is on disk unless it is a link
/// itself, where that is known: a path whose directories are resolved.
///
/// # Errors
/// When it can't be read, or its links can't be followed.
pub(crate) fn read(root: &Path, path: &Path, near: Option<&Path>) -> io::Result<Vec<u8>> {
    if let Some(near) = near {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | PATIENCE).bits())
            .open(near);
        match opened {
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {}
            opened => return whole(opened?),
        }
    }
    let resolved = chase(root, path, Last::Follow)?;
    let on_disk = below(root, &resolved);
    // By name first: an image or a test tree has no devices.
    if is_null(&resolved) || is_null_or_empty(&fs::metadata(&on_disk)?) {
        return Ok(Vec::new());
    }
    whole(
        OpenOptions::new()
            .read(true)
            .custom_flags(PATIENCE.bits())
            .open(on_disk)?,
    )
}

impl UnitFiles {
    /// Reads a file of a unit, as the host names it; a mask has no contents.
    ///
    /// # Errors
    /// When it can't be read, or its links can't be followed.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read(self.root(), path, self.on_disk(path).as_deref())
    }
}

/// Reads to the end. Not by `fs::read`, which first asks for a size that it need not know; and by way of the stack, since
/// room for more than there is, once for each of a thousand files, costs the allocator more than copying what there is.
fn whole(mut file: File) -> io::Result<Vec<u8>> {
    let mut buffer = [0; TYPICAL];
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => return Ok(buffer.get(..filled).unwrap_or_default().to_vec()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut bytes = buffer.to_vec();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a unit file"));
    }
    Ok(bytes)
}

/// Returns whether a resolved path of the host is what masks lead to.
pub(crate) fn is_null(resolved: &Path) -> bool {
    resolved == Path::new("/dev/null")
}

/// `null_or_empty()`: what makes a unit file a mask.
pub(crate) fn is_null_or_empty(data: &Metadata) -> bool {
    data.file_type().is_char_device() || (data.is_file() && data.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::Tree;
    use nix::sys::stat::Mode;

    /// A generator that waits, or takes all memory, takes all others with it: systemd ends them together.
    #[test]
    fn neither_a_pipe_nor_an_endless_file_is_waited_for() {
        let tree = Tree::new();
        tree.file("etc/systemd/system/a.service", "x");
        tree.link("etc/systemd/system/linked.service", "/opt/pipe");
        tree.file("opt/x", "");
        nix::unistd::mkfifo(&tree.root().join("opt/pipe"), Mode::S_IRUSR).unwrap();
        let directory = tree.root().join("etc/systemd/system");
        nix::unistd::mkfifo(&directory.join("pipe"), Mode::S_IRUSR).unwrap();
        // Without a byte on disk.
        let sparse = File::create(directory.join("large")).unwrap();
        sparse.set_len(LARGEST + 1).unwrap();
        let files = UnitFiles::scan(tree.root());
        let read = |name: &str| files.read(&Path::new("/etc/systemd/system").join(name));
        assert_eq!(read("a.service").unwrap(), b"x");
        assert!(read("pipe").unwrap().is_empty());
        assert!(read("linked.service").unwrap().is_empty());
        assert_eq!(read("large").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
