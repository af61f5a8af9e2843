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

use crate::build::{Interrupt, Progress};
use crate::error::Error;
use crate::manifest::{File, LOG, Manifest, ManifestError, PATH};
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

/// How to repair.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// A sound copy of the venv, on disk.
    pub from: Option<&'a Path>,
    /// What may end the repair before it begins to put anything right. Then it goes on to its end, which is near.
    pub interrupt: Interrupt,
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
    /// Venvs whose manifest can't be read: whether they have the same damage is not known.
    pub unread: Vec<VenvName>,
}

/// Repairs a venv of this host, and the same damage in its other venvs.
///
/// # Errors
/// When the manifest can't be believed, or the right content is nowhere to be had; nothing is changed then.
pub fn repair(
    layout: &Layout,
    name: &VenvName,
    request: &Request<'_>,
    progress: &mut dyn Progress,
) -> Result<Repaired, Error> {
    let venv = VenvPath::local(layout, name.clone());
    if !layout.venv(name).is_dir() {
        return Err(Error::NoSuchVenv { venv: name.clone() });
    }
    progress.say("comparing all files with the manifest");
    let report = verify::verify(layout, &venv, verify::Options::default(), &verify::Silent)?;
    request.interrupt.check()?;
    let reasons = |is: fn(&Finding) -> bool| -> Vec<String> {
        let findings = report.findings.iter().filter(|finding| is(finding));
        findings.map(ToString::to_string).collect()
    };
    // First: with these put right, the rest may look otherwise.
    let (exposed, beyond) = (reasons(is_exposed), reasons(is_beyond));
    if !exposed.is_empty() {
        return Err(Error::Exposed {
            venv: name.clone(),
            reasons: exposed,
        });
    }
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
            request,
        };
        work.apply(&plan, progress, &mut repaired)?;
    }
    let after = verify::verify(layout, &venv, verify::Options::default(), &verify::Silent)?;
    repaired.left = after.findings;
    Ok(repaired)
}

/// Returns whether a finding is about what lies above or over the venv: others could undo whatever is put right.
fn is_exposed(finding: &Finding) -> bool {
    matches!(finding.code, Code::Chain | Code::Mount)
}

/// Returns whether a finding makes all else that is found worth nothing: a manifest that others could have written says
/// no more what was sealed.
fn is_beyond(finding: &Finding) -> bool {
    match finding.code {
        Code::NotSealed | Code::Manifest => true,
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
    request: &'a Request<'a>,
}

impl Work<'_> {
    fn apply(&self, plan: &Plan<'_>, progress: &mut dyn Progress, repaired: &mut Repaired) -> Result<(), Error> {
        let store = Store::open(self.layout)?;
        let mut supply = Supply::open(self.layout, self.venv, self.request.from)?;
        let mut missing = supply.missing(&store, &plan.files)?;
        let mut rebuilt = None;
        let mut failed = None;
        if !missing.is_empty() && self.request.from.is_none() {
            let these = match missing.len() {
                1 => "1 file is".to_owned(),
                count => format!("{count} files are"),
            };
            progress.say(&format!(
                "{these} nowhere else; building the venv anew to get what is missing"
            ));
            match rebuild::rebuild(self, progress) {
                Ok(found) => {
                    supply.add(&found.directory, Origin::Rebuild)?;
                    rebuilt = Some(found);
                    missing = supply.missing(&store, &plan.files)?;
                }
                Err(error) => failed = Some(venvd_fs::report(error.as_ref())),
            }
            self.request.interrupt.check()?;
        }
        if !missing.is_empty() {
            return Err(Error::NoSource {
                venv: self.venv.name().clone(),
                paths: missing.iter().map(|file| file.path.clone()).collect(),
                given: self.request.from.is_some(),
                rebuild: failed,
            });
        }
        space::require(&self.layout.venvs(), plan.files.iter().map(|file| file.size).sum())?;
        let _store = FileLock::exclusive(&self.layout.store_lock())?;
        self.request.interrupt.check()?;
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
        self.others(&store, &plan.files, repaired)?;
        drop(rebuilt);
        Ok(())
    }

    /// Mends the same damage in the host's other venvs. By now the store has all that they need.
    fn others(&self, store: &Store, files: &[&File], repaired: &mut Repaired) -> Result<(), Error> {
        let damaged: BTreeSet<(&str, u32)> = files
            .iter()
            .filter(|file| !file.placed)
            .map(|file| (file.blake3.as_str(), file.mode))
            .collect();
        for venv in list::paths(self.layout, None)? {
            if venv == *self.venv || venv.is_packaged(self.layout) {
                continue;
            }
            let directory = self.layout.on_disk(venv.path());
            let manifest = match Manifest::load(&directory) {
                Ok(manifest) => manifest,
                // It was never sealed, so it shares nothing.
                Err(ManifestError::Missing) => continue,
                Err(_) => {
                    repaired.unread.push(venv.name().clone());
                    continue;
                }
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
                    repaired.mended.push(Mended {
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
        Ok(())
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
        let repaired = repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent).unwrap();
        assert_eq!(repaired.left, []);
        assert_eq!(fs::read(host.path(PATH)).unwrap(), before);
        assert_eq!(fs::read_to_string(host.path(LOG)).unwrap(), "built\n");
    }

    #[test]
    fn something_in_the_place_of_the_log_goes() {
        let host = Host::new();
        fs::remove_file(host.path(LOG)).unwrap();
        fs::create_dir(host.path(LOG)).unwrap();
        let repaired = repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent).unwrap();
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
        let repaired = repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent).unwrap();
        assert_eq!(repaired.left, []);
        let again = repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent).unwrap();
        assert!(again.mended.is_empty() && again.left.is_empty(), "{again:?}");
    }

    #[test]
    fn an_open_directory_above_is_to_be_closed_first() {
        let host = Host::new();
        let above = host.layout.venvs();
        fs::set_permissions(&above, fs::Permissions::from_mode(0o777)).unwrap();
        let again = || repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent);
        let error = again().unwrap_err();
        assert_eq!(error.code(), "irreparable");
        let told = error.to_string();
        assert!(told.contains("run this again") && !told.contains("remove"), "{told}");
        fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(again().unwrap().left, []);
    }

    #[test]
    fn an_interrupted_repair_changes_nothing() {
        let host = Host::new();
        fs::write(host.path("bin/demo"), "damaged").unwrap();
        let request = Request::default();
        request.interrupt.raise(15);
        let error = repair(&host.layout, host.venv.name(), &request, &mut Silent).unwrap_err();
        assert_eq!(error.code(), "interrupted");
        assert_eq!(fs::read_to_string(host.path("bin/demo")).unwrap(), "damaged");
    }

    #[test]
    fn other_venvs_that_can_not_be_read_are_named() {
        let host = Host::new();
        Store::open(&host.layout)
            .unwrap()
            .share(&host.path(""), &host.manifest.files)
            .unwrap();
        let broken = host.path("").with_file_name("2").join(PATH);
        venvd_fs::atomic::write(&broken, b"{", 0o644).unwrap();
        fs::set_permissions(host.path("bin/demo"), fs::Permissions::from_mode(0o777)).unwrap();
        let repaired = repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent).unwrap();
        assert_eq!(repaired.left, []);
        assert_eq!(repaired.unread, ["demo:2".parse().unwrap()]);
    }

    #[test]
    fn a_manifest_that_others_could_write_is_not_believed() {
        let host = Host::new();
        fs::set_permissions(host.path(PATH), fs::Permissions::from_mode(0o666)).unwrap();
        let error = repair(&host.layout, host.venv.name(), &Request::default(), &mut Silent).unwrap_err();
        assert_eq!(error.code(), "irreparable", "{error}");
        assert!(Manifest::load(&host.path("")).is_ok());
    }
}
