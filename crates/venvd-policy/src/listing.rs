//! What is in a directory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use venvd_fs::{Error, IoContext};

/// Returns the names in a directory, sorted; none when it is not there.
pub(crate) fn names(directory: &Path) -> Result<Vec<OsString>, Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", directory)?,
    };
    let names = entries.map(|entry| entry.at("list", directory).map(|entry| entry.file_name()));
    let mut names = names.collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names)
}
