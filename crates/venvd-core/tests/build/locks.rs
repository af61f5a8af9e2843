use std::fs;
use std::path::Path;

use crate::support::Host;
use venvd_core::build::{Built, Outcome, Request, Silent};
use venvd_core::{Error, Manifest, build};

/// Builds as was asked with more words than a tag.
fn build_with(host: &Host, tag: Option<&str>, change: impl FnOnce(&mut Request)) -> Result<Built, Error> {
    let mut request = host.request(tag);
    change(&mut request);
    build(&host.layout, &Default::default(), &request, &mut Silent)
}

fn upgrade(host: &Host, tag: Option<&str>) -> Result<Built, Error> {
    build_with(host, tag, |request| request.upgrade = true)
}

fn version(built: &Built) -> &str {
    built.venv.name().tag().as_str().split('-').next().unwrap()
}

#[test]
fn a_lock_is_reused_until_an_upgrade_is_asked_for() {
    let host = Host::new();
    host.demo("1.0");
    host.declare("packages = [\"demo\"]");
    let first = host.build(None).unwrap();
    host.demo("2.0");
    assert_eq!(host.build(None).unwrap().venv, first.venv);
    // Also where the venv went, or a name is given.
    fs::remove_dir_all(host.path("/var/lib/venvd/venvs")).unwrap();
    let named = host.build(Some("named")).unwrap();
    let manifest = |tag: &str| Manifest::load(&host.path("/var/lib/venvd/venvs/demo").join(tag)).unwrap();
    assert_eq!(manifest("named").distributions[0].version, "1.0");
    assert_eq!(named.outcome, Outcome::New);

    let error = upgrade(&host, Some("named")).unwrap_err();
    assert_eq!(error.code(), "other-lock");
    assert!(error.to_string().contains("demo was 1.0 and is 2.0 now"), "{error}");
    let second = upgrade(&host, None).unwrap();
    assert_eq!((version(&first), version(&second)), ("1.0", "2.0"));
    assert_eq!(upgrade(&host, None).unwrap().outcome, Outcome::AlreadyThere);
    // The newest one serves from now on.
    assert_eq!(host.build(None).unwrap().venv, second.venv);

    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("packages = [\"demo\"]\nlock = \"/lock.txt\"");
    let error = upgrade(&host, None).unwrap_err();
    assert_eq!(error.code(), "given-lock", "{error}");
}

#[test]
fn a_tag_goes_on_meaning_what_its_kept_lock_says() {
    let host = Host::new();
    host.demo("1.0");
    host.wheel("other", "1", &[("other.py", "")]);
    host.declare("packages = [\"demo\"]");
    host.build(Some("1")).unwrap();
    let kept = host.path("/etc/venvd/locks/demo/1.txt");
    let text = fs::read_to_string(&kept).unwrap();
    // Whoever takes the lock away does not change the venv.
    fs::remove_file(&kept).unwrap();
    assert_eq!(host.build(Some("1")).unwrap().outcome, Outcome::AlreadyThere);
    // Whoever takes the venv away does not change the lock.
    fs::write(&kept, text).unwrap();
    fs::remove_dir_all(host.path("/var/lib/venvd/venvs")).unwrap();
    host.declare("packages = [\"demo\", \"other\"]");
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "other-lock");
    let said = error.to_string();
    assert!(
        said.contains(kept.to_str().unwrap()) && said.contains("`demo`, now it would be `demo, other`"),
        "{said}"
    );
    host.declare("packages = [\"demo\"]");
    assert_eq!(host.build(Some("1")).unwrap().outcome, Outcome::New);
}

#[test]
fn who_built_it_and_pythons_patch_version_do_not_matter() {
    let host = Host::new();
    host.write("/lock.txt", &host.demo("1.0"));
    host.declare("lock = \"/lock.txt\"");
    let built = host.build(None).unwrap();
    let path = host.layout.on_disk(built.venv.path()).join(venvd_core::manifest::PATH);
    let mut manifest = Manifest::load(&host.layout.on_disk(built.venv.path())).unwrap();
    manifest.builder.name = "uv".to_owned();
    manifest.builder.version = "0.0.1".to_owned();
    manifest.builder.venvd = "9.9.9".to_owned();
    manifest.python.version = format!("{}.99", manifest.python.minor);
    fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    assert_eq!(host.build(None).unwrap().outcome, Outcome::AlreadyThere);
    // What is digested does.
    host.declare("lock = \"/lock.txt\"\nhost-modules = [\"apt\"]");
    let error = build_with(&host, Some(built.venv.name().tag().as_str()), |_| ()).unwrap_err();
    assert_eq!(error.code(), "other-lock");
    assert!(
        error
            .to_string()
            .contains("its host modules were none, now they would be apt"),
        "{error}"
    );
    host.declare("lock = \"/lock.txt\"\nsdists = [\"never-there\"]");
    assert_eq!(host.build(None).unwrap().outcome, Outcome::AlreadyThere);
}

#[test]
fn offline_builds_take_local_wheels_and_ask_nobody() {
    let host = Host::new();
    let line = host.demo("1.0");
    // Nothing listens on the discard port, and asking would take its time.
    let declare = |build: &str| {
        let index = "[build.index]\nurl = \"http://127.0.0.1:9/simple\"\n";
        host.write(
            "/etc/venvd/apps/demo.toml",
            &format!("[build]\nbuilder = \"pip\"\n{build}\n{index}"),
        );
    };
    let offline = |tag: &str, links: &[&Path]| {
        build_with(&host, Some(tag), |request| {
            request.offline = true;
            request.find_links = links.iter().map(|path| (*path).to_owned()).collect();
            request
                .environment
                .push(("PIP_FIND_LINKS".into(), "http://127.0.0.1:9/links".into()));
        })
    };
    let wheels = host.path("/wheels");
    host.write("/lock.txt", &line);
    declare("lock = \"/lock.txt\"");
    let error = offline("1", &[]).unwrap_err();
    assert_eq!(error.code(), "missing-wheel");
    assert!(error.to_string().contains("--find-links"), "{error}");
    assert_eq!(offline("1", &[&wheels]).unwrap().outcome, Outcome::New);
    // A lock is made from them as well.
    declare("packages = [\"demo\"]");
    assert_eq!(offline("2", &[&wheels]).unwrap().outcome, Outcome::New);
    let manifest = Manifest::load(&host.path("/var/lib/venvd/venvs/demo/2")).unwrap();
    assert_eq!(manifest.distributions[0].version, "1.0");
}
