//! Is a file's content what was hashed?

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::manifest::File;

/// Larger than nearly all files of a venv, so that one `read(2)` has the whole of them, and still in a core's cache.
const BUFFER: usize = 256 << 10;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// Reads an open file and compares it with its hash.
///
/// It is read and not mapped: a mapped file that is cut meanwhile would kill the process.
pub(super) fn is(opened: BorrowedFd<'_>, file: &File) -> Result<bool, Errno> {
    SHARED.with_borrow_mut(|buffer| {
        let mut hasher = blake3::Hasher::new();
        let mut read = 0;
        loop {
            let count = match rustix::io::read(opened, buffer.as_mut_slice()) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            hasher.update(buffer.get(..count).unwrap_or_default());
            read += count as u64;
            // A short read of a regular file is its end.
            if count < buffer.len() {
                break;
            }
        }
        Ok(read == file.size && hasher.finalize().to_hex().as_str() == file.blake3)
    })
}
