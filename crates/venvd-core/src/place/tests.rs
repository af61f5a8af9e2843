use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::manifest::tests::example;
use venvd_app::Layout;
use venvd_fs::{Root, atomic};

/// A host, a tree with these files somewhere on it, and their manifest.
fn host(content: &[(&str, &str)]) -> (tempfile::TempDir, Layout, Moved) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let mut manifest = example();
    manifest.files.clear();
    for (path, text) in content {
        atomic::write(&directory.path().join("source").join(path), text.as_bytes(), 0o600).unwrap();
        manifest.files.push(manifest::File {
            path: (*path).to_owned(),
            dist: None,
            size: text.len() as u64,
            mode: 0o644,
            placed: false,
            blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
        });
    }
    let contents = BTreeMap::new();
    fs::create_dir(directory.path().join("tree")).unwrap();
    (directory, layout, Moved { manifest, contents })
}

#[test]
fn what_the_store_lacks_comes_from_the_source_with_attributes_of_our_own() {
    let (directory, layout, mut moved) = host(&[("a/b/c/one", "1"), ("a-b", "2"), ("z", "3")]);
    moved.manifest.files[2].placed = true;
    moved.contents.insert("z".into(), b"elsewhere".to_vec());
    let store = Store::open(&layout).unwrap();
    let source = Tree::open(&directory.path().join("source")).unwrap();
    let material = Material {
        store: &store,
        check: Check::Content,
        source: Some(&source),
    };
    let tree = directory.path().join("tree");
    let placed = place(&moved, &tree, &material).unwrap();
    assert_eq!((placed.shared, placed.copied.len(), placed.damaged), (0, 2, 0));
    for (path, text) in [("a/b/c/one", "1"), ("a-b", "2"), ("z", "elsewhere")] {
        let metadata = fs::metadata(tree.join(path)).unwrap();
        assert_eq!(fs::read_to_string(tree.join(path)).unwrap(), text);
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime()),
            (0o644, crate::seal::SEALED_TIME)
        );
    }
    for path in ["", "a", "a/b", "a/b/c", ".venvd"] {
        let metadata = fs::metadata(tree.join(path)).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime()),
            (0o755, crate::seal::SEALED_TIME),
            "{path:?}"
        );
    }
    assert_eq!(
        fs::read_link(tree.join("bin/python")).unwrap(),
        Path::new("/usr/bin/python3.11")
    );
    assert_eq!(Manifest::load(&tree).unwrap(), moved.manifest);
}

#[test]
fn what_is_nowhere_or_not_as_listed_is_refused() {
    let (directory, layout, moved) = host(&[("a", "1")]);
    let store = Store::open(&layout).unwrap();
    let source = Tree::open(&directory.path().join("source")).unwrap();
    let mut material = Material {
        store: &store,
        check: Check::Content,
        source: None,
    };
    let code = |material: &Material<'_>, name: &str| {
        let tree = directory.path().join(name);
        fs::create_dir(&tree).unwrap();
        place(&moved, &tree, material).unwrap_err().code()
    };
    assert_eq!(code(&material, "one"), "no-content");
    material.source = Some(&source);
    fs::write(directory.path().join("source/a"), "2").unwrap();
    assert_eq!(code(&material, "two"), "unsound-venv");
    fs::remove_file(directory.path().join("source/a")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", directory.path().join("source/a")).unwrap();
    assert_eq!(code(&material, "three"), "io");
}
