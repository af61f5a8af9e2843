use super::*;
use std::fs;
use std::os::unix::fs::symlink;

use crate::manifest::tests::example;
use venvd_fs::Root;

/// A host with nothing but a store and a place for trees.
struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        Self { directory, layout }
    }

    fn store(&self) -> Store {
        Store {
            sharing: Sharing::Link,
            ..Store::open(&self.layout).unwrap()
        }
    }

    /// Makes a tree of `(path, content)`; those below `bin` are executable.
    fn tree(&self, name: &str, content: &[(&str, &str)]) -> (PathBuf, Vec<manifest::File>) {
        let tree = self.directory.path().join("trees").join(name);
        let mut files = Vec::new();
        for (path, content) in content {
            let mode = if path.starts_with("bin/") { 0o755 } else { 0o644 };
            atomic::write(&tree.join(path), content.as_bytes(), mode).unwrap();
            files.push(manifest::File {
                path: (*path).to_owned(),
                dist: None,
                size: content.len() as u64,
                mode,
                placed: false,
                blake3: blake3::hash(content.as_bytes()).to_hex().to_string(),
            });
        }
        (tree, files)
    }

    /// Puts a manifest with these files where a venv of this tag has it.
    fn venv(&self, tag: &str, files: &[manifest::File]) -> PathBuf {
        let directory = self.layout.venvs().join("nova").join(tag);
        let manifest = crate::Manifest {
            files: files.to_vec(),
            ..example()
        };
        let path = directory.join(manifest::PATH);
        atomic::write(&path, &manifest.to_json().unwrap(), 0o644).unwrap();
        directory
    }

    fn objects(&self) -> usize {
        self.store().entries().unwrap().len()
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

const CONTENT: [(&str, &str); 4] = [("a", "same"), ("d/b", "same"), ("bin/a", "same"), ("c", "other")];

#[test]
fn equal_files_become_one_inode_and_modes_are_not_mixed() {
    let host = Host::new();
    let store = host.store();
    let (one, files) = host.tree("one", &CONTENT);
    let (two, _) = host.tree("two", &CONTENT);
    let shared = store.share(&one, &files).unwrap();
    assert_eq!((shared.added, shared.files, shared.damaged), (3, 1, 0));
    let shared = store.share(&two, &files).unwrap();
    assert_eq!((shared.added, shared.files, shared.bytes), (0, 4, 4 + 4 + 4 + 5));
    for (path, content) in CONTENT {
        assert_eq!(inode(&one.join(path)), inode(&two.join(path)), "{path}");
        assert_eq!(fs::read_to_string(two.join(path)).unwrap(), content);
    }
    assert_eq!(inode(&one.join("a")), inode(&one.join("d/b")));
    assert_ne!(inode(&one.join("a")), inode(&one.join("bin/a")), "a program and a file");
    assert_eq!(fs::metadata(two.join("bin/a")).unwrap().mode() & 0o7777, 0o755);
    // Once more is nothing new.
    assert_eq!(store.share(&two, &files).unwrap().added, 0);
    assert_eq!(host.objects(), 3);
    let names: Vec<_> = fs::read_dir(&two)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 4, "no temporary name stays: {names:?}");
}

#[test]
fn what_names_its_own_place_is_not_shared() {
    let host = Host::new();
    let (tree, mut files) = host.tree("one", &[("bin/a", "#!here")]);
    files[0].placed = true;
    assert_eq!(host.store().share(&tree, &files).unwrap(), Shared::default());
    files[0].placed = false;
    files[0].mode = 0o600;
    assert_eq!(host.store().share(&tree, &files).unwrap(), Shared::default());
    assert_eq!(host.objects(), 0);
}

/// As `setcap cap_net_raw+ep`: linux/capability.h, VFS_CAP_REVISION_2 with the effective bit.
fn capable(path: &Path) {
    let value: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(path, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn damage_is_never_spread() {
    // What somebody can do to a shared inode: other bytes, other length, another mode, nothing at all of it left.
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("bytes", |path| fs::write(path, "sbme").unwrap()),
        ("length", |path| fs::write(path, "").unwrap()),
        ("mode", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap()
        }),
        ("owner", |path| {
            std::os::unix::fs::chown(path, Some(65000), None).unwrap()
        }),
        ("group", |path| {
            std::os::unix::fs::chown(path, None, Some(65000)).unwrap()
        }),
        ("capability", capable),
        ("kind", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/hostname", path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let host = Host::new();
        let store = host.store();
        let (one, files) = host.tree("one", &[("a", "same"), ("b", "same")]);
        let (two, _) = host.tree("two", &[("a", "same"), ("b", "same")]);
        store.share(&one, &files).unwrap();
        let object = Object::of(&files[0]).unwrap();
        damage(&store.path.join(object.name()));
        assert!(store.sound(&object).unwrap().is_none(), "{what}");
        let shared = store.share(&two, &files).unwrap();
        assert_eq!((shared.damaged, shared.added, shared.files), (1, 0, 1), "{what}");
        for path in ["a", "b"] {
            assert_eq!(fs::read_to_string(two.join(path)).unwrap(), "same", "{what}");
            assert_eq!(fs::metadata(two.join(path)).unwrap().mode() & 0o7777, 0o644, "{what}");
            assert_ne!(inode(&one.join(path)), inode(&two.join(path)), "{what}");
        }
        assert!(
            store.sound(&object).unwrap().is_some(),
            "{what}: the store is whole again"
        );
        assert_eq!(store.damaged().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_full_object_gets_a_successor() {
    let host = Host::new();
    let store = host.store().with_max_links(3);
    let trees: Vec<_> = ["one", "two", "three", "four", "five"]
        .into_iter()
        .map(|name| host.tree(name, &[("a", "same")]))
        .collect();
    let full: u64 = trees
        .iter()
        .map(|(tree, files)| store.share(tree, files).unwrap().full)
        .sum();
    assert_eq!(full, 2);
    let inodes: Vec<u64> = trees.iter().map(|(tree, _)| inode(&tree.join("a"))).collect();
    assert!(
        inodes[0] == inodes[1] && inodes[2] == inodes[3] && inodes[1] != inodes[2],
        "{inodes:?}"
    );
    for (tree, _) in &trees {
        let metadata = fs::metadata(tree.join("a")).unwrap();
        assert!(metadata.nlink() <= 3);
        assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "same");
    }
    assert_eq!(host.objects(), 1);
}

#[test]
fn the_file_systems_own_limit_is_met_too() {
    let host = Host::new();
    let store = host.store();
    let (tree, files) = host.tree("one", &[("a", "same")]);
    store.share(&tree, &files).unwrap();
    // ext4: 65000; where there is no limit (tmpfs, xfs nearly) there is nothing to meet.
    let many = host.directory.path().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..70_000 {
        if let Err(error) = fs::hard_link(tree.join("a"), many.join(number.to_string())) {
            assert_eq!(error.raw_os_error(), Some(nix::libc::EMLINK));
            break;
        }
    }
    let (next, _) = host.tree("two", &[("a", "same")]);
    let shared = store.share(&next, &files).unwrap();
    assert_eq!(shared.full + shared.files, 1);
    assert_eq!(fs::read_to_string(next.join("a")).unwrap(), "same");
}

#[test]
fn sweeping_leaves_what_a_venv_has_or_shares() {
    let host = Host::new();
    let store = host.store();
    let (one, files) = host.tree("one", &[("a", "named"), ("b", "shared"), ("c", "neither")]);
    store.share(&one, &files).unwrap();
    host.venv("1", &files[..1]);
    fs::remove_file(one.join("a")).unwrap();
    fs::remove_file(one.join("c")).unwrap();
    fs::write(store.path.join(".new-1-2"), "a crash left this").unwrap();
    let stray = store.path.join("notes");
    fs::write(&stray, "somebody's").unwrap();
    let swept = store.sweep(&host.layout).unwrap();
    assert_eq!(swept.stray, [stray]);
    assert_eq!((swept.objects, swept.unread.len()), (1, 0));
    assert!(swept.bytes > 0 || fs::metadata(one.join("b")).unwrap().blocks() == 0);
    assert!(store.find(&Object::of(&files[0]).unwrap()).unwrap().is_some());
    assert!(store.find(&Object::of(&files[1]).unwrap()).unwrap().is_some());
    assert!(store.find(&Object::of(&files[2]).unwrap()).unwrap().is_none());
    assert!(!store.path.join(".new-1-2").exists());

    // What a venv with a broken manifest needs is not known.
    fs::remove_file(one.join("b")).unwrap();
    let broken = host.venv("2", &files);
    fs::write(broken.join(manifest::PATH), "{").unwrap();
    let swept = store.sweep(&host.layout).unwrap();
    assert_eq!((swept.objects, swept.unread), (0, vec![broken.clone()]));
    fs::remove_dir_all(broken).unwrap();
    assert_eq!(store.sweep(&host.layout).unwrap().objects, 1);
}

#[test]
fn only_root_comes_in() {
    let host = Host::new();
    let path = host.layout.store();
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (tree, files) = host.tree("one", &[("a", "same")]);
    let store = host.store();
    store.share(&tree, &files).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(Object::of(&files[0]).unwrap().directory())), 0o700);
    for bad in [0o770, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bad)).unwrap();
        assert_eq!(Store::open(&host.layout).unwrap_err().code(), "unsafe-owner");
    }
    fs::remove_dir_all(&path).unwrap();
    symlink("/tmp", &path).unwrap();
    assert!(Store::open(&host.layout).is_err());
}

#[test]
fn damaged_objects_are_listed() {
    let host = Host::new();
    let (tree, files) = host.tree("one", &CONTENT);
    let store = host.store();
    store.share(&tree, &files).unwrap();
    assert_eq!(store.damaged().unwrap(), Vec::<String>::new());
    fs::write(tree.join("bin/a"), "sbme").unwrap();
    assert_eq!(store.damaged().unwrap(), [Object::of(&files[2]).unwrap().name()]);
}

/// Mounts a new xfs for one run of a test of this program, in a mount namespace of its own: it ends with that.
const ON_XFS: &str = "set -e; cd \"$1\"; truncate -s 400M image; mkfs.xfs -q -m reflink=1 image; mkdir mounted; \
                      mount -o loop image mounted; export TMPDIR=\"$1/mounted\"; \
                      exec \"$2\" --exact store::tests::shares_by_reflink --ignored";

#[test]
fn reflinks_are_used_where_the_file_system_has_them() {
    let has = |program: &str| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .any(|place| Path::new(place).join(program).exists())
    };
    if !has("mkfs.xfs") || !Path::new("/dev/loop-control").exists() {
        // tests/bin/host-setup installs the one; a container without loop devices can't run it.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", ON_XFS, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
}

#[test]
#[ignore = "run by reflinks_are_used_where_the_file_system_has_them, on a file system of its own"]
fn shares_by_reflink() {
    let used = |path: &Path| {
        rustix::fs::syncfs(fs::File::open(path).unwrap()).unwrap();
        let status = nix::sys::statvfs::statvfs(path).unwrap();
        (status.blocks() - status.blocks_free()) * status.fragment_size()
    };
    let host = Host::new();
    let store = Store::open(&host.layout).unwrap();
    assert_eq!(store.sharing(), Sharing::Reflink);
    let large = "0123456789abcdef".repeat(1 << 20);
    let content = [("large", large.as_str()), ("bin/a", "program"), ("empty", "")];
    let (one, files) = host.tree("one", &content);
    store.share(&one, &files).unwrap();
    let (two, _) = host.tree("two", &content);
    let before = used(&two);
    let time = fs::metadata(two.join("large")).unwrap().modified().unwrap();
    let shared = store.share(&two, &files).unwrap();
    assert_eq!((shared.files, shared.added, shared.damaged), (3, 0, 0));
    let freed = before - used(&two);
    assert!(freed > 15 << 20, "{freed} bytes of 16 MiB came free");
    assert_eq!(fs::metadata(two.join("large")).unwrap().modified().unwrap(), time);
    assert_eq!(fs::metadata(two.join("bin/a")).unwrap().mode() & 0o7777, 0o755);

    // Each file has its own inode: what is written to one is not seen in another, nor in the store.
    fs::write(two.join("bin/a"), "PROGRAM").unwrap();
    assert_eq!(fs::read_to_string(one.join("bin/a")).unwrap(), "program");
    assert_eq!(store.damaged().unwrap(), Vec::<String>::new());

    // A damaged object is replaced, and lent to nobody before.
    let object = Object::of(&files[1]).unwrap();
    fs::write(store.path.join(object.name()), "sbmeone").unwrap();
    let target = fs::File::open(&one).unwrap();
    let spot = |path| Spot {
        directory: target.as_fd(),
        path,
    };
    assert_eq!(store.lend(&object, spot("new"), Check::Content).unwrap(), Lent::Damaged);
    let (three, _) = host.tree("three", &content);
    assert_eq!(store.share(&three, &files).unwrap().damaged, 1);
    assert_eq!(fs::read_to_string(three.join("bin/a")).unwrap(), "program");
    assert_eq!(store.lend(&object, spot("new"), Check::Content).unwrap(), Lent::Shared);
    assert_eq!(fs::read_to_string(one.join("new")).unwrap(), "program");
    assert_eq!(fs::metadata(one.join("new")).unwrap().mode() & 0o7777, 0o755);
    // What nobody names goes.
    assert_eq!(store.sweep(&host.layout).unwrap().objects, 3);
}

#[test]
fn lending_looks_first_and_copies_what_is_full() {
    let host = Host::new();
    let store = host.store().with_max_links(2);
    let (one, files) = host.tree("one", &[("a", "same")]);
    store.share(&one, &files).unwrap();
    let object = Object::of(&files[0]).unwrap();
    let target = fs::File::open(&one).unwrap();
    let lend = |path, check| {
        let directory = target.as_fd();
        store.lend(&object, Spot { directory, path }, check).unwrap()
    };
    // Nothing here was sealed: the time is not the one of sealing, so something was written.
    assert_eq!(lend("b", Check::Metadata), Lent::Damaged);
    assert_eq!(lend("b", Check::Content), Lent::Successor);
    assert_eq!(fs::read_to_string(one.join("b")).unwrap(), "same");
    assert_ne!(inode(&one.join("a")), inode(&one.join("b")));
    assert_eq!(inode(&one.join("b")), inode(&store.path.join(object.name())));
    fs::write(one.join("b"), "sbme").unwrap();
    assert_eq!(lend("c", Check::Content), Lent::Damaged);
    assert!(!one.join("c").exists());
    fs::remove_file(store.path.join(object.name())).unwrap();
    assert_eq!(lend("c", Check::Content), Lent::Missing);
}
