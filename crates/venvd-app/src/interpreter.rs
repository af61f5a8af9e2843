//! Is a venv's Python still there? As far as a look at `/usr` tells, without starting it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use venvd_fs::chain;

use crate::Layout;
use crate::record::Record;

/// Why a venv can't run on this host, or must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// An administrator has revoked it.
    #[error("it is revoked")]
    Revoked,
    /// Its interpreter is gone.
    #[error("its interpreter {} is not there", interpreter.display())]
    Missing {
        /// The interpreter.
        interpreter: PathBuf,
    },
    /// Its interpreter is another version now.
    #[error("its interpreter {} is python {found} now, and it was built for {recorded}", interpreter.display())]
    Minor {
        /// The interpreter.
        interpreter: PathBuf,
        /// The version it was built for.
        recorded: String,
        /// The version that is there.
        found: String,
    },
    /// Its interpreter takes other extension modules now.
    #[error("its interpreter {} has the SOABI {found} now, and it was built for {recorded}", interpreter.display())]
    Soabi {
        /// The interpreter.
        interpreter: PathBuf,
        /// The SOABI it was built for.
        recorded: String,
        /// The SOABI that is there.
        found: String,
    },
}

/// Returns why the venv of `record` can't run here, if that can be seen in `/usr`.
///
/// An interpreter elsewhere may lie on a file system that is not mounted yet; nothing is said about it.
#[must_use]
pub fn unfit(layout: &Layout, record: &Record) -> Option<Unfit> {
    let interpreter = &record.interpreter;
    if !interpreter.starts_with("/usr") || is_not_mounted(layout, interpreter) {
        return None;
    }
    let missing = || Unfit::Missing {
        interpreter: interpreter.clone(),
    };
    let real = match layout.trusted(interpreter) {
        Ok(real) => real,
        Err(chain::Error::Io(error)) if is_absence(&error.source) => return Some(missing()),
        Err(chain::Error::Loop { .. }) => return Some(missing()),
        // Who may write there is asked before a venv is put in force, not at boot.
        Err(_) => interpreter.clone(),
    };
    let runs = |data: &fs::Metadata| data.is_file() && data.permissions().mode() & 0o111 != 0;
    match fs::metadata(layout.on_disk(&real)) {
        Ok(data) if !runs(&data) => return Some(missing()),
        Err(error) if is_absence(&error) => return Some(missing()),
        Ok(_) | Err(_) => {}
    }
    if let Some(found) = minor_of(&real).filter(|found| *found != record.minor) {
        return Some(Unfit::Minor {
            interpreter: interpreter.clone(),
            recorded: record.minor.clone(),
            found: found.to_owned(),
        });
    }
    foreign_soabi(layout, &real, record).map(|found| Unfit::Soabi {
        interpreter: interpreter.clone(),
        recorded: record.soabi.clone(),
        found,
    })
}

/// `/usr/local` is often a file system of its own, mounted after generators run: then its directories are not there.
fn is_not_mounted(layout: &Layout, interpreter: &Path) -> bool {
    interpreter.starts_with("/usr/local")
        && interpreter
            .parent()
            .is_some_and(|directory| !layout.on_disk(directory).is_dir())
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the version in a file's name: `3.11` of `python3.11`, `python3.11d` or `python3.11t`.
fn minor_of(interpreter: &Path) -> Option<&str> {
    let version = interpreter.file_name()?.to_str()?.strip_prefix("python")?;
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    let version = &version[..end.unwrap_or(version.len())];
    let (major, minor) = version.split_once('.')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (number(major) && number(minor)).then_some(version)
}

/// Returns the SOABI of the standard library's own extension modules, if it is another than the recorded one.
///
/// `json` and `ssl` need some of them, so where they are they tell what the interpreter takes. Where there are none
/// (all built in, or in a directory of another name) nothing is known.
fn foreign_soabi(layout: &Layout, interpreter: &Path, record: &Record) -> Option<String> {
    let prefix = interpreter.parent()?.parent()?;
    let mut other = None;
    for library in ["lib", "lib64"] {
        // Free-threaded builds have a directory of their own.
        for suffix in ["", "t"] {
            let modules = prefix.join(format!("{library}/python{}{suffix}/lib-dynload", record.minor));
            let Ok(entries) = fs::read_dir(layout.on_disk(modules)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some(soabi) = name.to_str().and_then(soabi_of) else {
                    continue;
                };
                if soabi == record.soabi {
                    return None;
                }
                other.get_or_insert_with(|| soabi.to_owned());
            }
        }
    }
    other
}

/// Returns the SOABI in a module's name: `_ssl.cpython-311-x86_64-linux-gnu.so`.
fn soabi_of(module: &str) -> Option<&str> {
    let (_, soabi) = module.strip_suffix(".so")?.split_once('.')?;
    soabi.starts_with("cpython-").then_some(soabi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_names() {
        for (name, want) in [
            ("/usr/bin/python3.11", Some("3.11")),
            ("/usr/bin/python3.13t", Some("3.13")),
            ("/usr/bin/python3.11-dbg", Some("3.11")),
            ("/usr/bin/python3", None),
            ("/usr/bin/python", None),
            ("/usr/bin/pypy3.9", None),
            ("/usr/bin/python3.", None),
        ] {
            assert_eq!(minor_of(Path::new(name)), want, "{name}");
        }
    }

    #[test]
    fn soabis_in_names() {
        for (name, want) in [
            (
                "_ssl.cpython-311-x86_64-linux-gnu.so",
                Some("cpython-311-x86_64-linux-gnu"),
            ),
            ("_ssl.abi3.so", None),
            ("_ssl.so", None),
            ("README", None),
        ] {
            assert_eq!(soabi_of(name), want, "{name}");
        }
    }
}
