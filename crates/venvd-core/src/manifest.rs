//! What is in a sealed venv, and what it was made from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use venvd_app::name::NameError;
use venvd_app::{AppName, ProgramName, Record, Tag, VenvName};
use venvd_fs::atomic;

/// The version of the manifest's form. A venv with another one is not believed.
pub const FORMAT: u32 = 1;

/// Where the manifest lies in a venv.
pub const PATH: &str = ".venvd/manifest.json";

/// Where the log of the build lies in a venv. Neither it nor the manifest is listed in the manifest.
pub const LOG: &str = ".venvd/build.log";

/// What is in a sealed venv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The app.
    pub app: AppName,
    /// The tag.
    pub tag: Tag,
    /// When it was sealed, in seconds since 1970. Not part of the digest.
    pub created: u64,
    /// What installed it. Not part of the digest.
    pub builder: BuilderRecord,
    /// What it was built from.
    pub lock: LockRecord,
    /// The Python it is bound to.
    pub python: Python,
    /// `linux-x86_64`
    pub platform: String,
    /// `x86_64`
    pub arch: String,
    /// The oldest glibc that its wheels say they run with: `2.34`.
    pub glibc: Option<String>,
    /// Modules of the host's Python that are linked in.
    pub host_modules: Vec<HostModule>,
    /// What is installed, sorted by name.
    pub distributions: Vec<Distribution>,
    /// The executable files in `bin`, sorted.
    pub programs: Vec<ProgramName>,
    /// Sources that are no valid Python (templates mostly), sorted; they have no bytecode.
    pub uncompiled: Vec<String>,
    /// Files that several distributions have, each with other content, sorted by path.
    pub contested: Vec<Contested>,
    /// Every regular file, sorted by path.
    pub files: Vec<File>,
    /// Every symbolic link, sorted by path.
    pub links: Vec<Link>,
}

/// What installed a venv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderRecord {
    /// `uv` or `pip`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of venvd.
    pub venvd: String,
}

/// What a venv was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRecord {
    /// The digest of what decides a venv's content: BLAKE3, in hex.
    pub digest: String,
    /// The form of `text`.
    pub format: crate::lock::Format,
    /// The lock, as it was given or made.
    pub text: String,
}

/// The Python that a venv is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The binary, as a path of the host without links: `/usr/bin/python3.11`.
    pub interpreter: PathBuf,
    /// `3.11.2`. Not part of the digest: a security update of Python does not change a venv.
    pub version: String,
    /// `3.11`
    pub minor: String,
    /// `cpython-311-x86_64-linux-gnu`
    pub soabi: String,
    /// `cpython-311`
    pub cache_tag: String,
    /// The first bytes of its bytecode files, in hex.
    pub magic: String,
}

/// An installed distribution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Its name, normalised: `oslo-config`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A module of the interpreter's own that is linked into a venv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostModule {
    /// Its name, as declared: `libvirt`.
    pub name: String,
    /// The links that belong to it, relative to the venv, sorted; where they lead is said in [`Manifest::links`].
    pub links: Vec<String>,
}

/// A file that several distributions have, each with other content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contested {
    /// Relative to the venv.
    pub path: String,
    /// The distributions, sorted by name. The content is that of the last one.
    pub distributions: Vec<String>,
}

/// A regular file of a venv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Relative to the venv.
    pub path: String,
    /// The distribution it belongs to; none for what venvd wrote itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dist: Option<String>,
    /// In bytes.
    pub size: u64,
    /// 0o644 or 0o755.
    pub mode: u32,
    /// Whether its content names the venv's own place, so that it is written anew wherever the venv is placed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub placed: bool,
    /// The hash of its content, in hex.
    pub blake3: String,
}

/// A symbolic link of a venv.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Relative to the venv.
    pub path: String,
    /// Where it leads.
    pub target: PathBuf,
}

/// Why a manifest can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there: this is no sealed venv.
    #[error("it has no {PATH}")]
    Missing,
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// It is not a manifest.
    #[error("its {PATH} is no manifest: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
}

impl Manifest {
    /// Reads the manifest of the venv in `directory`, a path on disk.
    ///
    /// # Errors
    /// When there is none, or it is not one of this [`FORMAT`].
    pub fn load(directory: &Path) -> Result<Self, ManifestError> {
        Self::parse(&atomic::read(&directory.join(PATH))?.ok_or(ManifestError::Missing)?)
    }

    /// Reads a manifest's text.
    ///
    /// # Errors
    /// When it is none of this [`FORMAT`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        parse_form(bytes, |manifest: &Self| manifest.format)
    }

    /// Returns the venv's name.
    ///
    /// # Errors
    /// When app and tag are too long together; no sealed venv is so.
    pub fn name(&self) -> Result<VenvName, NameError> {
        VenvName::new(self.app.clone(), self.tag.clone())
    }

    /// Returns the BLAKE3 digest, in hex, of all that must be equal on every host: not when, nor by what it was built.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut same = self.clone();
        same.created = 0;
        same.builder = BuilderRecord {
            name: String::new(),
            version: String::new(),
            venvd: String::new(),
        };
        same.python.version.clear();
        // Maps with string keys, numbers and strings only: this can't fail, and if it did the digest would match nothing.
        let bytes = serde_json::to_vec(&same).unwrap_or_default();
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// Returns the size of all files together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// What a venv was made from and for: a manifest without the thousands of files, which a look at it need not know.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Head {
    format: u32,
    /// As in [`Manifest`].
    pub(crate) lock: LockRecord,
    /// As in [`Manifest`].
    pub(crate) python: Python,
    /// As in [`Manifest`].
    pub(crate) platform: String,
    /// As in [`Manifest`].
    pub(crate) host_modules: Vec<HostModule>,
}

impl Head {
    /// Reads the head of the manifest of the venv in `directory`, a path on disk.
    ///
    /// # Errors
    /// When there is none, it is not one of this [`FORMAT`], or is no JSON to its end.
    pub(crate) fn load(directory: &Path) -> Result<Self, ManifestError> {
        let bytes = atomic::read(&directory.join(PATH))?.ok_or(ManifestError::Missing)?;
        parse_form(&bytes, |head: &Self| head.format)
    }
}

fn parse_form<T: serde::de::DeserializeOwned>(bytes: &[u8], format_of: fn(&T) -> u32) -> Result<T, ManifestError> {
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    serde_json::from_slice::<T>(bytes)
        .map_err(|error| error.to_string())
        .and_then(|manifest| match format_of(&manifest) {
            FORMAT => Ok(manifest),
            other => Err(other_format(other)),
        })
        .map_err(|reason| {
            // A newer form has other keys: then say that, not which key.
            let format = serde_json::from_slice::<Probe>(bytes).map_or(FORMAT, |probe| probe.format);
            let reason = if format == FORMAT { reason } else { other_format(format) };
            ManifestError::Invalid { reason }
        })
}

fn other_format(format: u32) -> String {
    format!("it has format {format}, this venvd reads format {FORMAT}")
}

/// Returns the record of a venv that is put in force.
///
/// # Errors
/// As [`Manifest::name`].
pub fn committed_record(manifest: &Manifest) -> Result<Record, NameError> {
    Ok(Record {
        venv: manifest.name()?,
        interpreter: manifest.python.interpreter.clone(),
        minor: manifest.python.minor.clone(),
        soabi: manifest.python.soabi.clone(),
        version: manifest.python.version.clone(),
        programs: manifest.programs.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    pub(crate) fn example() -> Manifest {
        Manifest {
            format: FORMAT,
            app: "nova".parse().unwrap(),
            tag: "29.2.0".parse().unwrap(),
            created: 1_700_000_000,
            builder: BuilderRecord {
                name: "uv".into(),
                version: "0.13.9".into(),
                venvd: "0.1.0".into(),
            },
            lock: LockRecord {
                digest: "ab".repeat(32),
                format: crate::lock::Format::Requirements,
                text: "nova==29.2.0 --hash=sha256:00\n".into(),
            },
            python: Python {
                interpreter: "/usr/bin/python3.11".into(),
                version: "3.11.2".into(),
                minor: "3.11".into(),
                soabi: "cpython-311-x86_64-linux-gnu".into(),
                cache_tag: "cpython-311".into(),
                magic: "a70d0d0a".into(),
            },
            platform: "linux-x86_64".into(),
            arch: "x86_64".into(),
            glibc: Some("2.17".into()),
            host_modules: vec![],
            distributions: vec![Distribution {
                name: "nova".into(),
                version: "29.2.0".into(),
            }],
            programs: vec!["nova-manage".parse().unwrap()],
            uncompiled: vec![],
            contested: vec![],
            files: vec![File {
                path: "bin/nova-manage".into(),
                dist: Some("nova".into()),
                size: 5,
                mode: 0o755,
                placed: true,
                blake3: "00".repeat(32),
            }],
            links: vec![Link {
                path: "bin/python".into(),
                target: "/usr/bin/python3.11".into(),
            }],
        }
    }

    #[test]
    fn loads_what_was_written_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Manifest::load(directory.path()), Err(ManifestError::Missing)));
        let path = directory.path().join(PATH);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, example().to_json().unwrap()).unwrap();
        assert_eq!(Manifest::load(directory.path()).unwrap(), example());
        assert_eq!(Head::load(directory.path()).unwrap().lock, example().lock);
        let text = String::from_utf8(example().to_json().unwrap()).unwrap();
        for (from, to, reason) in [
            ("\"format\":1", "\"format\":2,\"new\":1", "format 2"),
            ("\"created\":", "\"recreated\":", "recreated"),
            ("\"app\":\"nova\"", "\"app\":\"../x\"", "not an app name"),
            ("]}", "]", "EOF"),
        ] {
            fs::write(&path, text.replacen(from, to, usize::MAX)).unwrap();
            let error = Manifest::load(directory.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_digest_is_of_content_not_of_circumstances() {
        let digest = example().digest();
        let mut same = example();
        same.created += 1;
        same.builder.name = "pip".into();
        same.python.version = "3.11.9".into();
        assert_eq!(same.digest(), digest);
        let mut other = example();
        other.files[0].mode = 0o644;
        assert_ne!(other.digest(), digest);
    }
}
