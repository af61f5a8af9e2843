//! Making what an installer left in one place fit another: scripts, `pyvenv.cfg`, `activate`, the links to Python.
//!
//! A script whose first line was missed would silently run another venv's Python, or none; so all forms that
//! installers write are known, whatever names a Python becomes ours, and what still names the old place is refused.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_fs::IoContext;
use venvd_fs::beneath::{Choice, Kind};

use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::record::Installed;

mod activate;
mod console;
mod place;
mod script;

pub use self::place::{Moved, move_to};
pub(crate) use self::script::LONGEST as LONGEST_FIRST_LINE;
pub use self::script::wrong_interpreter;

/// What tells of a venv's maker, not of its content.
const UNWANTED_METADATA: [&str; 5] = [
    "INSTALLER",
    "REQUESTED",
    "direct_url.json",
    "uv_cache.json",
    "uv_build.json",
];

/// What we put at a venv's top ourselves.
const UNWANTED_TOP: [&str; 3] = [".venvd", "lib64", "pyvenv.cfg"];

/// The first bytes of a program that is no script, elf(5).
const ELF: &[u8] = b"\x7fELF";

/// What we put into `bin` ourselves, besides the link with the minor version.
const UNWANTED_BIN: [&str; 3] = ["activate", "python", "python3"];

/// Says which entries of an installer's venv become part of ours.
pub(crate) fn choose(path: &Path, kind: Kind, interpreter: &Interpreter) -> Choice {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parent = path.parent().unwrap_or(Path::new(""));
    let unwanted = if parent == Path::new("") {
        UNWANTED_TOP.contains(&name.as_ref())
    } else if parent == Path::new("bin") {
        UNWANTED_BIN.contains(&name.as_ref()) || name == format!("python{}", interpreter.minor)
    } else {
        // Bytecode is made anew by us: what came along need not be that of its source.
        (kind == Kind::Directory && name == "__pycache__")
            || (parent.extension().is_some_and(|extension| extension == "dist-info")
                && UNWANTED_METADATA.contains(&name.as_ref()))
    };
    if unwanted { Choice::Skip } else { Choice::Copy }
}

/// Returns whether a program of this name is one that every venv has by itself.
fn is_own_program(name: &str) -> bool {
    let version = |text: &str| {
        text.chars()
            .all(|character| character.is_ascii_digit() || character == '.')
    };
    name == "activate" || name.strip_prefix("python").is_some_and(version)
}

/// Makes the programs of the tree run with the Python of `venv`'s place.
///
/// Returns the scripts that name this place, relative to the tree.
///
/// # Errors
/// When a script would run with another Python, a file still names the place of the install, or is an editable install.
pub(crate) fn relocate(tree: &Path, venv: &VenvPath, interpreter: &Interpreter) -> Result<BTreeSet<PathBuf>, Error> {
    let python = venv.bin().join("python").display().to_string();
    let declared = console::declared(tree, &interpreter.site_packages())?;
    for path in &declared.undeclared {
        let on_disk = tree.join(path);
        fs::remove_file(&on_disk).at("remove", &on_disk)?;
    }
    for (path, program) in &declared.programs {
        let on_disk = tree.join(path);
        fs::write(&on_disk, program.script(&python)).at("write", &on_disk)?;
    }
    let mut placed = BTreeSet::new();
    relocate_programs(tree, Path::new("bin"), &python, &mut placed)?;
    check_site_packages(tree, interpreter)?;
    Ok(placed)
}

/// Relocates the scripts in a directory and below it.
fn relocate_programs(tree: &Path, relative: &Path, python: &str, placed: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    let directory = tree.join(relative);
    // The installer made it, with its own files at least.
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let entry = entry.at("list", &directory)?;
        let (on_disk, path) = (entry.path(), relative.join(entry.file_name()));
        let kind = entry.file_type().at("look at", &on_disk)?;
        if kind.is_dir() {
            relocate_programs(tree, &path, python, placed)?;
        } else if kind.is_file() && relocate_program(&on_disk, &path, python)? {
            placed.insert(path);
        }
    }
    Ok(())
}

/// Relocates a program; returns whether it names the place now.
fn relocate_program(on_disk: &Path, path: &Path, python: &str) -> Result<bool, Error> {
    let content = fs::read(on_disk).at("read", on_disk)?;
    let rewritten = script::rewrite(&content, python);
    if let Some(rewritten) = rewritten.as_ref().filter(|rewritten| **rewritten != content) {
        fs::write(on_disk, rewritten).at("write", on_disk)?;
    }
    let placed = rewritten.is_some();
    let content = rewritten.unwrap_or(content);
    if let Some(reason) = script::wrong_interpreter(&content, python) {
        return Err(Error::Relocation {
            path: path.to_owned(),
            reason,
        });
    }
    let is_script = content.starts_with(b"#!");
    if is_script {
        refuse_origin(path, &content)?;
    }
    // Whether a wheel's own program is executable depends on its zip, and on which installer looks there.
    let mode = if is_script || content.starts_with(ELF) {
        0o755
    } else {
        0o644
    };
    fs::set_permissions(on_disk, fs::Permissions::from_mode(mode)).at("set the mode of", on_disk)?;
    Ok(placed)
}

/// Refuses what makes Python look for code outside of the venv.
fn check_site_packages(tree: &Path, interpreter: &Interpreter) -> Result<(), Error> {
    let site = interpreter.site_packages();
    let on_disk = tree.join(&site);
    for entry in fs::read_dir(&on_disk).at("list", &on_disk)? {
        let path = entry.at("list", &on_disk)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let relative = site.join(name.as_ref());
        if name.starts_with("__editable__") || name.ends_with(".egg-link") {
            let reason = "is an editable install, whose code is elsewhere".to_owned();
            return Err(Error::Relocation { path: relative, reason });
        }
        if name.ends_with(".pth") {
            refuse_origin(&relative, &fs::read(&path).at("read", &path)?)?;
        }
    }
    Ok(())
}

fn refuse_origin(path: &Path, content: &[u8]) -> Result<(), Error> {
    let origin = crate::build::ORIGIN;
    if content.windows(origin.len()).any(|window| window == origin.as_bytes()) {
        let reason = format!("names the place where it was installed first, {origin}");
        return Err(Error::Relocation {
            path: path.to_owned(),
            reason,
        });
    }
    Ok(())
}

/// Removes every file that no distribution owns, and returns them: what an installer adds to a venv (activation for many
/// shells, hooks as `_virtualenv.pth`) depends on the installer and its version, not on the lock.
///
/// # Errors
/// When a directory can't be read or a file not be removed.
pub(crate) fn prune(tree: &Path, installed: &Installed) -> Result<Vec<PathBuf>, Error> {
    let mut pruned = Vec::new();
    prune_directory(tree, Path::new(""), &mut |path| {
        let foreign = !installed.owners.contains_key(path);
        if foreign {
            pruned.push(path.to_owned());
        }
        foreign
    })?;
    Ok(pruned)
}

/// Returns whether anything is left in the directory; an empty one is removed by its caller.
fn prune_directory(tree: &Path, relative: &Path, unwanted: &mut dyn FnMut(&Path) -> bool) -> Result<bool, Error> {
    let directory = tree.join(relative);
    let mut any = false;
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let entry = entry.at("list", &directory)?;
        let (path, on_disk) = (relative.join(entry.file_name()), entry.path());
        if entry.file_type().at("look at", &on_disk)?.is_dir() {
            if prune_directory(tree, &path, unwanted)? {
                any = true;
            } else {
                fs::remove_dir(&on_disk).at("remove", &on_disk)?;
            }
        } else if unwanted(&path) {
            fs::remove_file(&on_disk).at("remove", &on_disk)?;
        } else {
            any = true;
        }
    }
    Ok(any)
}

/// Writes what every venv has by itself, and returns which file of it names the venv's place.
pub(crate) fn write_own_files(tree: &Path, venv: &VenvPath, interpreter: &Interpreter) -> Result<PathBuf, Error> {
    let home = interpreter.path.parent().unwrap_or(Path::new("/"));
    // The minor version only: a patch of Python changes neither the venv nor its digest.
    let configuration = format!(
        "home = {}\ninclude-system-site-packages = false\nversion = {}\n",
        home.display(),
        interpreter.minor
    );
    let bin = tree.join("bin");
    venvd_fs::atomic::create_directories(&bin, 0o755)?;
    for (name, text) in [("pyvenv.cfg", configuration), (activate::PATH, activate::text(venv))] {
        let path = tree.join(name);
        venvd_fs::atomic::write(&path, text.as_bytes(), 0o644)?;
    }
    let minor = format!("bin/python{}", interpreter.minor);
    for (link, target) in [
        ("bin/python", interpreter.path.as_path()),
        ("bin/python3", Path::new("python")),
        (&minor, Path::new("python")),
        // Where a distribution's Python looks for extension modules in lib64.
        ("lib64", Path::new("lib")),
    ] {
        let path = tree.join(link);
        symlink(target, &path).at("create the link", &path)?;
    }
    Ok(PathBuf::from(activate::PATH))
}

#[cfg(test)]
mod tests;
