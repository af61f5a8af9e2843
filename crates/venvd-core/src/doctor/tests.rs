use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use venvd_app::links::{self, Link, VenvPath};

use super::*;
use crate::committed_record;
use crate::verify::tests::Host;

/// A host with the sealed venv `demo:1`, asked for and in force.
fn host() -> Host {
    let host = Host::new();
    write(
        &host,
        "/etc/venvd/apps/demo.toml",
        "enabled = true\n[build]\npackages = [\"demo\"]\n",
    );
    let app = host.venv.name().app();
    for link in [Link::Active, Link::Committed] {
        links::set(&host.layout, link, app, Some(&host.venv)).unwrap();
    }
    let record = committed_record(&host.manifest).unwrap();
    write(
        &host,
        "/etc/venvd/committed/demo.json",
        &serde_json::to_string(&record).unwrap(),
    );
    host
}

fn write(host: &Host, path: &str, text: &str) {
    let path = host.layout.on_disk(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    let mut above = path.clone();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    while above != *host.layout.root().directory() && above.pop() {
        fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Lets the app expose a command, and its venv find its interpreter, so that it is really in force.
fn expose(host: &Host) {
    let definition = "enabled = true\n[build]\npackages = [\"demo\"]\n[commands]\nexpose = [\"demo-manage\"]\n";
    write(host, "/etc/venvd/apps/demo.toml", definition);
    let interpreter = &host.manifest.python.interpreter;
    write(host, &interpreter.to_string_lossy(), "");
    fs::set_permissions(host.layout.on_disk(interpreter), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Returns `severity about code` of each problem; that of space depends on the machine.
fn said(host: &Host) -> Vec<String> {
    let problems = examine(&host.layout, None).problems;
    let word = |problem: &Problem| format!("{:?} {} {}", problem.severity, problem.about, problem.code);
    problems
        .iter()
        .filter(|problem| problem.code != "space")
        .map(word)
        .collect()
}

#[test]
fn a_sound_host_has_no_problems() {
    let host = host();
    let diagnosis = examine(&host.layout, None);
    assert_eq!(said(&host), Vec::<String>::new(), "{diagnosis:#?}");
    assert_eq!((diagnosis.apps, diagnosis.venvs, diagnosis.is_sound()), (1, 1, true));
}

#[test]
fn an_empty_host_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(venvd_fs::Root::at(directory.path()));
    let diagnosis = examine(&layout, None);
    assert!(diagnosis.is_sound(), "{diagnosis:#?}");
    assert_eq!((diagnosis.apps, diagnosis.venvs), (0, 0));
}

#[test]
fn each_thing_that_is_wrong_is_told_with_what_to_do() {
    type Case = (&'static str, fn(&Host), &'static [&'static str]);
    let cases: [Case; 15] = [
        (
            "an unknown key",
            |host| write(host, "/etc/venvd/apps/demo.toml", "buld = 1\n"),
            &["Wrong demo definition"],
        ),
        ("a command without its link", expose, &["Note commands commands"]),
        (
            "something in a link's place",
            |host| {
                expose(host);
                write(host, "/usr/local/bin/demo-manage", "");
            },
            &["Wrong demo command-refused"],
        ),
        (
            "settings",
            |host| write(host, "/etc/venvd/venvd.toml", "enabled = 7\n"),
            &["Wrong settings settings"],
        ),
        (
            "a link to a venv that is gone",
            |host| {
                let gone = VenvPath::local(&host.layout, "demo:0".parse().unwrap());
                links::set(&host.layout, Link::Previous, gone.name().app(), Some(&gone)).unwrap();
            },
            &["Wrong demo dangling-link"],
        ),
        (
            "links to something else, one of an app that has nothing else",
            |host| {
                symlink("/tmp", host.layout.on_disk("/etc/venvd/active/other")).unwrap();
                fs::remove_file(host.layout.on_disk("/etc/venvd/active/demo")).unwrap();
                symlink(
                    "/var/lib/venvd/venvs/other/1",
                    host.layout.on_disk("/etc/venvd/active/demo"),
                )
                .unwrap();
            },
            &["Wrong demo foreign-link", "Wrong other foreign-link"],
        ),
        (
            "no record",
            |host| fs::remove_file(host.layout.on_disk("/etc/venvd/committed/demo.json")).unwrap(),
            &["Wrong demo record"],
        ),
        (
            "a record of another venv",
            |host| {
                let mut other = committed_record(&host.manifest).unwrap();
                other.venv = "demo:2".parse().unwrap();
                write(
                    host,
                    "/etc/venvd/committed/demo.json",
                    &serde_json::to_string(&other).unwrap(),
                );
            },
            &["Wrong demo record"],
        ),
        (
            "on, and nothing in force",
            |host| {
                for link in ["active", "committed"] {
                    fs::remove_file(host.layout.on_disk(format!("/etc/venvd/{link}/demo"))).unwrap();
                }
            },
            &["Note demo no-venv"],
        ),
        (
            "not sealed",
            |host| fs::remove_file(host.path(crate::manifest::PATH)).unwrap(),
            &["Wrong demo:1 not-sealed"],
        ),
        (
            "a copy under another name",
            |host| {
                let copy = host.layout.on_disk("/var/lib/venvd/venvs/demo/2/.venvd");
                fs::create_dir_all(&copy).unwrap();
                fs::copy(host.path(crate::manifest::PATH), copy.join("manifest.json")).unwrap();
            },
            &["Wrong demo:2 renamed"],
        ),
        (
            "programs in a directory that others write to",
            |host| fs::set_permissions(host.path("bin"), fs::Permissions::from_mode(0o775)).unwrap(),
            &["Wrong demo:1 chain"],
        ),
        (
            "python elsewhere",
            |host| {
                fs::remove_file(host.path("bin/python")).unwrap();
                symlink("/usr/bin/false", host.path("bin/python")).unwrap();
            },
            &["Wrong demo:1 link"],
        ),
        (
            "what a dead build left",
            |host| fs::create_dir_all(host.layout.staging().join("demo.x")).unwrap(),
            &["Note /var/lib/venvd/staging/demo.x leftover"],
        ),
        (
            "a hold on nothing",
            |host| write(host, "/etc/venvd/held/demo/7", ""),
            &["Note demo:7 held"],
        ),
    ];
    for (what, change, expected) in cases {
        let host = host();
        change(&host);
        let diagnosis = examine(&host.layout, None);
        assert_eq!(said(&host), expected, "{what}: {diagnosis:#?}");
        assert!(diagnosis.problems.iter().all(|problem| !problem.advice.is_empty()));
        let wrong = expected.iter().any(|word| word.starts_with("Wrong"));
        assert_eq!(diagnosis.is_sound(), !wrong, "{what}");
    }
}

#[test]
fn only_venvs_that_links_lead_to_need_their_python() {
    let host = host().with_manifest(|manifest| manifest.python.interpreter = "/usr/bin/python0".into());
    fs::remove_file(host.path("bin/python")).unwrap();
    symlink("/usr/bin/python0", host.path("bin/python")).unwrap();
    assert_eq!(said(&host), ["Wrong demo:1 python-gone"]);
    let advice = &examine(&host.layout, None).problems[0].advice;
    assert!(advice.contains("`venvctl build demo:NEWTAG`"), "{advice}");
    for directory in ["active", "committed"] {
        fs::remove_file(host.layout.on_disk(format!("/etc/venvd/{directory}/demo"))).unwrap();
    }
    assert_eq!(said(&host), ["Note demo no-venv"]);
}

#[test]
fn one_app_alone_is_looked_at_when_it_is_named() {
    let host = host();
    symlink("/tmp", host.layout.on_disk("/etc/venvd/active/other")).unwrap();
    let demo = examine(&host.layout, Some(&"demo".parse().unwrap()));
    assert!(demo.is_sound() && demo.apps == 1, "{demo:#?}");
    assert_eq!(examine(&host.layout, Some(&"other".parse().unwrap())).problems.len(), 1);
    assert_eq!(examine(&host.layout, Some(&"none".parse().unwrap())).apps, 0);
}
