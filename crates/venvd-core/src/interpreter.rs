//! The Python interpreter that a venv is bound to: the host's, never a venv's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use venvd_fs::Root;
use venvd_fs::chain::{self, Owners};

/// Says what an interpreter is, see its own first lines.
const SCRIPT: &str = include_str!("interpreter/probe.py");

/// `compileall -s`, which canonical bytecode needs, came with 3.9.
const OLDEST: (u32, u32) = (3, 9);

/// What a host's interpreter is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// The binary itself, without any link: `/usr/bin/python3.11`.
    #[serde(skip)]
    pub path: PathBuf,
    /// `3.11.2`
    pub version: String,
    /// `3.11`
    pub minor: String,
    /// `cpython`
    pub implementation: String,
    /// The middle part of bytecode files' names: `cpython-311`.
    pub cache_tag: String,
    /// What extension modules are built for: `cpython-311-x86_64-linux-gnu`.
    pub soabi: String,
    /// The first bytes of bytecode files, in hex.
    pub magic: String,
    /// `linux-x86_64`
    pub platform: String,
    /// `x86_64`
    pub arch: String,
    /// The C library and its version: `glibc 2.36`.
    pub libc: String,
    /// The standard library's directory.
    pub stdlib: PathBuf,
}

/// Why an interpreter can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It is not there.
    #[error("there is no python at {path:?}; install it, or name another one as [build] python")]
    Missing {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Somebody other than root could replace it.
    #[error(transparent)]
    Unsafe(#[from] chain::Error),
    /// It does not run.
    #[error("cannot run {path:?}")]
    Run {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It runs and says nothing sensible.
    #[error("{path:?} is no usable python: {reason}")]
    Broken {
        /// The path.
        path: PathBuf,
        /// What it said instead.
        reason: String,
    },
    /// It is too old.
    #[error("{path:?} is python {version}; venvd needs {}.{} or newer", OLDEST.0, OLDEST.1)]
    Old {
        /// The path.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

impl ProbeError {
    /// Returns the word by which scripts tell errors apart.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "no-python",
            Self::Unsafe(_) => "unsafe-owner",
            Self::Run { .. } | Self::Broken { .. } => "python-broken",
            Self::Old { .. } => "python-old",
        }
    }
}

impl Interpreter {
    /// Runs the interpreter at `path`, isolated, and returns what it is.
    ///
    /// `path` is one of the running system, also when venvd works below another root: that is the Python that builds.
    /// Since root runs it, every directory on the way to it must be root's.
    ///
    /// # Errors
    /// When it is missing, not in root's hands alone, too old, or does not run.
    pub fn probe(path: &Path) -> Result<Self, ProbeError> {
        let real = match chain::check(&Root::host(), Owners::of_this_process(), path) {
            Ok(real) => real,
            Err(chain::Error::Io(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                return Err(ProbeError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(error.into()),
        };
        let output = Command::new(&real)
            .args(["-I", "-S", "-c", SCRIPT])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ProbeError::Run {
                path: real.clone(),
                source,
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default();
            let reason = format!("{}: {last}", output.status);
            return Err(ProbeError::Broken { path: real, reason });
        }
        Self::from_answer(real, &output.stdout)
    }

    fn from_answer(path: PathBuf, answer: &[u8]) -> Result<Self, ProbeError> {
        let mut interpreter: Self = serde_json::from_slice(answer).map_err(|error| ProbeError::Broken {
            path: path.clone(),
            reason: format!("its answer is not the JSON that was asked for ({error})"),
        })?;
        interpreter.path = path;
        let version: Option<(u32, u32)> = interpreter
            .minor
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        match version {
            Some(version) if version >= OLDEST => Ok(interpreter),
            _ => Err(ProbeError::Old {
                path: interpreter.path,
                version: interpreter.version,
            }),
        }
    }

    /// Returns the directory of installed packages, relative to a venv.
    #[must_use]
    pub fn site_packages(&self) -> PathBuf {
        PathBuf::from(format!("lib/python{}/site-packages", self.minor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_the_system_python_and_resolves_its_links() {
        let interpreter = Interpreter::probe(Path::new("/usr/bin/python3")).unwrap();
        assert!(
            interpreter.path.ends_with(format!("python{}", interpreter.minor)),
            "{interpreter:?}"
        );
        assert!(interpreter.version.starts_with(&interpreter.minor));
        assert!(interpreter.soabi.starts_with(&interpreter.cache_tag));
        assert_eq!(interpreter.magic.len(), 8);
        assert!(interpreter.stdlib.is_dir());
    }

    #[test]
    fn says_what_is_wrong() {
        let code = |path: &str| Interpreter::probe(Path::new(path)).unwrap_err().code();
        assert_eq!(code("/usr/bin/python0"), "no-python");
        assert_eq!(code("/usr/bin/true"), "python-broken");
        assert_eq!(code("/etc/hostname"), "python-broken");
        let answer = |minor: &str| {
            format!(
                r#"{{"version":"{minor}.1","minor":"{minor}","implementation":"cpython","cache_tag":"c","soabi":"s",
                "magic":"00","platform":"p","arch":"a","libc":"l","stdlib":"/"}}"#
            )
        };
        let parse = |minor: &str| Interpreter::from_answer("/p".into(), answer(minor).as_bytes());
        assert_eq!(parse("3.8").unwrap_err().code(), "python-old");
        assert_eq!(
            parse("3.14").unwrap().site_packages(),
            Path::new("lib/python3.14/site-packages")
        );
    }
}
