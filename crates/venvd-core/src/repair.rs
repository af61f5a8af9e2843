//! Damage put right: what differs from the manifest becomes again what the manifest says, and nothing else is touched.
//!
//! A damaged file may be shared, so one repair mends every venv of the host that has the damage. The right bytes always
//! come as a new inode: processes that run keep what they have mapped, and whoever holds the old file open for writing
//! writes into nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_app::{Layout, VenvName};
use venvd_fs::beneath::Tree;
use venvd_fs::lock::Lock as FileLock;

use crate::build::{Progress, Stage};
use crate::error::Error;
use crate::manifest::{File, LOG, Manifest, PATH};
use crate::store::Store;
use crate::verify::{self, Code, Cure, Finding};
use crate::{list, space};

mod mend;
mod rebuild;
mod supply;

use mend::Mender;
use supply::Supply;

/// Where the right content came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The store.
    Store,
    /// The directory that was given.
    Directory,
    /// Another venv of this host, or another file of this one.
    Venv(VenvName),
    /// A rebuild of the venv's lock.
    Rebuild,
    /// The manifest: links, and attributes of directories.
    Manifest,
}

/// Something that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The venv that it belongs to.
    pub venv: VenvName,
    /// Relative to the venv.
    pub path: String,
    /// Where its content came from.
    pub origin: Origin,
}

/// What came of a repair.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What was put right, in this venv and in others with the same damage.
    pub mended: Vec<Mended>,
    /// What lay in the venv and did not belong there, and was removed.
    pub removed: Vec<String>,
    /// What is still wrong with the venv, since it is not a matter of its files.
    pub left: Vec<Finding>,
}

/// Repairs a venv of this host, and the same damage in its other venvs. `from` is a sound copy of the venv, on disk.
///
/// # Errors
/// When the manifest can't be believed, or the right content is nowhere to be had; nothing is changed then.
pub fn repair(
    layout: &Layout,
    name: &VenvName,
    from: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<Repaired, Error> {
    let venv = VenvPath::local(name.clone());
    if !layout.venv(name).is_dir() {
        return Err(Error::NoSuchVenv { venv: name.clone() });
    }
    progress.report(Stage::Seal, "comparing all files with the manifest");
    let report = verify::verify(layout, &venv, verify::Options::default(), &verify::Silent)?;
    let beyond: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| is_beyond(finding))
        .map(ToString::to_string)
        .collect();
    if !beyond.is_empty() {
        return Err(Error::Irreparable {
            venv: name.clone(),
            reasons: beyond,
        });
    }
    let directory = layout.on_disk(venv.path());
    let manifest = Manifest::load(&directory).map_err(|error| Error::NotSealed {
        path: directory,
        reason: error.to_string(),
    })?;
    let plan = Plan::of(&manifest, &report.findings);
    let mut repaired = Repaired::default();
    if !plan.is_empty() {
        let work = Work {
            layout,
            venv: &venv,
            manifest: &manifest,
            from,
        };
        work.apply(&plan, progress, &mut repaired)?;
    }
    let after = verify::verify(layout, &venv, verify::Options::default(), &verify::Silent)?;
    repaired.left = after.findings;
    Ok(repaired)
}

/// Returns whether a finding makes all else that is found worth nothing: a manifest that others could have written says
/// no more what was sealed.
fn is_beyond(finding: &Finding) -> bool {
    match finding.code {
        Code::NotSealed | Code::Manifest | Code::Chain | Code::Mount => true,
        Code::Owner | Code::Writable => finding.path.as_deref() == Some(PATH),
        _ => false,
    }
}

/// What is to be done, by the paths of the manifest.
#[derive(Debug, Default)]
struct Plan<'a> {
    files: Vec<&'a File>,
    links: BTreeSet<&'a str>,
    directories: BTreeSet<&'a str>,
    remove: Vec<&'a str>,
    /// Of venvd's own files, which no manifest lists.
    own: BTreeSet<&'a str>,
}

impl<'a> Plan<'a> {
    fn of(manifest: &'a Manifest, findings: &'a [Finding]) -> Self {
        let files: BTreeMap<&str, &File> = manifest.files.iter().map(|file| (file.path.as_str(), file)).collect();
        let links: BTreeSet<&str> = manifest.links.iter().map(|link| link.path.as_str()).collect();
        let mut plan = Self::default();
        let mut wanted = BTreeSet::new();
        for finding in findings {
            let Some(path) = finding.path.as_deref() else {
                continue;
            };
            match finding.code.cure() {
                Cure::Elsewhere => {}
                Cure::PutBack | Cure::Attributes if matches!(path, PATH | LOG) => {
                    plan.own.insert(path);
                }
                Cure::Remove => plan.remove.push(path),
                // A file with other attributes gets a new inode too: somebody else may have it open for writing.
                Cure::PutBack | Cure::Attributes if files.contains_key(path) => {
                    wanted.insert(path);
                }
                Cure::PutBack | Cure::Attributes if links.contains(path) => {
                    plan.links.insert(path);
                }
                Cure::PutBack | Cure::Attributes => {
                    plan.directories.insert(path);
                }
            }
        }
        plan.files = wanted.iter().filter_map(|path| files.get(path).copied()).collect();
        plan
    }

    fn is_empty(&self) -> bool {
        let Self {
            files,
            links,
            directories,
            remove,
            own,
        } = self;
        files.is_empty() && links.is_empty() && directories.is_empty() && remove.is_empty() && own.is_empty()
    }
}

struct Work<'a> {
    layout: &'a Layout,
    venv: &'a VenvPath,
    manifest: &'a Manifest,
    from: Option<&'a Path>,
}

impl Work<'_> {
    fn apply(&self, plan: &Plan<'_>, progress: &mut dyn Progress, repaired: &mut Repaired) -> Result<(), Error> {
        let store = Store::open(self.layout)?;
        let mut supply = Supply::open(self.layout, self.venv, self.from)?;
        let mut missing = supply.missing(&store, &plan.files)?;
        let mut rebuilt = None;
        let mut failed = None;
        if !missing.is_empty() && self.from.is_none() {
            progress.report(
                Stage::Build,
                &format!(
                    "{} files are nowhere else; building the venv anew to get them",
                    missing.len()
                ),
            );
            match rebuild::rebuild(self.layout, self.venv, self.manifest, progress) {
                Ok(found) => {
                    supply.add(&found.directory, Origin::Rebuild)?;
                    rebuilt = Some(found);
                    missing = supply.missing(&store, &plan.files)?;
                }
                Err(error) => failed = Some(venvd_fs::report(error.as_ref())),
            }
        }
        if !missing.is_empty() {
            return Err(Error::NoSource {
                venv: self.venv.name().clone(),
                paths: missing.iter().map(|file| file.path.clone()).collect(),
                given: self.from.is_some(),
                rebuild: failed,
            });
        }
        space::require(&self.layout.venvs(), plan.files.iter().map(|file| file.size).sum())?;
        let _store = FileLock::exclusive(&self.layout.store_lock())?;
        let tree = Tree::open(&self.layout.on_disk(self.venv.path()))?;
        let mender = Mender {
            store: &store,
            tree: &tree,
            manifest: self.manifest,
        };
        mender.directories(&plan.directories)?;
        for path in &plan.remove {
            mender.remove(path)?;
            repaired.removed.push((*path).to_owned());
        }
        let mended = |path: &str, origin| Mended {
            venv: self.venv.name().clone(),
            path: path.to_owned(),
            origin,
        };
        for path in &plan.own {
            mender.own(path)?;
        }
        let by_hand = plan.directories.iter().chain(&plan.links).chain(&plan.own);
        repaired
            .mended
            .extend(by_hand.map(|path| mended(path, Origin::Manifest)));
        for path in &plan.links {
            mender.link(path)?;
        }
        for file in &plan.files {
            let origin = mender.file(file, &supply)?;
            repaired.mended.push(mended(&file.path, origin));
        }
        mender.sync()?;
        repaired.mended.extend(self.others(&store, &plan.files)?);
        drop(rebuilt);
        Ok(())
    }

    /// Mends the same damage in the host's other venvs. By now the store has all that they need.
    fn others(&self, store: &Store, files: &[&File]) -> Result<Vec<Mended>, Error> {
        let damaged: BTreeSet<(&str, u32)> = files
            .iter()
            .filter(|file| !file.placed)
            .map(|file| (file.blake3.as_str(), file.mode))
            .collect();
        let mut mended = Vec::new();
        for venv in list::paths(self.layout, None)? {
            if venv == *self.venv || venv != VenvPath::local(venv.name().clone()) {
                continue;
            }
            let directory = self.layout.on_disk(venv.path());
            // What can't be read is for its own repair to say.
            let Ok(manifest) = Manifest::load(&directory) else {
                continue;
            };
            let tree = Tree::open(&directory)?;
            let mender = Mender {
                store,
                tree: &tree,
                manifest: &manifest,
            };
            let same = |file: &&File| !file.placed && damaged.contains(&(file.blake3.as_str(), file.mode));
            let mut any = false;
            for file in manifest.files.iter().filter(same) {
                if !mender.is_sound(file) {
                    mender.share(file)?;
                    any = true;
                    mended.push(Mended {
                        venv: venv.name().clone(),
                        path: file.path.clone(),
                        origin: Origin::Store,
                    });
                }
            }
            if any {
                mender.sync()?;
            }
        }
        Ok(mended)
    }
}

/// Returns a path's directory, relative to the tree.
fn parent_of(path: &str) -> PathBuf {
    Path::new(path).parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Silent;
    use crate::verify::tests::Host;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn own_files_with_another_mode_stay_what_they_are() {
        let host = Host::new();
        for (path, mode) in [(PATH, 0o600), (LOG, 0o644)] {
            fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let before = fs::read(host.path(PATH)).unwrap();
        let repaired = repair(&host.layout, host.venv.name(), None, &mut Silent).unwrap();
        assert_eq!(repaired.left, []);
        assert_eq!(fs::read(host.path(PATH)).unwrap(), before);
        assert_eq!(fs::read_to_string(host.path(LOG)).unwrap(), "built\n");
    }

    #[test]
    fn something_in_the_place_of_the_log_goes() {
        let host = Host::new();
        fs::remove_file(host.path(LOG)).unwrap();
        fs::create_dir(host.path(LOG)).unwrap();
        let repaired = repair(&host.layout, host.venv.name(), None, &mut Silent).unwrap();
        assert_eq!(repaired.left, []);
        assert!(!host.path(LOG).exists());
    }

    #[test]
    fn capabilities_of_a_shared_file_go_from_the_store_too() {
        let host = Host::new();
        let store = Store::open(&host.layout).unwrap();
        store.share(&host.path(""), &host.manifest.files).unwrap();
        let path = host.path("bin/demo");
        // As `setcap cap_net_raw+ep`.
        let value: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::fs::setxattr(&path, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
        let repaired = repair(&host.layout, host.venv.name(), None, &mut Silent).unwrap();
        assert_eq!(repaired.left, []);
        let again = repair(&host.layout, host.venv.name(), None, &mut Silent).unwrap();
        assert!(again.mended.is_empty() && again.left.is_empty(), "{again:?}");
    }

    #[test]
    fn a_manifest_that_others_could_write_is_not_believed() {
        let host = Host::new();
        fs::set_permissions(host.path(PATH), fs::Permissions::from_mode(0o666)).unwrap();
        let error = repair(&host.layout, host.venv.name(), None, &mut Silent).unwrap_err();
        assert_eq!(error.code(), "irreparable", "{error}");
        assert!(Manifest::load(&host.path("")).is_ok());
    }
}
