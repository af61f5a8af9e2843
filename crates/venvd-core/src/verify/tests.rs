//! A small sealed venv, made by hand, and each thing that can go wrong with it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use venvd_fs::Root;

use super::*;
use crate::interpreter::Interpreter;
use crate::lock::Lock;
use crate::manifest::{self, File, Link, PATH};

const SITE: &str = "lib/python3.11/site-packages";

/// Only root can give files away or make what is not root's.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn interpreter() -> &'static Interpreter {
    static FOUND: OnceLock<Interpreter> = OnceLock::new();
    FOUND.get_or_init(|| Interpreter::probe(Path::new("/usr/bin/python3")).unwrap())
}

fn digest_of(manifest: &Manifest, modules: &[&str]) -> String {
    let lock = Lock::parse(Path::new("lock"), manifest.lock.format, manifest.lock.text.clone()).unwrap();
    lock.digest_for(&manifest.python, &manifest.platform, modules)
}

/// A host with one sealed venv.
#[derive(Debug)]
pub(crate) struct Host {
    _directory: tempfile::TempDir,
    pub(crate) layout: Layout,
    pub(crate) venv: VenvPath,
    pub(crate) manifest: Manifest,
}

impl Host {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let venv = local("demo:1");
        let mut host = Self {
            _directory: directory,
            layout,
            venv,
            manifest: manifest::tests::example(),
        };
        host.fill();
        host
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.layout.on_disk(self.venv.path()).join(path)
    }

    fn fill(&mut self) {
        let python = self.venv.bin().join("python").display().to_string();
        let large = "x".repeat(700_000);
        let files: [(&str, &str, u32); 6] = [
            ("bin/demo", &format!("#!{python}\nimport demo\n"), 0o755),
            ("pyvenv.cfg", "home = /usr/bin\n", 0o644),
            (&format!("{SITE}/demo/__init__.py"), "", 0o644),
            (&format!("{SITE}/demo/data/large"), &large, 0o644),
            (
                &format!("{SITE}/demo-1.dist-info/METADATA"),
                "Name: demo\nVersion: 1\n",
                0o644,
            ),
            (&format!("{SITE}/one.py"), "one = 1\n", 0o644),
        ];
        let python = interpreter();
        let links = [
            ("bin/python", python.path.to_str().unwrap()),
            ("bin/python3", "python"),
            ("lib64", "lib"),
        ];
        self.manifest.app = "demo".parse().unwrap();
        self.manifest.tag = "1".parse().unwrap();
        self.manifest.python = crate::manifest::Python {
            interpreter: python.path.clone(),
            version: python.version.clone(),
            minor: python.minor.clone(),
            soabi: python.soabi.clone(),
            cache_tag: python.cache_tag.clone(),
            magic: python.magic.clone(),
        };
        self.manifest.platform.clone_from(&python.platform);
        self.manifest.arch.clone_from(&python.arch);
        self.manifest.programs = vec!["demo".parse().unwrap()];
        self.manifest.files = files
            .iter()
            .map(|(path, text, mode)| self.file(path, text, *mode))
            .collect();
        self.manifest.links = links.iter().map(|(path, target)| self.link(path, target)).collect();
        self.manifest.lock.text = format!("demo==1 --hash=sha256:{}\n", "0".repeat(64));
        self.manifest.lock.digest = digest_of(&self.manifest, &[]);
        self.write_manifest();
        self.write(manifest::LOG, "built\n", 0o600);
        for directory in ["", ".venvd", "bin", "lib", "lib/python3.11", SITE] {
            chmod(&self.path(directory), 0o755);
        }
        for directory in ["demo", "demo/data", "demo-1.dist-info"] {
            chmod(&self.path(&format!("{SITE}/{directory}")), 0o755);
        }
        // Above it too, whatever the umask is.
        let mut above = self.path("");
        while above != *self.layout.root().directory() && above.pop() {
            chmod(&above, 0o755);
        }
    }

    fn file(&self, path: &str, text: &str, mode: u32) -> File {
        self.write(path, text, mode);
        File {
            path: path.to_owned(),
            dist: None,
            size: text.len() as u64,
            mode,
            placed: false,
            blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
        }
    }

    fn link(&self, path: &str, target: &str) -> Link {
        symlink(target, self.path(path)).unwrap();
        Link {
            path: path.to_owned(),
            target: target.into(),
        }
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let on_disk = self.path(path);
        fs::create_dir_all(on_disk.parent().unwrap()).unwrap();
        fs::write(&on_disk, text).unwrap();
        chmod(&on_disk, mode);
    }

    fn write_manifest(&self) {
        let text = String::from_utf8(self.manifest.to_json().unwrap()).unwrap();
        self.write(PATH, &text, 0o644);
    }

    /// Writes another manifest.
    pub(crate) fn with_manifest(mut self, change: impl FnOnce(&mut Manifest)) -> Self {
        change(&mut self.manifest);
        self.write_manifest();
        self
    }

    pub(crate) fn verify(&self) -> Report {
        verify(&self.layout, &self.venv, Options::default(), &Silent).unwrap()
    }

    /// Returns `code path` of each finding.
    fn found(&self) -> Vec<String> {
        let findings = self.verify().findings;
        let word = |finding: &Finding| format!("{} {}", finding.code, finding.path.as_deref().unwrap_or("-"));
        findings.iter().map(word).collect()
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_venv_as_it_was_sealed_has_no_findings() {
    struct Counted(AtomicU64, AtomicU64);
    impl Progress for Counted {
        fn begin(&self, bytes: u64) {
            self.0.store(bytes, Ordering::Relaxed);
        }
        fn advance(&self, bytes: u64) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let host = Host::new();
    let counted = Counted(AtomicU64::new(0), AtomicU64::new(0));
    let report = verify(&host.layout, &host.venv, Options::default(), &counted).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.files, report.bytes), (6, host.manifest.size()));
    let (total, done) = (counted.0.into_inner(), counted.1.into_inner());
    assert_eq!((total, done), (report.bytes, report.bytes));
    assert_eq!(tree(&host.path(""), &host.manifest, &Silent).findings, []);
    assert!(!host.path("__pycache__").exists(), "looking changes nothing");
}

#[test]
fn a_venv_that_is_not_there_is_an_error() {
    let host = Host::new();
    let other = local("demo:2");
    let error = verify(&host.layout, &other, Options::default(), &Silent).unwrap_err();
    assert_eq!(error.code(), "no-such-venv");
}

/// One thing that somebody or something does to a venv, and what is found.
type Case = (&'static str, fn(&Host), &'static [&'static str]);

fn check(cases: &[Case]) {
    for (what, change, expected) in cases {
        let host = Host::new();
        change(&host);
        assert_eq!(host.found(), *expected, "{what}: {:#?}", host.verify());
    }
}

#[test]
fn finds_changed_content() {
    check(&[
        (
            "a flipped bit",
            |host| {
                let path = host.path(&format!("{SITE}/demo/data/large"));
                let mut content = fs::read(&path).unwrap();
                content[400_001] ^= 1;
                fs::write(&path, content).unwrap();
            },
            &["changed lib/python3.11/site-packages/demo/data/large"],
        ),
        (
            "a longer file",
            |host| fs::write(host.path(&format!("{SITE}/one.py")), "one = 1\n\n").unwrap(),
            &["changed lib/python3.11/site-packages/one.py"],
        ),
        (
            "an emptied file",
            |host| fs::write(host.path("bin/demo"), "").unwrap(),
            &["changed bin/demo"],
        ),
        (
            "a removed file",
            |host| fs::remove_file(host.path("bin/demo")).unwrap(),
            &["missing bin/demo"],
        ),
        (
            "a removed directory",
            |host| fs::remove_dir_all(host.path(&format!("{SITE}/demo"))).unwrap(),
            &[
                "missing lib/python3.11/site-packages/demo/__init__.py",
                "missing lib/python3.11/site-packages/demo/data/large",
            ],
        ),
        (
            "a removed link",
            |host| fs::remove_file(host.path("lib64")).unwrap(),
            &["missing lib64"],
        ),
        (
            "a link that leads elsewhere",
            |host| {
                fs::remove_file(host.path("bin/python")).unwrap();
                symlink("/bin/sh", host.path("bin/python")).unwrap();
            },
            &["link bin/python"],
        ),
        (
            "a moved file",
            |host| {
                fs::rename(
                    host.path(&format!("{SITE}/one.py")),
                    host.path(&format!("{SITE}/two.py")),
                )
                .unwrap()
            },
            &[
                "extra lib/python3.11/site-packages/two.py",
                "missing lib/python3.11/site-packages/one.py",
            ],
        ),
    ]);
}

#[test]
fn finds_what_is_of_another_kind_and_does_not_follow_it() {
    check(&[
        (
            "a file became a link to the same bytes",
            |host| {
                let path = host.path(&format!("{SITE}/one.py"));
                fs::rename(&path, host.layout.on_disk("/one.py")).unwrap();
                symlink(host.layout.on_disk("/one.py"), path).unwrap();
            },
            &["changed lib/python3.11/site-packages/one.py"],
        ),
        (
            "a file became a fifo",
            |host| {
                let path = host.path(&format!("{SITE}/one.py"));
                fs::remove_file(&path).unwrap();
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
            },
            &["changed lib/python3.11/site-packages/one.py"],
        ),
        (
            "a file became a directory",
            |host| {
                fs::remove_file(host.path("pyvenv.cfg")).unwrap();
                fs::create_dir(host.path("pyvenv.cfg")).unwrap();
            },
            &["changed pyvenv.cfg"],
        ),
        (
            "a directory became a link to the same files",
            |host| {
                fs::rename(host.path("bin"), host.layout.on_disk("/bin")).unwrap();
                symlink(host.layout.on_disk("/bin"), host.path("bin")).unwrap();
            },
            &[
                "missing bin/demo",
                "missing bin/python",
                "missing bin/python3",
                "directory bin",
            ],
        ),
        (
            "a link became a file",
            |host| {
                fs::remove_file(host.path("lib64")).unwrap();
                fs::write(host.path("lib64"), "").unwrap();
            },
            &["link lib64"],
        ),
        (
            "the manifest is a link to itself elsewhere",
            |host| {
                fs::rename(host.path(PATH), host.layout.on_disk("/m")).unwrap();
                symlink(host.layout.on_disk("/m"), host.path(PATH)).unwrap();
            },
            &["not-sealed .venvd/manifest.json"],
        ),
    ]);
}

#[test]
fn finds_what_was_added() {
    check(&[
        (
            "hidden, empty, and cached files and directories",
            |host| {
                fs::create_dir(host.path("empty")).unwrap();
                fs::write(host.path(&format!("{SITE}/demo/.hidden")), "").unwrap();
                fs::create_dir(host.path(&format!("{SITE}/demo/__pycache__"))).unwrap();
                fs::write(host.path(".venvd/notes"), "").unwrap();
                symlink("/etc", host.path("bin/etc")).unwrap();
            },
            &[
                "extra .venvd/notes",
                "extra bin/etc",
                "extra empty",
                "extra lib/python3.11/site-packages/demo/.hidden",
                "extra lib/python3.11/site-packages/demo/__pycache__",
            ],
        ),
        (
            "sockets and fifos",
            |host| {
                drop(std::os::unix::net::UnixListener::bind(host.path("bin/s")).unwrap());
                nix::unistd::mkfifo(&host.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            &["extra bin/s", "extra fifo"],
        ),
        (
            "a name that is not UTF-8",
            |host| {
                use std::os::unix::ffi::OsStrExt;
                fs::write(host.path("bin").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
            },
            &["extra bin/\u{fffd}"],
        ),
    ]);
}

#[test]
fn says_in_plain_words_what_an_added_hook_does() {
    let host = Host::new();
    fs::write(host.path("bin/a"), "").unwrap();
    fs::write(host.path(&format!("{SITE}/z.pth")), "import os").unwrap();
    fs::write(host.path(&format!("{SITE}/sitecustomize.py")), "").unwrap();
    let findings = host.verify().findings;
    assert!(
        findings[0]
            .message
            .ends_with("every start of this venv's python imports it"),
        "{findings:#?}"
    );
    assert!(
        findings[1].message.contains("runs its lines that begin with `import`"),
        "{findings:#?}"
    );
    assert_eq!(findings[2].path.as_deref(), Some("bin/a"), "hooks come first");
}

#[test]
fn finds_what_others_may_change_and_what_may_do_more() {
    check(&[
        (
            "setuid",
            |host| chmod(&host.path("bin/demo"), 0o4755),
            &["setuid bin/demo"],
        ),
        (
            "setgid",
            |host| chmod(&host.path("bin/demo"), 0o2755),
            &["setuid bin/demo"],
        ),
        (
            "setgid and sticky directories",
            |host| {
                chmod(&host.path("bin"), 0o2755);
                chmod(&host.path("lib"), 0o1755);
            },
            &["setuid bin", "setuid lib"],
        ),
        (
            "directories that others write to, a package's and the venv's own",
            |host| {
                chmod(&host.path(&format!("{SITE}/demo")), 0o775);
                chmod(&host.path(""), 0o757);
            },
            &["writable .", "writable lib/python3.11/site-packages/demo"],
        ),
        (
            "a file that others write to",
            |host| chmod(&host.path("pyvenv.cfg"), 0o666),
            &["writable pyvenv.cfg"],
        ),
        (
            "other modes",
            |host| {
                chmod(&host.path("bin/demo"), 0o644);
                chmod(&host.path("pyvenv.cfg"), 0o600);
                chmod(&host.path("lib"), 0o700);
            },
            &["mode bin/demo", "mode lib", "mode pyvenv.cfg"],
        ),
        (
            "a log that others may read",
            |host| chmod(&host.path(manifest::LOG), 0o644),
            &["mode .venvd/build.log"],
        ),
        (
            "a directory above that others write to",
            |host| chmod(&host.layout.on_disk("/var/lib/venvd"), 0o775),
            &["chain -"],
        ),
    ]);
}

#[test]
fn finds_what_belongs_to_others() {
    if !is_root() {
        return;
    }
    check(&[
        (
            "a file, a directory and a link",
            |host| {
                chown(host.path("bin/demo"), Some(4711), None).unwrap();
                chown(host.path("lib"), None, Some(4711)).unwrap();
                std::os::unix::fs::lchown(host.path("lib64"), Some(4711), None).unwrap();
            },
            &["owner bin/demo", "owner lib", "owner lib64"],
        ),
        (
            "the manifest",
            |host| chown(host.path(PATH), Some(4711), None).unwrap(),
            &["owner .venvd/manifest.json"],
        ),
        (
            "a directory above",
            |host| chown(host.layout.on_disk("/var/lib"), Some(4711), None).unwrap(),
            &["chain -"],
        ),
    ]);
}

/// `vfs_cap_data`, revision 2, with `CAP_NET_RAW`: what `setcap cap_net_raw+ep` writes.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn finds_capabilities_and_leaves_labels_alone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(host.path(path), name, value, rustix::fs::XattrFlags::empty())
    };
    // Not every file system has them.
    if set("bin/demo", "security.capability", &CAPABILITY).is_err() {
        return;
    }
    set("pyvenv.cfg", "user.comment", b"mine").unwrap();
    assert_eq!(host.found(), ["attribute bin/demo"]);
}

#[test]
fn finds_manifests_that_are_gone_broken_or_of_another_venv() {
    check(&[
        (
            "none",
            |host| fs::remove_file(host.path(PATH)).unwrap(),
            &["not-sealed .venvd/manifest.json"],
        ),
        (
            "half of one",
            |host| {
                let text = fs::read_to_string(host.path(PATH)).unwrap();
                fs::write(host.path(PATH), &text[..text.len() / 2]).unwrap();
            },
            &["not-sealed .venvd/manifest.json"],
        ),
        (
            "a directory",
            |host| {
                fs::remove_file(host.path(PATH)).unwrap();
                fs::create_dir(host.path(PATH)).unwrap();
            },
            &["not-sealed .venvd/manifest.json"],
        ),
    ]);
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 6] = [
        ("the place of demo:1", |manifest| manifest.tag = "2".parse().unwrap()),
        ("lists \"../../etc/passwd\"", |manifest| {
            manifest.files[0].path = "../../etc/passwd".into();
        }),
        ("twice", |manifest| manifest.files.push(manifest.files[0].clone())),
        ("mode 4755", |manifest| manifest.files[0].mode = 0o4755),
        ("leads out of the venv", |manifest| {
            manifest.links[2].target = "../../x".into()
        }),
        ("list of programs", |manifest| manifest.programs.clear()),
    ];
    for (words, change) in cases {
        let findings = Host::new().with_manifest(change).verify().findings;
        let told = findings
            .iter()
            .any(|finding| finding.code == Code::Manifest && finding.message.contains(words));
        assert!(told, "{words}: {findings:#?}");
    }
}

#[test]
fn a_venv_that_was_moved_by_hand_runs_from_elsewhere() {
    let host = Host::new();
    let moved = VenvPath::recorded(Path::new("/usr/lib/venvd/venvs/demo/1")).unwrap();
    let to = host.layout.on_disk(moved.path());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(host.path(""), &to).unwrap();
    let report = verify(&host.layout, &moved, Options::default(), &Silent).unwrap();
    let found: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.code == Code::Prefix)
        .collect();
    assert_eq!(found.len(), 1, "{report:#?}");
    assert_eq!(found[0].path.as_deref(), Some("bin/demo"));
}

/// A directory on this host whose way is root's alone, for an interpreter that is not the system's.
fn interpreters() -> tempfile::TempDir {
    tempfile::tempdir_in("/root").unwrap()
}

#[test]
fn finds_an_interpreter_that_is_gone_or_another() {
    if !is_root() {
        return;
    }
    let directory = interpreters();
    let copy = directory.path().join("python3");
    let with = |python: &Path| {
        let host = Host::new().with_manifest(|manifest| {
            manifest.python.interpreter = python.to_owned();
            manifest.links[0].target = python.to_owned();
        });
        fs::remove_file(host.path("bin/python")).unwrap();
        symlink(python, host.path("bin/python")).unwrap();
        host
    };
    assert_eq!(with(&copy).found(), ["python-gone -"]);
    fs::copy("/usr/bin/python3", &copy).unwrap();
    assert_eq!(with(&copy).found(), Vec::<String>::new());
    // A python of another version, as far as anybody who asks it can tell.
    let pretend = |sed: &str| {
        fs::remove_file(&copy).unwrap();
        let text = format!("#!/bin/sh\n/usr/bin/python3 \"$@\" | sed -E '{sed}'\n");
        fs::write(&copy, text).unwrap();
        chmod(&copy, 0o755);
    };
    let minor = &interpreter().minor;
    pretend(&format!("s/{minor}/3.99/g; s/cpython-[0-9]+/cpython-399/g"));
    assert_eq!(with(&copy).found(), ["python-minor -"]);
    pretend("s/(\"soabi\": )\"[^\"]*\"/\\1\"cpython-3-other\"/");
    assert_eq!(with(&copy).found(), ["python-abi -"]);
    pretend("s/(\"magic\": )\"[^\"]*\"/\\1\"00000000\"/");
    assert_eq!(with(&copy).found(), ["python-abi -"]);
    pretend("s/glibc [0-9.]+/glibc 2.5/");
    assert_eq!(with(&copy).found(), ["platform -"]);
    pretend(&format!("s/(\"version\": )\"[^\"]*\"/\\1\"{minor}.99\"/"));
    let report = with(&copy).verify();
    assert_eq!(report.findings, [], "a patch version is all right");
    assert!(report.notes[0].contains(".99"), "{:?}", report.notes);
    pretend("s/.*/nonsense/");
    assert_eq!(with(&copy).found(), ["python-broken -"]);
    chmod(&copy, 0o777);
    assert_eq!(with(&copy).found(), ["chain -"]);
}

#[test]
fn finds_host_modules_that_are_gone() {
    let host = Host::new();
    let target = host.layout.on_disk("/usr/lib/python3/dist-packages/libvirt.py");
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::write(&target, "").unwrap();
    let path = format!("{SITE}/libvirt.py");
    symlink(&target, host.path(&path)).unwrap();
    let host = host.with_manifest(|manifest| {
        manifest.links.push(Link {
            path: path.clone(),
            target: target.clone(),
        });
        manifest.host_modules.push(crate::manifest::HostModule {
            name: "libvirt".into(),
            links: vec![path.clone()],
        });
        manifest.lock.digest = digest_of(manifest, &["libvirt"]);
    });
    assert_eq!(host.found(), Vec::<String>::new());
    fs::remove_file(&target).unwrap();
    assert_eq!(host.found(), [format!("host-module {path}")]);
}

mod random;

/// A venv of the host.
fn local(name: &str) -> VenvPath {
    VenvPath::local(&venvd_app::Layout::new(venvd_fs::Root::host()), name.parse().unwrap())
}

#[test]
fn what_is_no_directory_is_a_finding_of_its_own() {
    let host = Host::new();
    let app = host.path("..");
    fs::write(app.join("file"), "").unwrap();
    symlink("1", app.join("lnk")).unwrap();
    for (tag, said) in [("file", "is a file"), ("lnk", "is a symbolic link")] {
        let venv = local(&format!("demo:{tag}"));
        let report = verify(&host.layout, &venv, Options::default(), &Silent).unwrap();
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!(report.findings[0].code, Code::NotSealed);
        assert!(report.findings[0].message.starts_with(said), "{report:?}");
    }
    let nowhere = local("demo:nowhere");
    assert!(verify(&host.layout, &nowhere, Options::default(), &Silent).is_err());
}

#[test]
fn the_digest_must_be_that_of_the_lock() {
    let findings = |change: &dyn Fn(&mut Manifest)| {
        let mut host = Host::new();
        change(&mut host.manifest);
        host.write_manifest();
        verify(&host.layout, &host.venv, Options::default(), &Silent)
            .unwrap()
            .findings
    };
    assert_eq!(findings(&|_| {}), []);
    let changes: [&dyn Fn(&mut Manifest); 3] = [
        &|manifest| manifest.lock.digest = "ab".repeat(32),
        &|manifest| manifest.lock.text = manifest.lock.text.replace("==1", "==2"),
        &|manifest| manifest.lock.text = "demo\n".into(),
    ];
    for change in changes {
        let codes: Vec<Code> = findings(change).iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [Code::Manifest]);
    }
}
