use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Host;
use venvd_app::VenvName;
use venvd_app::links::VenvPath;
use venvd_core::build::{Interrupt, Outcome, Progress, Silent, Stage};
use venvd_core::install::{self, Installed};
use venvd_core::manifest::{self, Manifest};
use venvd_core::repair::{self, Origin, Repaired};
use venvd_core::store::{Sharing, Store};
use venvd_core::verify::{self, verify};
use venvd_core::{Error, remove};

const SITE: &str = "lib/python3.11/site-packages";

fn venv(tag: &str) -> VenvPath {
    crate::support::local(&format!("demo:{tag}"))
}

fn directory(host: &Host, tag: &str) -> PathBuf {
    host.layout.on_disk(venv(tag).path())
}

fn name(text: &str) -> VenvName {
    text.parse().unwrap()
}

/// Returns `code path` of all that verify finds.
fn findings(host: &Host, tag: &str) -> Vec<String> {
    let report = verify(&host.layout, &venv(tag), verify::Options::default(), &verify::Silent).unwrap();
    let text = |finding: &verify::Finding| format!("{} {}", finding.code, finding.path.as_deref().unwrap_or("-"));
    report.findings.iter().map(text).collect()
}

/// A host with `demo:1` and `demo:2`, two releases that share a library.
fn two_releases() -> Host {
    let host = Host::new();
    let library = host.wheel(
        "library",
        "1",
        &[("library/__init__.py", "def deep():\n    return 1\n")],
    );
    for release in ["1", "2"] {
        let demo = host.demo(&format!("{release}.0"));
        host.write("/lock.txt", &format!("{demo}{library}"));
        host.declare("packages = [\"demo\"]\nlock = \"/lock.txt\"");
        host.build(Some(release)).unwrap();
    }
    host
}

fn install_to(host: &Host, from: &Path, to: Option<&str>) -> Result<Installed, Error> {
    let request = install::Request {
        name: to.map(name),
        ..install::Request::new(from)
    };
    install::install(&host.layout, &request, &mut Silent)
}

fn mend(host: &Host, tag: &str, from: Option<&Path>) -> Result<Repaired, Error> {
    let request = repair::Request {
        from,
        ..repair::Request::default()
    };
    repair::repair(&host.layout, venv(tag).name(), &request, &mut Silent)
}

#[test]
fn releases_share_what_they_have_in_common() {
    let host = two_releases();
    let inode = |tag: &str, path: &str| fs::metadata(directory(&host, tag).join(path)).unwrap().ino();
    let library = format!("{SITE}/library/__init__.py");
    assert_eq!(inode("1", &library), inode("2", &library));
    let changed = format!("{SITE}/demo/__init__.py");
    assert_ne!(inode("1", &changed), inode("2", &changed));
    // What names its place is each venv's own.
    assert_eq!(fs::metadata(directory(&host, "1").join("bin/demo")).unwrap().nlink(), 1);
    for tag in ["1", "2"] {
        assert_eq!(findings(&host, tag), Vec::<String>::new());
    }
    // Removing one leaves the other whole, and the sweep takes only what was its own.
    remove::remove(&host.layout, venv("1").name()).unwrap();
    let swept = Store::open(&host.layout).unwrap().sweep(&host.layout).unwrap();
    assert!(swept.objects > 0);
    assert_eq!(findings(&host, "2"), Vec::<String>::new());
    assert_eq!(
        Store::open(&host.layout).unwrap().sweep(&host.layout).unwrap().objects,
        0
    );
}

#[test]
fn a_venv_moves_to_another_name_and_another_host() {
    let host = two_releases();
    let other = Host::new();
    for (host_to, to, tag) in [
        (&host, Some("demo:copy"), "copy"),
        (&other, None, "1"),
        (&other, Some("demo:moved"), "moved"),
    ] {
        let installed = install_to(host_to, &directory(&host, "1"), to).unwrap();
        assert_eq!((installed.outcome, &installed.venv), (Outcome::New, &venv(tag)));
        assert_eq!(findings(host_to, tag), Vec::<String>::new());
        let script = fs::read_to_string(directory(host_to, tag).join("bin/demo")).unwrap();
        let first = format!("#!/var/lib/venvd/venvs/demo/{tag}/bin/python\n");
        assert!(script.starts_with(&first), "{script}");
        assert!(host_to.path(&format!("/etc/venvd/locks/demo/{tag}.txt")).exists());
        assert_eq!(host_to.names("/var/lib/venvd/staging"), ["demo.log"; 0]);
        let again = install_to(host_to, &directory(&host, "1"), to).unwrap();
        assert_eq!((again.outcome, again.venv), (Outcome::AlreadyThere, venv(tag)));
    }
    // On its own host nothing but what names the place is new.
    let manifest = Manifest::load(&directory(&host, "copy")).unwrap();
    for file in &manifest.files {
        let links = fs::metadata(directory(&host, "copy").join(&file.path)).unwrap().nlink();
        assert_eq!(links == 1, file.placed, "{}", file.path);
    }
    // A tag names one content.
    let refused = install_to(&other, &directory(&host, "2"), Some("demo:1")).unwrap_err();
    assert_eq!(refused.code(), "other-content");
    assert!(refused.to_string().contains("demo is 1.0 there, not 2.0"), "{refused}");
    // Also when only its lock is left, from which it would be built again.
    remove::remove(&other.layout, venv("1").name()).unwrap();
    let refused = install_to(&other, &directory(&host, "2"), Some("demo:1")).unwrap_err();
    assert_eq!(refused.code(), "other-lock", "{refused}");
    // Moved back under its first name it is the same, to the byte.
    let home = Host::new();
    install_to(&home, &directory(&other, "moved"), Some("demo:1")).unwrap();
    assert_eq!(
        Manifest::load(&directory(&home, "1")).unwrap().digest(),
        Manifest::load(&directory(&host, "1")).unwrap().digest()
    );
}

/// Copies a venv to where anybody could have filled it.
fn medium(host: &Host, tag: &str) -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let copy = temporary.path().join("venv");
    let status = Command::new("cp")
        .arg("-a")
        .arg(directory(host, tag))
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success());
    (temporary, copy)
}

fn rewrite_manifest(copy: &Path, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = Manifest::load(copy).unwrap();
    change(&mut manifest);
    fs::write(copy.join(manifest::PATH), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

fn own(copy: &Path, path: &str, content: &[u8]) {
    // Never into the inode that the copy may share.
    let path = copy.join(path);
    let _absent = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
}

fn list_file(manifest: &mut Manifest, path: &str, content: &[u8]) {
    manifest.files.push(manifest::File {
        path: path.into(),
        dist: None,
        size: content.len() as u64,
        mode: 0o644,
        placed: false,
        blake3: blake3::hash(content).to_hex().to_string(),
    });
}

#[test]
fn a_hostile_directory_is_refused_with_nothing_left() {
    type Change = fn(&Path);
    let cases: [(&str, Change, &str); 25] = [
        (
            "content",
            |copy| own(copy, &format!("{SITE}/demo/__init__.py"), b"import os\n"),
            "not what its manifest",
        ),
        (
            "script",
            |copy| own(copy, "bin/demo", b"#!/bin/sh\n"),
            "not what its manifest",
        ),
        (
            "extra",
            |copy| own(copy, &format!("{SITE}/evil.pth"), b"import os\n"),
            "evil.pth is not in its manifest",
        ),
        (
            "missing",
            |copy| fs::remove_file(copy.join("bin/demo")).unwrap(),
            "bin/demo is missing",
        ),
        (
            "link out",
            |copy| {
                fs::remove_file(copy.join("pyvenv.cfg")).unwrap();
                symlink("/etc/shadow", copy.join("pyvenv.cfg")).unwrap();
            },
            "pyvenv.cfg is a symbolic link; its manifest has a file there",
        ),
        (
            "directory link",
            |copy| {
                fs::rename(copy.join("bin"), copy.join("../bin")).unwrap();
                symlink("../bin", copy.join("bin")).unwrap();
            },
            "bin is a symbolic link; its manifest has a directory there",
        ),
        (
            "manifest link",
            |copy| {
                fs::rename(copy.join(manifest::PATH), copy.join("../manifest")).unwrap();
                symlink("../../manifest", copy.join(manifest::PATH)).unwrap();
            },
            "manifest.json",
        ),
        (
            "python",
            |copy| {
                fs::remove_file(copy.join("bin/python")).unwrap();
                symlink("/tmp/python", copy.join("bin/python")).unwrap();
            },
            "bin/python leads to",
        ),
        (
            "fifo",
            |copy| {
                let path = copy.join("pyvenv.cfg");
                fs::remove_file(&path).unwrap();
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            "pyvenv.cfg is neither file, directory nor link; its manifest has a file there",
        ),
        (
            "no manifest",
            |copy| fs::remove_file(copy.join(manifest::PATH)).unwrap(),
            "has no .venvd/manifest.json",
        ),
        ("name", |copy| own(copy, "bin/a\u{1b}[2Jb", b""), "printable"),
        (
            "leaves",
            |copy| rewrite_manifest(copy, |manifest| list_file(manifest, "../../../etc/cron.d/x", b"x")),
            "no path within",
        ),
        (
            "absolute",
            |copy| rewrite_manifest(copy, |manifest| list_file(manifest, "/etc/cron.d/x", b"x")),
            "no path within",
        ),
        (
            "twice",
            |copy| rewrite_manifest(copy, |manifest| list_file(manifest, "bin/demo", b"x")),
            "twice",
        ),
        (
            "setuid",
            |copy| rewrite_manifest(copy, |manifest| manifest.files[0].mode = 0o4755),
            "only 0644 and 0755",
        ),
        (
            "listed link",
            |copy| {
                rewrite_manifest(copy, |manifest| {
                    let (path, target) = ("etc".to_owned(), "/etc".into());
                    manifest.links.push(manifest::Link { path, target });
                });
                symlink("/etc", copy.join("etc")).unwrap();
            },
            "etc",
        ),
        (
            "interpreter",
            |copy| rewrite_manifest(copy, |manifest| manifest.python.interpreter = "/usr/sbin/reboot".into()),
            "as its python",
        ),
        (
            "traversal",
            |copy| rewrite_manifest(copy, |manifest| manifest.python.minor = "../../x".into()),
            "as its python",
        ),
        (
            "hidden script",
            |copy| {
                rewrite_manifest(copy, |manifest| {
                    let file = manifest.files.iter_mut().find(|file| file.path == "bin/demo").unwrap();
                    file.placed = false;
                });
                // To be installed under another tag, see below.
            },
            "would run with",
        ),
        (
            "lock",
            |copy| rewrite_manifest(copy, |manifest| manifest.lock.text = "--index-url http://x\n".into()),
            "its lock is none",
        ),
        (
            "digest",
            |copy| rewrite_manifest(copy, |manifest| manifest.lock.digest = "0".repeat(64)),
            "have the digest",
        ),
        (
            "size",
            |copy| rewrite_manifest(copy, |manifest| manifest.files[0].size = u64::MAX),
            "more bytes than",
        ),
        (
            "holes",
            |copy| {
                let path = format!("{SITE}/demo/__init__.py");
                own(copy, &path, b"");
                let file = fs::File::options().write(true).open(copy.join(path)).unwrap();
                file.set_len(1 << 42).unwrap();
            },
            "not what its manifest",
        ),
        (
            "hash",
            |copy| {
                rewrite_manifest(copy, |manifest| {
                    manifest.files[0].blake3 = "../../../../etc/passwd".into()
                })
            },
            "no hash for",
        ),
        (
            "bytecode",
            |copy| {
                let path = format!("{SITE}/demo/__pycache__/__init__.cpython-311.pyc");
                let mut content = fs::read(copy.join(&path)).unwrap();
                let last = content.len() - 20;
                content[last] ^= 1;
                own(copy, &path, &content);
                rewrite_manifest(copy, |manifest| {
                    let file = manifest.files.iter_mut().find(|file| file.path == path).unwrap();
                    file.blake3 = blake3::hash(&content).to_hex().to_string();
                });
            },
            "not what its source compiles to",
        ),
    ];
    let host = two_releases();
    for (what, change, expected) in cases {
        let (_temporary, copy) = medium(&host, "1");
        change(&copy);
        let other = Host::new();
        let to = (what == "hidden script").then_some("demo:9");
        let error = install_to(&other, &copy, to).unwrap_err();
        let text = venvd_fs::report(&error);
        assert!(text.contains(expected), "{what}: {text}");
        assert_eq!(error.code(), "unsound-venv", "{what}: {text}");
        other.assert_nothing_left();
        let store = other.path("/var/lib/venvd/store");
        let left = walk(&store).into_iter().filter(|path| path.is_file()).count();
        assert_eq!(left, 0, "{what}");
    }
    assert_eq!(findings(&host, "1"), Vec::<String>::new());
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            paths.extend(walk(&path));
        }
        paths.push(path);
    }
    paths
}

#[test]
fn attributes_of_a_directory_are_never_taken_over() {
    let host = two_releases();
    let (_temporary, copy) = medium(&host, "1");
    for (path, mode) in [("bin/demo", 0o6777), ("bin", 0o777), ("pyvenv.cfg", 0o666)] {
        fs::set_permissions(copy.join(path), fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(copy.join(path), Some(65000), Some(65000)).unwrap();
    }
    let other = Host::new();
    install_to(&other, &copy, None).unwrap();
    assert_eq!(findings(&other, "1"), Vec::<String>::new());
}

#[test]
fn a_host_without_the_right_python_is_refused_before_anything_is_written() {
    let host = two_releases();
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 5] = [
        ("minor", |manifest| {
            manifest.python.minor = "3.99".into();
            manifest.python.interpreter = "/usr/bin/python3.99".into();
            for link in &mut manifest.links {
                if link.path == "bin/python" {
                    link.target = "/usr/bin/python3.99".into();
                }
            }
            manifest.links.retain(|link| link.path != "bin/python3.11");
            for file in &mut manifest.files {
                file.path = file.path.replace("lib/python3.11", "lib/python3.99");
            }
        }),
        ("soabi", |manifest| manifest.python.soabi = "cpython-311-arm".into()),
        ("magic", |manifest| manifest.python.magic = "00000000".into()),
        ("machine", |manifest| manifest.arch = "s390x".into()),
        ("glibc", |manifest| manifest.glibc = Some("9.99".into())),
    ];
    for (what, change) in changes {
        let (_temporary, copy) = medium(&host, "1");
        rewrite_manifest(&copy, change);
        if what == "minor" {
            fs::remove_file(copy.join("bin/python3.11")).unwrap();
            fs::rename(copy.join("lib/python3.11"), copy.join("lib/python3.99")).unwrap();
            fs::remove_file(copy.join("bin/python")).unwrap();
            symlink("/usr/bin/python3.99", copy.join("bin/python")).unwrap();
        }
        let other = Host::new();
        let error = install_to(&other, &copy, None).unwrap_err();
        assert_eq!(error.code(), "python-mismatch", "{what}: {error}");
        assert!(!other.path("/var/lib").exists(), "{what}");
    }
}

/// Flips a bit through another handle, as a stray write or a bad disk would.
fn flip(path: &Path) {
    let mut content = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut content).unwrap();
    content[3] ^= 1;
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&content).unwrap();
}

#[test]
fn one_repair_mends_all_that_share_the_damage() {
    let library = format!("{SITE}/library/__init__.py");
    let (_backup, whole) = {
        let host = two_releases();
        medium(&host, "1")
    };
    for from in [Some(whole.as_path()), None] {
        let host = two_releases();
        let path = directory(&host, "1").join(&library);
        let mut running = fs::File::open(&path).unwrap();
        flip(&path);
        for tag in ["1", "2"] {
            assert_eq!(findings(&host, tag), [format!("changed {library}")]);
        }
        // A third venv gets the good content, and the damage is not spread.
        let third = install_to(&host, &whole, Some("demo:3")).unwrap();
        assert_eq!(third.outcome, Outcome::New);
        assert_eq!(findings(&host, "3"), Vec::<String>::new());
        assert_eq!(findings(&host, "1").len(), 1);
        remove::remove(&host.layout, venv("3").name()).unwrap();

        let before = fs::metadata(&path).unwrap().ino();
        let repaired = mend(&host, "1", from).unwrap();
        let mended: BTreeSet<String> = repaired
            .mended
            .iter()
            .map(|one| format!("{} {}", one.venv, one.path))
            .collect();
        let expected = ["demo:1", "demo:2"].map(|venv| format!("{venv} {library}"));
        assert_eq!(mended, BTreeSet::from(expected));
        assert_eq!((repaired.removed.len(), repaired.left.len()), (0, 0));
        for tag in ["1", "2"] {
            assert_eq!(findings(&host, tag), Vec::<String>::new());
        }
        assert_eq!(
            Store::open(&host.layout).unwrap().damaged().unwrap(),
            Vec::<String>::new()
        );
        // Who has the old file goes on with it.
        assert_ne!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(running.metadata().unwrap().ino(), before);
        let mut old = String::new();
        running.read_to_string(&mut old).unwrap();
        assert!(
            !old.starts_with("def deep"),
            "the damaged bytes stay where they were: {old}"
        );
        assert!(mend(&host, "1", None).unwrap().mended.is_empty());
    }
}

#[test]
fn a_file_that_is_nowhere_else_is_built_anew() {
    let host = two_releases();
    let path = format!("{SITE}/demo/__init__.py");
    flip(&directory(&host, "1").join(&path));
    own(&directory(&host, "1"), "bin/demo", b"#!/bin/sh\n");
    let repaired = mend(&host, "1", None).unwrap();
    assert_eq!(findings(&host, "1"), Vec::<String>::new());
    let origins: Vec<_> = repaired
        .mended
        .iter()
        .map(|one| (one.path.as_str(), &one.origin))
        .collect();
    // The program of the other release is the same but for its first line.
    let other = Origin::Venv(name("demo:2"));
    assert_eq!(origins, [("bin/demo", &other), (path.as_str(), &Origin::Rebuild)]);
    assert_eq!(host.names("/var/lib/venvd/staging"), Vec::<String>::new());

    // Without the wheels there is nothing to build from, and that is said; nothing is changed.
    flip(&directory(&host, "1").join(&path));
    fs::remove_dir_all(host.path("/wheels")).unwrap();
    fs::create_dir(host.path("/wheels")).unwrap();
    let error = mend(&host, "1", None).unwrap_err();
    assert_eq!(error.code(), "no-source");
    assert!(
        error.to_string().contains(&path) && error.to_string().contains("--from"),
        "{error}"
    );
    assert_eq!(findings(&host, "1"), [format!("changed {path}")]);
}

/// Interrupts when the installing begins.
struct Impatient(Interrupt);

impl Progress for Impatient {
    fn report(&mut self, stage: Stage, _: &str) {
        if stage == Stage::Install {
            self.0.raise(2);
        }
    }
}

#[test]
fn a_repair_ends_in_the_middle_of_its_rebuild() {
    let host = two_releases();
    let path = format!("{SITE}/demo/__init__.py");
    flip(&directory(&host, "1").join(&path));
    let request = repair::Request::default();
    let mut impatient = Impatient(request.interrupt.clone());
    let error = repair::repair(&host.layout, venv("1").name(), &request, &mut impatient).unwrap_err();
    assert_eq!(error.code(), "interrupted", "{error}");
    assert_eq!(host.names("/var/lib/venvd/staging"), Vec::<String>::new());
    assert_eq!(findings(&host, "1"), [format!("changed {path}")]);
}

#[test]
fn everything_within_a_venv_is_put_right() {
    let host = two_releases();
    let (_temporary, whole) = medium(&host, "1");
    let at = |path: &str| directory(&host, "1").join(path);
    own(&at(""), &format!("{SITE}/evil.pth"), b"import os\n");
    fs::create_dir(at("lib/new")).unwrap();
    fs::write(at("lib/new/file"), "x").unwrap();
    fs::set_permissions(at("bin/demo-tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(at(SITE), fs::Permissions::from_mode(0o775)).unwrap();
    std::os::unix::fs::chown(at("pyvenv.cfg"), Some(65000), None).unwrap();
    fs::remove_dir_all(at(&format!("{SITE}/library"))).unwrap();
    fs::remove_file(at("bin/python")).unwrap();
    symlink("/tmp/python", at("bin/python")).unwrap();
    fs::remove_file(at("bin/activate")).unwrap();
    fs::create_dir(at("bin/activate")).unwrap();
    fs::remove_dir_all(at(&format!("{SITE}/demo/templates"))).unwrap();
    symlink("/etc", at(&format!("{SITE}/demo/templates"))).unwrap();
    assert!(findings(&host, "1").len() >= 9, "{:?}", findings(&host, "1"));
    let repaired = mend(&host, "1", Some(&whole)).unwrap();
    assert_eq!(findings(&host, "1"), Vec::<String>::new(), "{repaired:?}");
    assert!(Path::new("/etc/passwd").exists());
    for tag in ["1", "2"] {
        assert_eq!(findings(&host, tag), Vec::<String>::new());
    }
}

#[test]
fn a_venv_with_a_broken_manifest_is_not_guessed_at() {
    let host = two_releases();
    own(&directory(&host, "1"), manifest::PATH, b"{");
    let error = mend(&host, "1", None).unwrap_err();
    assert_eq!(error.code(), "irreparable");
    assert!(error.to_string().contains("venvctl remove"), "{error}");
    assert_eq!(mend(&host, "9", None).unwrap_err().code(), "no-such-venv");
}

#[test]
fn the_second_release_costs_its_new_files() {
    let host = two_releases();
    let blocks = |directory: &Path| -> (u64, BTreeSet<u64>) {
        let files = walk(directory);
        let seen: BTreeSet<u64> = files
            .iter()
            .map(|path| fs::symlink_metadata(path).unwrap().ino())
            .collect();
        let size = files
            .iter()
            .filter(|path| path.is_file())
            .map(|path| fs::metadata(path).unwrap().blocks() * 512);
        (size.sum(), seen)
    };
    let (_, first) = blocks(&directory(&host, "1"));
    let mut new = 0;
    for path in walk(&directory(&host, "2")) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_file() && !first.contains(&metadata.ino()) {
            new += metadata.blocks() * 512;
        }
    }
    let manifests = ["1", "2"].map(|tag| Manifest::load(&directory(&host, tag)).unwrap());
    let known: BTreeSet<(&str, u32)> = manifests[0]
        .files
        .iter()
        .map(|file| (file.blake3.as_str(), file.mode))
        .collect();
    let files: u64 = manifests[1]
        .files
        .iter()
        .filter(|file| file.placed || !known.contains(&(file.blake3.as_str(), file.mode)))
        .map(|file| file.size.div_ceil(4096) * 4096)
        .sum();
    let own = [manifest::PATH, manifest::LOG].map(|path| fs::metadata(directory(&host, "2").join(path)).unwrap());
    let own: u64 = own.iter().map(|metadata| metadata.blocks() * 512).sum();
    if Store::open(&host.layout).unwrap().sharing() == Sharing::Link {
        assert!(
            new <= files + own,
            "{new} bytes are new on disk, {files} + {own} in new files"
        );
    }
}
