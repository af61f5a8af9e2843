//! May this venv be put in force on this host? Looked at, never run: only the system's own Python is.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::{Layout, ProgramName, VenvName};
use venvd_fs::{IoContext, chain};

use crate::interpreter::{Interpreter, ProbeError};
use crate::manifest::{Manifest, ManifestError};

/// Why a venv can't be put in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// There is no such directory.
    #[error("there is no venv {venv} ({path:?}); `venvctl list {}` shows those that exist", .venv.app())]
    NoSuchVenv {
        /// The venv.
        venv: VenvName,
        /// Where it should be.
        path: PathBuf,
    },
    /// It was not sealed.
    #[error("{venv} is not sealed: {source}")]
    NotSealed {
        /// The venv.
        venv: VenvName,
        /// Why not.
        source: ManifestError,
    },
    /// It was sealed under another name, so that its scripts start another venv's Python.
    #[error(
        "the directory of {venv} holds {sealed_as}: a venv can't be copied or renamed; `venvctl install` places it under \
         another name"
    )]
    Renamed {
        /// The venv that was asked for.
        venv: VenvName,
        /// The name in its manifest.
        sealed_as: String,
    },
    /// Somebody other than root could change it.
    #[error("{venv} is not in root's hands alone")]
    Unsafe {
        /// The venv.
        venv: VenvName,
        /// The component at fault.
        #[source]
        source: chain::Error,
    },
    /// `bin/python` leads elsewhere than to the recorded interpreter.
    #[error("bin/python of {venv} leads to {found:?}, not to {recorded:?}; build it anew")]
    PythonLink {
        /// The venv.
        venv: VenvName,
        /// Where it leads.
        found: PathBuf,
        /// What the manifest says.
        recorded: PathBuf,
    },
    /// The interpreter is gone or does not run.
    #[error("the python of {venv} can't be used")]
    Python {
        /// The venv.
        venv: VenvName,
        /// Why.
        #[source]
        source: ProbeError,
    },
    /// The interpreter is another than the venv was built for.
    #[error("{venv} was built for {what} {recorded}, but {interpreter:?} has {found}; build it anew for this host")]
    PythonMismatch {
        /// The venv.
        venv: VenvName,
        /// The interpreter.
        interpreter: PathBuf,
        /// `python`, `SOABI` or `bytecode magic`.
        what: &'static str,
        /// What the manifest says.
        recorded: Box<str>,
        /// What the host has.
        found: Box<str>,
    },
    /// A program that a unit or policy names is not in it, or is no program of this venv.
    #[error(
        "{venv} has no usable program {program}: {reason}; build it from a lock that has the distribution which brings it, \
         or take {program} out of the definition of {}",
        .venv.app()
    )]
    MissingProgram {
        /// The venv.
        venv: VenvName,
        /// The program.
        program: ProgramName,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be looked at.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
}

impl PreflightError {
    /// Returns the word by which scripts tell errors apart.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchVenv { .. } => "no-such-venv",
            Self::NotSealed { .. } => "not-sealed",
            Self::Renamed { .. } => "renamed",
            Self::Unsafe { .. } => "unsafe-owner",
            Self::PythonLink { .. } | Self::PythonMismatch { .. } => "python-mismatch",
            Self::Python { source, .. } => source.code(),
            Self::MissingProgram { .. } => "missing-program",
            Self::Io(_) => "io",
        }
    }
}

/// Checks that a venv is sealed, root's alone, fits this host's Python, and has the programs that are needed.
///
/// The interpreter is looked for on the running system, also when `layout` is below another root.
///
/// # Errors
/// The first thing that is wrong; nothing is changed.
pub fn check(layout: &Layout, venv: &VenvPath, needed: &[ProgramName]) -> Result<Manifest, PreflightError> {
    let name = venv.name();
    let directory = layout.on_disk(venv.path());
    if !directory.is_dir() {
        return Err(PreflightError::NoSuchVenv {
            venv: name.clone(),
            path: directory,
        });
    }
    // Before anything in it is believed; and what units start lies in the second.
    for path in [venv.path().join(crate::manifest::PATH), venv.bin()] {
        layout.trusted(&path).or_else(|source| match source {
            chain::Error::Io(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(PathBuf::new()),
            source => Err(PreflightError::Unsafe {
                venv: name.clone(),
                source,
            }),
        })?;
    }
    let manifest = Manifest::load(&directory).map_err(|source| PreflightError::NotSealed {
        venv: name.clone(),
        source,
    })?;
    if manifest.app != *name.app() || manifest.tag != *name.tag() {
        let sealed_as = format!("{}:{}", manifest.app, manifest.tag);
        return Err(PreflightError::Renamed {
            venv: name.clone(),
            sealed_as,
        });
    }
    check_python(name, &directory, &manifest)?;
    for program in needed {
        check_program(layout, venv, program)?;
    }
    Ok(manifest)
}

fn check_python(venv: &VenvName, directory: &Path, manifest: &Manifest) -> Result<(), PreflightError> {
    let link = directory.join("bin/python");
    let found = fs::read_link(&link).at("read the link", &link)?;
    let recorded = &manifest.python.interpreter;
    if found != *recorded {
        return Err(PreflightError::PythonLink {
            venv: venv.clone(),
            found,
            recorded: recorded.clone(),
        });
    }
    let interpreter = Interpreter::probe(recorded).map_err(|source| PreflightError::Python {
        venv: venv.clone(),
        source,
    })?;
    for (what, recorded, found) in [
        ("python", &manifest.python.minor, &interpreter.minor),
        ("SOABI", &manifest.python.soabi, &interpreter.soabi),
        ("bytecode magic", &manifest.python.magic, &interpreter.magic),
    ] {
        if recorded != found {
            return Err(PreflightError::PythonMismatch {
                venv: venv.clone(),
                interpreter: interpreter.path,
                what,
                recorded: recorded.as_str().into(),
                found: found.as_str().into(),
            });
        }
    }
    Ok(())
}

fn check_program(layout: &Layout, venv: &VenvPath, program: &ProgramName) -> Result<(), PreflightError> {
    let missing = |reason: String| PreflightError::MissingProgram {
        venv: venv.name().clone(),
        program: program.clone(),
        reason,
    };
    let on_host = venv.bin().join(program.as_str());
    let path = layout.on_disk(&on_host);
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(missing(format!("there is no {path:?}")));
        }
        Err(error) => return Err(error).at("look at", &path)?,
    };
    // The venv's own `python` is a link; it was looked at above.
    if metadata.is_symlink() && program.as_str().starts_with("python") {
        return Ok(());
    }
    if !metadata.is_file() || metadata.mode() & 0o111 != 0o111 {
        return Err(missing(format!("{path:?} is no executable file")));
    }
    layout.trusted(&on_host).map_err(|source| PreflightError::Unsafe {
        venv: venv.name().clone(),
        source,
    })?;
    let first = first_line(&path)?;
    let python = format!("#!{}", venv.bin().join("python").display());
    let ours = first
        .strip_prefix(&python)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    if first.starts_with("#!") && first.contains("python") && !ours {
        return Err(missing(format!(
            "its first line is {first:?}, not {python:?}: it would run outside the venv"
        )));
    }
    Ok(())
}

fn first_line(path: &Path) -> Result<String, venvd_fs::Error> {
    // The kernel reads no more of it: BINPRM_BUF_SIZE, execve(2).
    let mut line = [0; 256];
    let mut file = fs::File::open(path).at("open", path)?;
    let length = file.read(&mut line).at("read", path)?;
    let line = line.get(..length).unwrap_or_default();
    let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
    Ok(String::from_utf8_lossy(line.get(..end).unwrap_or_default()).into_owned())
}
