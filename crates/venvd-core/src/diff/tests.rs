use super::*;
use crate::manifest::{Distribution, HostModule, tests::example};

fn with(distributions: &[(&str, &str)]) -> Manifest {
    let mut manifest = example();
    manifest.distributions = distributions
        .iter()
        .map(|(name, version)| Distribution {
            name: (*name).into(),
            version: (*version).into(),
        })
        .collect();
    manifest.files.clear();
    manifest
}

fn file(path: &str, dist: &str, content: char) -> File {
    File {
        path: path.into(),
        dist: Some(dist.into()),
        size: 100,
        mode: 0o644,
        placed: false,
        blake3: content.to_string().repeat(64),
    }
}

fn between(old: &Manifest, new: &Manifest) -> Diff {
    let (one, other) = ("nova:1".parse().unwrap(), "nova:2".parse().unwrap());
    diff((&one, old), (&other, new))
}

#[test]
fn versions_are_ordered_as_python_orders_them() {
    for (before, after, change) in [
        ("1.9", "1.10", Change::Upgraded),
        ("2.0rc1", "2.0", Change::Upgraded),
        ("2.0", "2.0.post1", Change::Upgraded),
        ("2.0", "1!1.0", Change::Upgraded),
        ("1.0+local.2", "1.0+local.1", Change::Downgraded),
        ("30.0.0", "29.2.0.dev12", Change::Downgraded),
        ("1.0", "1.0.0", Change::Other),
        ("2004d", "2005a", Change::Other),
    ] {
        let found = between(&with(&[("a", before)]), &with(&[("a", after)])).distributions;
        assert_eq!(found.len(), 1, "{before} {after}");
        assert_eq!(found[0].change, change, "{before} {after}");
    }
}

#[test]
fn names_what_came_went_and_changed() {
    let mut old = with(&[("gone", "1"), ("kept", "1"), ("rebuilt", "1")]);
    old.programs = vec!["nova-cert".parse().unwrap(), "nova-api".parse().unwrap()];
    old.files = vec![file("kept.py", "kept", 'a'), file("rebuilt.so", "rebuilt", 'b')];
    let mut new = with(&[("kept", "1"), ("new", "2"), ("rebuilt", "1")]);
    new.programs = vec!["nova-api".parse().unwrap(), "nova-policy".parse().unwrap()];
    new.files = vec![
        file("kept.py", "kept", 'a'),
        file("rebuilt.so", "rebuilt", 'c'),
        file("new.py", "new", 'd'),
        // The same content twice is stored once.
        file("twin.py", "new", 'd'),
    ];
    new.host_modules = vec![HostModule {
        name: "libvirt".into(),
        links: vec!["lib/libvirt.py".into()],
    }];
    new.python.version = "3.11.9".into();
    let diff = between(&old, &new);
    let changes: Vec<(&str, Change)> = diff
        .distributions
        .iter()
        .map(|one| (one.name.as_str(), one.change))
        .collect();
    assert_eq!(
        changes,
        [
            ("gone", Change::Removed),
            ("new", Change::Added),
            ("rebuilt", Change::Content)
        ]
    );
    assert_eq!(diff.same_distributions, 1);
    assert_eq!(
        (diff.programs.added, diff.programs.removed),
        (vec!["nova-policy".into()], vec!["nova-cert".into()])
    );
    assert_eq!(diff.host_modules.added, ["libvirt"]);
    assert_eq!(diff.python.len(), 1);
    assert_eq!(diff.python[0].what, "version");
    let amount = |files, bytes| Amount { files, bytes };
    assert_eq!(diff.content.new, amount(2, 200));
    assert_eq!(diff.content.shared, amount(1, 100));
    assert_eq!(diff.content.gone, amount(1, 100));
    assert!(!diff.identical);

    let mut moved = new.clone();
    moved.host_modules[0].links.push("lib/libvirtmod.so".into());
    let diff = between(&new, &moved);
    assert_eq!(diff.host_modules.changed, ["libvirt"]);
    assert!(!diff.identical && between(&new, &new).identical);
}

#[test]
fn a_script_that_names_its_venv_does_not_make_its_distribution_differ() {
    let script = |content| File {
        placed: true,
        ..file("bin/nova-api", "nova", content)
    };
    let (mut old, mut new) = (with(&[("nova", "1")]), with(&[("nova", "1")]));
    old.files = vec![script('a')];
    new.files = vec![script('b')];
    assert!(between(&old, &new).identical);
}
