//! The few files of a sealed venv that name its place, made for another one.

use std::collections::BTreeMap;

use venvd_app::links::VenvPath;

use super::{activate, script};
use crate::error::Error;
use crate::manifest::{File, Manifest};
use crate::record;

/// A venv as it is at another place.
#[derive(Debug)]
pub struct Moved {
    /// Its manifest there.
    pub manifest: Manifest,
    /// The content of every placed file there, by its path.
    pub contents: BTreeMap<String, Vec<u8>>,
}

/// Makes the placed files of a venv, and its manifest, for another place.
///
/// `read` returns the content of a placed file where it is now; it has to have been compared with the manifest. `created`
/// and the lock stay what they are: it is the same content.
///
/// # Errors
/// When `read` fails, or a file can't be made to fit.
pub fn move_to(
    manifest: &Manifest,
    to: &VenvPath,
    read: &mut dyn FnMut(&File) -> Result<Vec<u8>, Error>,
) -> Result<Moved, Error> {
    let python = to.bin().join("python").display().to_string();
    let mut contents = BTreeMap::new();
    let mut records = Vec::new();
    for file in manifest.files.iter().filter(|file| file.placed) {
        let content = read(file)?;
        if file.path == activate::PATH {
            contents.insert(file.path.clone(), activate::text(to).into_bytes());
        } else if file.path.starts_with("bin/") {
            let moved = script::rewrite(&content, &python).unwrap_or(content);
            if let Some(reason) = script::wrong_interpreter(&moved, &python) {
                return Err(Error::Relocation {
                    path: file.path.clone().into(),
                    reason,
                });
            }
            contents.insert(file.path.clone(), moved);
        } else {
            records.push((file, content));
        }
    }
    // Last: they have the hashes of the others.
    for (file, content) in records {
        contents.insert(file.path.clone(), record::rewrite(&file.path, &content, &contents)?);
    }
    let mut moved = manifest.clone();
    moved.app = to.name().app().clone();
    moved.tag = to.name().tag().clone();
    for file in &mut moved.files {
        if let Some(content) = contents.get(&file.path) {
            file.size = content.len() as u64;
            file.blake3 = blake3::hash(content).to_hex().to_string();
        }
    }
    Ok(Moved {
        manifest: moved,
        contents,
    })
}
