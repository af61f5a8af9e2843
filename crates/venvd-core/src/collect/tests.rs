use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use venvd_app::links::{self, Link};
use venvd_fs::Root;
use venvd_fs::atomic;

use crate::hold;
use crate::manifest::{PATH, tests::example};

struct Host {
    _directory: tempfile::TempDir,
    layout: Layout,
}

const KILO: usize = 1 << 10;

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(fs::canonicalize(directory.path()).unwrap()));
        Self {
            _directory: directory,
            layout,
        }
    }

    /// A host with the tags 1 to 9 of an app, the older the smaller.
    fn with_nine() -> Self {
        let host = Self::new();
        for age in 1..=9 {
            host.seal(&format!("nova:{age}"), age);
        }
        host
    }

    fn seal(&self, name: &str, created: u64) -> VenvPath {
        let venv = local(name);
        let mut manifest = example();
        manifest.app = venv.name().app().clone();
        manifest.tag = venv.name().tag().clone();
        manifest.created = created;
        let directory = self.layout.on_disk(venv.path());
        fs::create_dir_all(directory.join("bin")).unwrap();
        fs::create_dir_all(directory.join(".venvd")).unwrap();
        fs::write(directory.join(PATH), manifest.to_json().unwrap()).unwrap();
        fs::write(directory.join("bin/own"), vec![b'x'; 64 * KILO]).unwrap();
        venv
    }

    fn link(&self, link: Link, name: &str) {
        let venv = local(name);
        links::set(&self.layout, link, venv.name().app(), Some(&venv)).unwrap();
    }

    fn plan(&self, keep: u32) -> Plan {
        plan(&self.layout, &asked(keep)).unwrap()
    }

    fn tags(&self) -> Vec<String> {
        let mut paths = list::paths(&self.layout, None).unwrap();
        paths.sort();
        paths.iter().map(|venv| venv.name().to_string()).collect()
    }

    fn make_active(&self, tag: &str) {
        let app: AppName = "nova".parse().unwrap();
        let path = Link::Active.path(&self.layout, &app);
        drop(fs::remove_file(&path));
        atomic::symlink(&local(&format!("nova:{tag}")).path(), &path).unwrap();
    }
}

fn asked(keep: u32) -> Asked {
    Asked { app: None, keep }
}

fn local(name: &str) -> VenvPath {
    VenvPath::local(&Layout::new(Root::host()), name.parse().unwrap())
}

/// Returns the codes of a venv's reasons; none when it goes.
fn codes(plan: &Plan, name: &str) -> Vec<String> {
    let decision = plan.decisions.iter().find(|one| one.venv == local(name)).unwrap();
    match &decision.verdict {
        Verdict::Go => Vec::new(),
        Verdict::Keep(reasons) => reasons
            .iter()
            .map(|reason| {
                serde_json::to_value(reason).unwrap()["code"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect(),
    }
}

#[test]
fn a_venv_stays_for_each_reason_and_goes_without_one() {
    let host = Host::with_nine();
    host.link(Link::Active, "nova:1");
    host.link(Link::Committed, "nova:2");
    host.link(Link::Previous, "nova:3");
    let held = crate::note::Note {
        reason: Some("the audit".into()),
        by: Some("alice".into()),
        since: None,
    };
    hold::hold(&host.layout, local("nova:4").name(), &held).unwrap();
    let plan = host.plan(2);
    for (name, expected) in [
        ("nova:1", "asked-for"),
        ("nova:2", "in-force"),
        ("nova:3", "previous"),
        ("nova:4", "held"),
        ("nova:5", ""),
        ("nova:6", ""),
        ("nova:7", ""),
        ("nova:8", "newest"),
        ("nova:9", "newest"),
    ] {
        assert_eq!(codes(&plan, name).join(" "), expected, "{name}");
    }
    let said = |name: &str| match &plan
        .decisions
        .iter()
        .find(|one| one.venv == local(name))
        .unwrap()
        .verdict
    {
        Verdict::Keep(reasons) => reasons[0].to_string(),
        Verdict::Go => String::new(),
    };
    assert_eq!(said("nova:4"), "held by alice: the audit");
    assert_eq!(
        (said("nova:9"), said("nova:8")),
        ("the newest".into(), "among the newest 2".into())
    );
    assert_eq!(host.tags().len(), 9, "a plan changes nothing");

    let collected = apply(&host.layout, &asked(2), &plan);
    assert!(
        collected.failed.is_empty() && collected.problems.is_empty(),
        "{collected:?}"
    );
    assert_eq!(collected.freed, plan.frees);
    assert_eq!(
        host.tags(),
        ["nova:1", "nova:2", "nova:3", "nova:4", "nova:8", "nova:9"]
    );
    assert!(
        host.plan(2).decisions.iter().all(|one| one.verdict != Verdict::Go),
        "there is no more"
    );
}

#[test]
fn each_app_keeps_its_own_newest_by_time_and_then_by_name() {
    let host = Host::new();
    for (name, created) in [("nova:z", 1), ("nova:a", 3), ("nova:b", 3), ("glance:1", 0)] {
        host.seal(name, created);
    }
    let plan = host.plan(1);
    assert_eq!(codes(&plan, "nova:b"), ["newest"]);
    assert_eq!(codes(&plan, "glance:1"), ["newest"]);
    assert!(codes(&plan, "nova:a").is_empty() && codes(&plan, "nova:z").is_empty());
    assert!(codes(&host.plan(0), "nova:b").is_empty());
    let one = Asked {
        app: Some("glance".parse().unwrap()),
        keep: 0,
    };
    let plan = super::plan(&host.layout, &one).unwrap();
    assert_eq!(plan.decisions.len(), 1);
    apply(&host.layout, &one, &plan);
    assert_eq!(host.tags(), ["nova:a", "nova:b", "nova:z"]);
}

#[test]
fn what_is_not_ours_or_not_understood_stays() {
    let host = Host::new();
    host.seal("nova:sealed", 1);
    fs::create_dir_all(host.layout.on_disk(local("nova:bare").path())).unwrap();
    let strange = host.seal("nova:strange", 1);
    fs::write(host.layout.on_disk(strange.path()).join(PATH), "{\"format\":2}").unwrap();
    host.seal("nova:copied", 1);
    let from = host.layout.on_disk(local("nova:sealed").path()).join(PATH);
    fs::copy(from, host.layout.on_disk(local("nova:copied").path()).join(PATH)).unwrap();
    let packaged = host.layout.on_disk("/usr/lib/venvd/venvs/nova/pkg");
    fs::create_dir_all(packaged.parent().unwrap()).unwrap();
    fs::rename(host.layout.on_disk(host.seal("nova:pkg", 9).path()), &packaged).unwrap();
    let plan = host.plan(0);
    for name in ["nova:bare", "nova:strange", "nova:copied"] {
        assert_eq!(codes(&plan, name), ["not-sealed"], "{name}");
    }
    let of_package = plan
        .decisions
        .iter()
        .find(|one| one.venv.path().starts_with("/usr"))
        .unwrap();
    assert_eq!(of_package.verdict, Verdict::Keep(vec![Reason::Packaged]));
    apply(&host.layout, &asked(0), &plan);
    assert_eq!(host.tags(), ["nova:bare", "nova:copied", "nova:pkg", "nova:strange"]);
}

#[test]
fn a_link_that_leads_astray_protects_all_of_its_app_and_no_other() {
    let host = Host::new();
    host.seal("nova:1", 1);
    host.seal("glance:1", 1);
    let link = Link::Committed.path(&host.layout, &"nova".parse().unwrap());
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink("/srv/elsewhere", link).unwrap();
    let plan = host.plan(0);
    assert_eq!(codes(&plan, "nova:1"), ["unknown"]);
    assert!(codes(&plan, "glance:1").is_empty());
}

#[test]
fn an_activation_protects_its_app_from_its_first_moment() {
    let host = Host::new();
    let venv = host.seal("nova:1", 1);
    let app = venv.name().app();
    let pending = host.layout.pending(app);
    atomic::write(&pending, b"1\n", 0o644).unwrap();
    assert_eq!(codes(&host.plan(0), "nova:1"), ["pending"]);
    fs::remove_file(pending).unwrap();

    let plan = host.plan(0);
    let activation = Lock::exclusive(&host.layout.app_lock(app)).unwrap();
    let collected = apply(&host.layout, &asked(0), &plan);
    assert_eq!(collected.kept[&venv], [Reason::Pending]);
    drop(activation);
    assert_eq!(apply(&host.layout, &asked(0), &plan).removed, [venv]);
}

#[test]
fn what_has_changed_since_the_plan_counts() {
    let host = Host::with_nine();
    let plan = host.plan(1);
    host.make_active("3");
    hold::hold(&host.layout, local("nova:4").name(), &crate::note::Note::default()).unwrap();
    fs::remove_dir_all(host.layout.on_disk(local("nova:5").path())).unwrap();
    let collected = apply(&host.layout, &asked(1), &plan);
    assert_eq!(collected.kept[&local("nova:3")], [Reason::AskedFor]);
    assert_eq!(
        collected.kept[&local("nova:4")],
        [Reason::Held(crate::note::Note::default())]
    );
    assert_eq!(collected.failed[&local("nova:5")].code(), "no-such-venv");
    assert_eq!(
        host.tags(),
        ["nova:3", "nova:4", "nova:9"],
        "one failure keeps none of the others"
    );
}

#[test]
fn a_process_keeps_its_venv_until_it_ends() {
    let host = Host::new();
    let venv = host.seal("nova:1", 1);
    let mut sleeper = std::process::Command::new("/bin/sleep")
        .arg("60")
        .current_dir(host.layout.on_disk(venv.path()))
        .spawn()
        .unwrap();
    let plan = host.plan(0);
    let verdict = plan.decisions[0].verdict.clone();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let Verdict::Keep(reasons) = verdict else {
        panic!("it goes")
    };
    let expected = format!("used by sleep ({})", sleeper.id());
    assert!(reasons[0].to_string().starts_with(&expected), "{reasons:?}");
    assert!(codes(&host.plan(0), "nova:1").is_empty());
}

#[test]
fn leftovers_are_told_and_then_swept() {
    let host = Host::new();
    host.seal("nova:1", 1);
    let dead = host.layout.staging().join("nova.dead");
    fs::create_dir_all(dead.join("work")).unwrap();
    fs::write(host.layout.staging().join("nova.log"), "why it failed").unwrap();
    let before = entries(&dead);
    let plan = host.plan(1);
    assert_eq!((&plan.leftovers, entries(&dead)), (&vec![dead.clone()], before));
    let collected = apply(&host.layout, &asked(1), &plan);
    assert_eq!(collected.leftovers, [dead]);
    assert_eq!(entries(&host.layout.staging()), ["nova.log"]);
}

fn entries(directory: &Path) -> Vec<String> {
    let mut entries: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.sort();
    entries
}

#[test]
fn what_venvs_share_is_counted_once() {
    let host = Host::new();
    let (one, two, three) = (host.seal("nova:1", 1), host.seal("nova:2", 2), host.seal("nova:3", 3));
    let at = |venv: &VenvPath, name: &str| host.layout.on_disk(venv.path()).join(name);
    // As the store does it: one name is its own.
    let store = host.layout.store();
    fs::create_dir_all(&store).unwrap();
    let size = 256 * KILO as u64;
    fs::write(store.join("object"), vec![b'y'; size as usize]).unwrap();
    for venv in [&one, &two] {
        fs::hard_link(store.join("object"), at(venv, "shared")).unwrap();
    }
    // The same content twice in one venv.
    fs::hard_link(store.join("object"), at(&one, "twin")).unwrap();
    fs::hard_link(at(&three, "bin/own"), store.join("own")).unwrap();
    let all = [one.clone(), two.clone(), three.clone()];
    let sizes = Sizes::measure(&host.layout, &all).unwrap();
    let (alone, pair) = (
        sizes.alone(&one) + sizes.alone(&two),
        sizes.together([&one, &two].into_iter()),
    );
    assert_eq!(pair, alone + size, "it goes when the last of those that share it goes");
    assert_eq!(
        sizes.alone(&three),
        sizes.alone(&two),
        "a name in the store does not keep it"
    );
    assert_eq!(sizes.total(), pair + sizes.alone(&three));
}

#[test]
fn a_revoked_venv_is_not_kept_for_its_age() {
    let host = Host::with_nine();
    for tag in ["9", "8"] {
        let venv = local(&format!("nova:{tag}"));
        crate::brake::revoke(&host.layout, venv.name(), &Note::default()).unwrap();
    }
    host.link(Link::Previous, "nova:8");
    let plan = host.plan(2);
    for (name, expected) in [
        ("nova:9", &[][..]),
        ("nova:8", &["previous"]),
        ("nova:7", &["newest"]),
        ("nova:6", &["newest"]),
        ("nova:5", &[]),
    ] {
        assert_eq!(codes(&plan, name), expected, "{name}");
    }
}
