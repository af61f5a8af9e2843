//! Bytecode of a foreign directory: Python believes it unchecked, so root must not.

use std::path::Path;

use venvd_fs::IoContext;

use crate::Interpreter;
use crate::build::recompile;
use crate::error::Error as CoreError;
use crate::manifest::{File, Manifest};

/// Why bytecode is not taken.
#[derive(Debug)]
pub(super) enum Error {
    /// It is not what the sources compile to.
    Untrue(Vec<String>),
    /// It could not be looked at.
    Other(Box<CoreError>),
}

impl<E: Into<CoreError>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Other(Box::new(error.into()))
    }
}

/// Compiles the sources of a tree anew, and compares.
///
/// With the Python that the manifest names, all must be the same. With another patch version, bytecode may differ for
/// good reasons: then that from here is taken, in the tree and in the manifest. Returns the files that were replaced.
pub(super) fn compare(
    tree: &Path,
    manifest: &mut Manifest,
    interpreter: &Interpreter,
    scratch: &Path,
) -> Result<Vec<File>, Error> {
    let different = recompile(tree, manifest, interpreter, scratch)?;
    let same_python = manifest.python.version == interpreter.version;
    let mut replaced = Vec::new();
    let mut untrue = Vec::new();
    for path in different {
        let made = scratch.join(&path);
        let file = manifest.files.iter_mut().find(|file| file.path == path);
        match file {
            Some(file) if made.is_file() && !same_python => {
                let content = std::fs::read(&made).at("read", &made)?;
                let target = tree.join(&path);
                // It may be a link to an object of the store: never written in place.
                std::fs::remove_file(&target).at("remove", &target)?;
                std::fs::copy(&made, &target).at("copy to", &target)?;
                std::fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(file.mode))
                    .at("set the mode of", &target)?;
                let times = crate::seal::sealed_times();
                rustix::fs::utimensat(rustix::fs::CWD, &target, &times, rustix::fs::AtFlags::empty())
                    .at("set the time of", &target)?;
                file.size = content.len() as u64;
                file.blake3 = blake3::hash(&content).to_hex().to_string();
                replaced.push(file.clone());
            }
            Some(_) => untrue.push(format!("{path} is not what its source compiles to")),
            None => untrue.push(format!("{path} is missing: its source compiles")),
        }
    }
    if untrue.is_empty() {
        Ok(replaced)
    } else {
        Err(Error::Untrue(untrue))
    }
}

/// Returns whether a path is one where Python looks for the bytecode of a source.
pub(super) fn is_bytecode(path: &str) -> bool {
    path.ends_with(".pyc") && path.contains("__pycache__/")
}
