use super::*;
use crate::tests_support::Tree;

fn found(tree: &Tree, name: &str) -> (Option<String>, Vec<String>, String) {
    let found = UnitFiles::scan(tree.root()).find(&UnitId::parse(name).unwrap());
    let fragment = found.fragment.map(|path| path.display().to_string());
    (
        fragment,
        found.names.iter().map(ToString::to_string).collect(),
        found.id.to_string(),
    )
}

fn check(tree: &Tree, name: &str, (fragment, names): (Option<&str>, &[&str])) {
    let (got, got_names, _) = found(tree, name);
    assert_eq!(got.as_deref(), fragment, "{name}");
    assert_eq!(got_names, names, "{name}");
}

#[test]
fn higher_directories_win() {
    let tree = Tree::new();
    tree.file("usr/lib/systemd/system/a.service", "x");
    tree.file("run/systemd/generator/b.service", "x");
    check(
        &tree,
        "a.service",
        (Some("/usr/lib/systemd/system/a.service"), &["a.service"]),
    );
    check(&tree, "b.service", (None, &["b.service"]));
    tree.file("etc/systemd/system/a.service", "x");
    check(
        &tree,
        "a.service",
        (Some("/etc/systemd/system/a.service"), &["a.service"]),
    );
    tree.file("etc/systemd/system.control/a.service", "x");
    check(
        &tree,
        "a.service",
        (Some("/etc/systemd/system.control/a.service"), &["a.service"]),
    );
}

#[test]
fn aliases_have_one_file_and_share_names() {
    let tree = Tree::new();
    tree.file("usr/lib/systemd/system/foo.service", "x");
    tree.link("usr/lib/systemd/system/foo-alias.service", "foo.service");
    tree.link(
        "etc/systemd/system/other.service",
        "/lib/systemd/system/foo-alias.service",
    );
    tree.link("lib", "usr/lib");
    tree.link("etc/systemd/system/wrong.service", "/usr/lib/systemd/system/foo.timer");
    tree.link("etc/systemd/system/loop.service", "loop2.service");
    tree.link("etc/systemd/system/loop2.service", "loop.service");
    let all = ["foo-alias.service", "foo.service", "other.service"];
    for name in all {
        check(&tree, name, (Some("/usr/lib/systemd/system/foo.service"), &all));
        assert_eq!(found(&tree, name).2, "foo.service");
    }
    check(&tree, "wrong.service", (None, &["wrong.service"]));
    check(&tree, "loop.service", (None, &["loop.service"]));
}

#[test]
fn templates_serve_their_instances() {
    // The examples of the comment in `unit_file_find_fragment()`.
    let tree = Tree::new();
    tree.file("usr/lib/systemd/system/foo@.service", "x");
    tree.link("usr/lib/systemd/system/foo-alias@.service", "foo@.service");
    tree.file("usr/lib/systemd/system/foo@inst.service", "x");
    tree.link(
        "etc/systemd/system/single@1.service",
        "/usr/lib/systemd/system/foo@.service",
    );
    let template = Some("/usr/lib/systemd/system/foo@.service");
    check(
        &tree,
        "foo@.service",
        (template, &["foo-alias@.service", "foo@.service"]),
    );
    check(
        &tree,
        "foo@bar.service",
        (template, &["foo-alias@bar.service", "foo@bar.service"]),
    );
    check(
        &tree,
        "foo-alias@bar.service",
        (template, &["foo-alias@bar.service", "foo@bar.service"]),
    );
    check(
        &tree,
        "foo@inst.service",
        (Some("/usr/lib/systemd/system/foo@inst.service"), &["foo@inst.service"]),
    );
    let (file, names, id) = found(&tree, "single@1.service");
    assert_eq!((file.as_deref(), id.as_str()), (template, "foo@1.service"));
    assert_eq!(names, ["foo-alias@1.service", "foo@1.service", "single@1.service"]);
}

#[test]
fn instances_with_something_of_their_own() {
    let tree = Tree::new();
    tree.file("usr/lib/systemd/system/foo@.service", "x");
    tree.link(
        "etc/systemd/system/foo@1.service",
        "/usr/lib/systemd/system/foo@.service",
    );
    tree.file("etc/systemd/system/foo@2.service.d/x.conf", "x");
    tree.file("etc/systemd/system/bar@2.service.d/x.conf", "x");
    tree.file("etc/systemd/system/foo@.service.d/x.conf", "x");
    tree.link("usr/lib/systemd/system/alias@.service", "foo@.service");
    tree.file("etc/systemd/system/alias@3.service.d/x.conf", "x");
    tree.link(
        "etc/systemd/system/single@4.service",
        "/usr/lib/systemd/system/foo@.service",
    );
    let got = UnitFiles::scan(tree.root()).instances(&UnitId::parse("foo@.service").unwrap());
    assert_eq!(
        got.iter().map(UnitId::as_str).collect::<Vec<_>>(),
        ["foo@1.service", "foo@2.service", "foo@3.service", "foo@4.service"]
    );
}

#[test]
fn a_link_to_its_own_name_is_passed_over() {
    let tree = Tree::new();
    tree.file("usr/lib/systemd/system/a.service", "x");
    tree.link("etc/systemd/system/a.service", "/usr/lib/systemd/system/a.service");
    check(
        &tree,
        "a.service",
        (Some("/usr/lib/systemd/system/a.service"), &["a.service"]),
    );
}

#[test]
fn what_a_dropin_directory_is() {
    let tree = Tree::new();
    tree.file("etc/systemd/system/a.service.d/x.conf", "x");
    tree.file("opt/b/x.conf", "x");
    tree.link("etc/systemd/system/b.service.d", "/opt/b");
    tree.link("etc/systemd/system/c.service.d", "a.service.d");
    tree.link("etc/systemd/system/d.service.d", "opt/b");
    tree.file("etc/systemd/system/e.service.d", "x");
    tree.file("etc/systemd/system/f.nonsense.d/x.conf", "x");
    tree.file("etc/systemd/system/service.d/x.conf", "x");
    let files = UnitFiles::scan(tree.root());
    for (name, want) in [
        ("a.service", true),
        ("b.service", true),
        ("c.service", false),
        ("d.service", true),
        ("e.service", false),
        ("f.nonsense", false),
        ("service", true),
    ] {
        assert_eq!(!files.dropin_directories(name).is_empty(), want, "{name}");
    }
}

#[test]
fn linked_units_and_masks_keep_their_link() {
    let tree = Tree::new();
    tree.file("opt/units/a.service", "x");
    tree.link("etc/systemd/system/a.service", "/opt/units/a.service");
    tree.link("etc/systemd/system/m.service", "/dev/null");
    tree.file("etc/systemd/system/e.service", "");
    tree.file("usr/lib/systemd/system/m.service", "x");
    check(
        &tree,
        "a.service",
        (Some("/etc/systemd/system/a.service"), &["a.service"]),
    );
    check(
        &tree,
        "m.service",
        (Some("/etc/systemd/system/m.service"), &["m.service"]),
    );
    let files = UnitFiles::scan(tree.root());
    for (path, want) in [("m", true), ("e", true), ("a", false)] {
        assert_eq!(
            files.is_mask(Path::new(&format!("/etc/systemd/system/{path}.service"))),
            want,
            "{path}"
        );
    }
}

#[test]
fn a_directory_may_be_a_link() {
    let tree = Tree::new();
    tree.file("nix/store/units/a.service", "x");
    tree.link("nix/store/units/b.service", "a.service");
    tree.link("etc/systemd/system", "/nix/store/units");
    check(
        &tree,
        "b.service",
        (Some("/etc/systemd/system/a.service"), &["a.service", "b.service"]),
    );
}
