//! Do the distributions of a venv fit each other, and its Python?
//!
//! The question of `pip check`, answered the same way from the `METADATA` files alone ("Core metadata specifications",
//! "Dependency specifiers"): nothing of the venv is executed. What the host's Python has installed satisfies nothing here.

use std::collections::BTreeMap;
use std::path::Path;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, VersionOrUrl};
use rayon::prelude::*;

use crate::below::Below;
use crate::interpreter::Interpreter;
use crate::lock::normalise;

mod metadata;
#[cfg(test)]
mod tests;

use metadata::{Metadata, Requirement};

/// Larger than any description that a distribution carries along in its metadata.
const LONGEST: u64 = 16 << 20;

/// Something about a distribution that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Misfit {
    /// It needs another one that is not there.
    Missing {
        /// `name version` of who needs it.
        distribution: String,
        /// What it needs, as it says it.
        requirement: String,
    },
    /// It needs another version of one that is there.
    Conflict {
        /// `name version` of who needs it.
        distribution: String,
        /// What it needs, as it says it.
        requirement: String,
        /// `name version` of what is there.
        found: String,
    },
    /// It needs another Python.
    Python {
        /// `name version` of who needs it.
        distribution: String,
        /// Its `Requires-Python`.
        requirement: String,
        /// The version that is there.
        found: String,
    },
    /// Its metadata can't be understood.
    Unreadable {
        /// The file, relative to the venv.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing {
                distribution,
                requirement,
            } => write!(
                formatter,
                "{distribution} requires {requirement}, which is not installed"
            ),
            Self::Conflict {
                distribution,
                requirement,
                found,
            } => write!(
                formatter,
                "{distribution} requires {requirement}, but {found} is installed"
            ),
            Self::Python {
                distribution,
                requirement,
                found,
            } => write!(
                formatter,
                "{distribution} requires python {requirement}, but this is {found}"
            ),
            Self::Unreadable { path, reason } => write!(formatter, "{path} {reason}"),
        }
    }
}

/// Checks the distributions of the venv that lies in `tree`; returns what does not fit, sorted.
///
/// `paths` are those of its files, relative to it; of them only `METADATA` is read.
#[must_use]
pub fn check<'a>(tree: &Path, paths: impl Iterator<Item = &'a str>, interpreter: &Interpreter) -> Vec<Misfit> {
    let environment = match environment(interpreter) {
        Ok(environment) => environment,
        Err(reason) => {
            return vec![Misfit::Unreadable {
                path: interpreter.path.display().to_string(),
                reason,
            }];
        }
    };
    let below = match Below::open(tree) {
        Ok(below) => below,
        Err(error) => return vec![unreadable("", &error)],
    };
    let site = format!("{}/", interpreter.site_packages().display());
    let is_metadata = |path: &str| {
        let inner = path.strip_prefix(&site).and_then(|rest| rest.strip_suffix("/METADATA"));
        inner.is_some_and(|directory| directory.ends_with(".dist-info") && !directory.contains('/'))
    };
    let files: Vec<&str> = paths.filter(|path| is_metadata(path)).collect();
    let (read, mut misfits): (Vec<Metadata>, Vec<Misfit>) =
        files.par_iter().partition_map(|path| match read(&below, path) {
            Ok(metadata) => rayon::iter::Either::Left(metadata),
            Err(misfit) => rayon::iter::Either::Right(misfit),
        });
    let installed: BTreeMap<&str, &Version> = read
        .iter()
        .map(|metadata| (metadata.name.as_str(), &metadata.version))
        .collect();
    misfits.par_extend(read.par_iter().flat_map_iter(|metadata| {
        let mut misfits = one(metadata, &installed, &environment);
        misfits.extend(python(metadata, &environment));
        misfits
    }));
    misfits.sort();
    misfits.dedup();
    misfits
}

/// Returns what environment markers compare with, as `packaging.markers.default_environment` has it.
fn environment(interpreter: &Interpreter) -> Result<MarkerEnvironment, String> {
    // What may not be read is none of this host's, as where there is no /proc: hardly a requirement asks for it.
    let kernel = |name: &str| std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).unwrap_or_default();
    let (release, version) = (kernel("osrelease"), kernel("version"));
    let implementation = match interpreter.implementation.as_str() {
        "cpython" => "CPython",
        "pypy" => "PyPy",
        other => other,
    };
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: &interpreter.implementation,
        implementation_version: &interpreter.version,
        os_name: "posix",
        platform_machine: &interpreter.arch,
        platform_python_implementation: implementation,
        platform_release: release.trim_end(),
        platform_system: "Linux",
        platform_version: version.trim_end(),
        python_full_version: &interpreter.version,
        python_version: &interpreter.minor,
        sys_platform: "linux",
    })
    .map_err(|error| format!("says nothing of its version that could be compared: {error}"))
}

fn unreadable(path: &str, reason: &dyn std::fmt::Display) -> Misfit {
    Misfit::Unreadable {
        path: path.to_owned(),
        reason: format!("can't be read: {reason}"),
    }
}

fn read(below: &Below, path: &str) -> Result<Metadata, Misfit> {
    let content = below.read(path, LONGEST).map_err(|error| unreadable(path, &error))?;
    Metadata::parse(&String::from_utf8_lossy(&content)).map_err(|reason| Misfit::Unreadable {
        path: path.to_owned(),
        reason,
    })
}

/// Compares what one distribution requires with what is there.
fn one(metadata: &Metadata, installed: &BTreeMap<&str, &Version>, environment: &MarkerEnvironment) -> Vec<Misfit> {
    let distribution = format!("{} {}", metadata.name, metadata.version);
    let applies = |requirement: &&Requirement| requirement.parsed.evaluate_markers(environment, &[]);
    let unmet = |requirement: &Requirement| {
        let name = normalise(requirement.parsed.name.as_ref());
        let Some(version) = installed.get(name.as_str()) else {
            return Some(Misfit::Missing {
                distribution: distribution.clone(),
                requirement: requirement.text.clone(),
            });
        };
        // Of one that names an address, only that it is there can be told.
        let fits = match &requirement.parsed.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers.contains(version),
            Some(VersionOrUrl::Url(_)) | None => true,
        };
        (!fits).then(|| Misfit::Conflict {
            distribution: distribution.clone(),
            requirement: requirement.text.clone(),
            found: format!("{name} {version}"),
        })
    };
    metadata.requires.iter().filter(applies).filter_map(unmet).collect()
}

/// `pip check` does not ask this: pip and uv refuse to install such a one.
fn python(metadata: &Metadata, environment: &MarkerEnvironment) -> Option<Misfit> {
    let requirement = metadata.requires_python.as_ref()?;
    let version = &environment.python_full_version().version;
    let fits = requirement
        .parse::<VersionSpecifiers>()
        // What can't be understood is ignored by all installers.
        .map_or(true, |specifiers| specifiers.contains(version));
    (!fits).then(|| Misfit::Python {
        distribution: format!("{} {}", metadata.name, metadata.version),
        requirement: requirement.clone(),
        found: version.to_string(),
    })
}
