//! The directory that a venv is installed from, which anybody may have filled.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::{Layout, VenvName};
use venvd_fs::beneath::{self, Kind, Tree};
use venvd_fs::{IoContext, Root, chain, report};

use super::bytecode::is_bytecode;
use crate::Interpreter;
use crate::error::Error;
use crate::manifest::{self, File, Link, Manifest};
use crate::verify;

/// That of nova, the largest service, has 4 MiB.
pub(crate) const MAX_MANIFEST: u64 = 256 << 20;

/// All scripts and RECORDs together: they are held in memory. Those of nova have 1 MiB.
pub(crate) const MAX_PLACED: u64 = 64 << 20;

/// Far more than any venv has, and far less than what a sum of sizes can be.
const MAX_TREE: u64 = 1 << 42;

/// A directory with a manifest, whose entries are exactly those of the manifest.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tree: Tree,
    pub(crate) manifest: Manifest,
    /// Whether it is a venv of this host, that only root could have changed since it was sealed here.
    pub(crate) own: bool,
}

impl Source {
    /// Opens a directory, and refuses one that is not what its manifest says. Content is not read yet.
    pub(crate) fn open(layout: &Layout, from: &Path) -> Result<Self, Error> {
        let directory = from.canonicalize().at("open", from)?;
        let tree = Tree::open(&directory)?;
        let foreign = |reason: String| Error::Foreign {
            directory: directory.clone(),
            reasons: vec![reason],
        };
        let text = match tree.read(Path::new(manifest::PATH), MAX_MANIFEST) {
            Err(beneath::Error::Io(error)) if error.source.kind() == io::ErrorKind::NotFound => {
                return Err(foreign(manifest::ManifestError::Missing.to_string()));
            }
            Err(error) => return Err(foreign(report(&error))),
            Ok(text) => text,
        };
        let manifest = Manifest::parse(&text).map_err(|error| foreign(error.to_string()))?;
        let mut reasons = unsound(layout, &manifest);
        if reasons.is_empty() {
            reasons = other_entries(&tree, &manifest).map_err(|error| foreign(report(&error)))?;
        }
        if !reasons.is_empty() {
            return Err(Error::Foreign { directory, reasons });
        }
        let host_path = layout.root().on_host(&directory);
        let own = VenvPath::parse(layout, &host_path).is_some() && layout.trusted(&host_path).is_ok();
        Ok(Self { tree, manifest, own })
    }

    /// Returns this host's interpreter if it is one that the venv fits.
    pub(crate) fn interpreter(&self, venv: &VenvName) -> Result<Interpreter, Error> {
        let mut report = verify::Report::default();
        let interpreter = verify::python(&self.manifest, &mut report);
        match interpreter {
            Some(interpreter) if report.findings.is_empty() => Ok(interpreter),
            _ => Err(Error::Misfit {
                venv: venv.clone(),
                reasons: report.findings.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Returns a file's content, compared with the manifest.
    pub(crate) fn read(&self, file: &File) -> Result<Vec<u8>, Error> {
        let content = self.tree.read(Path::new(&file.path), MAX_PLACED)?;
        if blake3::hash(&content).to_hex().as_str() != file.blake3 {
            return Err(Error::Foreign {
                directory: self.tree.path().to_owned(),
                reasons: vec![format!("{} is not what its manifest says", file.path)],
            });
        }
        Ok(content)
    }
}

/// Returns what is wrong with a manifest by itself.
fn unsound(layout: &Layout, manifest: &Manifest) -> Vec<String> {
    let mut reasons = Vec::new();
    match manifest.name() {
        Ok(name) => {
            let findings = verify::manifest_of(&VenvPath::local(layout, name), manifest);
            reasons.extend(findings.iter().map(ToString::to_string));
        }
        Err(error) => reasons.push(error.to_string()),
    }
    let python = &manifest.python;
    // Root will start it to ask what it is: nothing but a Python, whatever else is root's.
    let minor = python.minor.split_once('.').is_some_and(|(major, minor)| {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        number(major) && number(minor)
    });
    let plain = !python.interpreter.components().any(|part| part.as_os_str() == "..");
    if !(minor
        && plain
        && python.interpreter.is_absolute()
        && python.interpreter.ends_with(format!("python{}", python.minor)))
    {
        reasons.push(format!(
            "it names {:?} as its python {}",
            python.interpreter, python.minor
        ));
    }
    let site = format!("lib/python{}/site-packages/", python.minor);
    for file in &manifest.files {
        let hex = file
            .blake3
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if file.blake3.len() != blake3::OUT_LEN * 2 || !hex {
            reasons.push(format!("its manifest has no hash for {}", file.path));
        }
        if is_bytecode(&file.path) && !file.path.starts_with(&site) {
            reasons.push(format!("{} is bytecode outside of site-packages", file.path));
        }
    }
    reasons.extend(bad_sizes(manifest));
    reasons.extend(manifest.links.iter().filter_map(|link| bad_link(manifest, link)));
    reasons
}

/// Space and memory are asked for by what a manifest says, so it must say what can be.
fn bad_sizes(manifest: &Manifest) -> Option<String> {
    let sum = |placed: bool| {
        let mut files = manifest.files.iter().filter(|file| file.placed || !placed);
        files.try_fold(0_u64, |sum, file| sum.checked_add(file.size))
    };
    if sum(false).is_none_or(|sum| sum > MAX_TREE) {
        return Some("its manifest lists more bytes than any venv has".to_owned());
    }
    (sum(true)? > MAX_PLACED).then(|| "its manifest lists more scripts than any venv has".to_owned())
}

/// Only those that sealing makes, and those of host modules, which are looked at on this host.
fn bad_link(manifest: &Manifest, link: &Link) -> Option<String> {
    let Link { path, target } = link;
    let versioned = format!("bin/python{}", manifest.python.minor);
    let expected: Option<PathBuf> = match path.as_str() {
        "bin/python" => Some(manifest.python.interpreter.clone()),
        "bin/python3" => Some("python".into()),
        "lib64" => Some("lib".into()),
        path if path == versioned => Some("python".into()),
        _ => None,
    };
    let reason = match expected {
        Some(expected) if expected == *target => return None,
        Some(_) => format!("its link {path} leads to {target:?}"),
        None if manifest.host_modules.iter().any(|module| module.links.contains(path)) => {
            match chain::check(&Root::host(), chain::Owners::of_this_process(), target) {
                Ok(_) if target.is_absolute() => return None,
                Ok(_) => format!("its link {path} leads to {target:?}, which is no module of the host"),
                Err(error) => format!("its link {path} leads to a module of the host: {}", report(&error)),
            }
        }
        None => format!("its link {path} is none that a sealed venv has"),
    };
    Some(reason)
}

/// Returns what the tree has more, has not, or has as something else than the manifest.
fn other_entries(tree: &Tree, manifest: &Manifest) -> Result<Vec<String>, beneath::Error> {
    let mut files: HashSet<&Path> = manifest.files.iter().map(|file| Path::new(&file.path)).collect();
    let mut links: HashSet<&Path> = manifest.links.iter().map(|link| Path::new(&link.path)).collect();
    let own = [manifest::PATH, manifest::LOG].map(Path::new);
    let mut directories: HashSet<&Path> = HashSet::new();
    for path in files.iter().chain(&links).chain(&own) {
        directories.extend(path.ancestors().skip(1));
    }
    let mut reasons = Vec::new();
    for entry in tree.entries()? {
        let path = entry.path.as_path();
        let expected = match entry.kind {
            Kind::Directory => directories.contains(path),
            Kind::File => own.contains(&path) || files.remove(path),
            Kind::Link => links.remove(path),
            Kind::Other => false,
        };
        if expected {
            continue;
        }
        // What lies there as something else is not missing too.
        let listed = [
            (directories.contains(path), "directory"),
            (own.contains(&path) || files.remove(path), "file"),
            (links.remove(path), "symbolic link"),
        ];
        let is = match entry.kind {
            Kind::Directory => "a directory",
            Kind::File => "a file",
            Kind::Link => "a symbolic link",
            Kind::Other => "neither file, directory nor link",
        };
        reasons.push(match listed.iter().find(|(listed, _)| *listed) {
            Some((_, what)) => format!("{} is {is}; its manifest has a {what} there", path.display()),
            None => format!("{} is not in its manifest", path.display()),
        });
    }
    let mut missing: Vec<&Path> = files.into_iter().chain(links).collect();
    missing.sort();
    reasons.extend(missing.iter().map(|path| format!("{} is missing", path.display())));
    for link in &manifest.links {
        // One that is missing was told.
        if let Ok(target) = tree.link(Path::new(&link.path))
            && target != link.target
        {
            reasons.push(format!("{} leads to {target:?}, not to {:?}", link.path, link.target));
        }
    }
    Ok(reasons)
}
