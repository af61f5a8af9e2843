use super::*;
use crate::definition::{Builder, HookStage, Restart, Section, UnitKind};
use venvd_fs::Root;

struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        for (path, text) in files {
            let path = layout.on_disk(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { directory, layout }
    }

    fn app(&self, name: &str) -> Result<App, LoadError> {
        load_app(&self.layout, &name.parse().unwrap())
    }
}

fn error_of(text: &str) -> String {
    let host = Host::new(&[("/etc/venvd/apps/nova.toml", text)]);
    host.app("nova").expect_err(text).to_string()
}

const FULL: &str = r#"
description = "OpenStack Compute"
enabled = true
user = "nova"
pin = "tag"
[build]
lock = "/etc/venvd/locks/nova/29.2.0.txt"
packages = ["nova", "PyMySQL"]
constraints = ["/etc/venvd/upper-constraints.txt"]
python = "/usr/bin/python3.11"
builder = "pip"
[build.index]
url = "https://index.example.org/simple"
find-links = ["/srv/wheels"]
no-index = false
[units."nova-compute.service"]
programs = ["nova-compute"]
[units."cinder-scheduler.service"]
exec = "cinder-scheduler --config-file /etc/cinder/cinder.conf"
restart = "none"
[units."nova-api.service"]
exec = "/usr/bin/uwsgi --ini /etc/nova/nova-api-uwsgi.ini --virtualenv {venv}"
environment = { VENVD_NOVA = "{venv}" }
[units."apache2.service"]
environment = { VENVD_NOVA = "{venv}" }
[units."nova-worker@.service"]
whole = true
exec = "nova-conductor --config-file /etc/nova/nova.conf"
Unit.After = ["network-online.target", "a.target"]
Service = { Type = "exec", Restart = "on-failure", TimeoutSec = 30, DynamicUser = false }
Install.WantedBy = "multi-user.target"
[sudo]
commands = ["nova-rootwrap /etc/nova/rootwrap.conf *"]
[rootwrap]
config = "/etc/nova/rootwrap.conf"
shadow = ["privsep-helper"]
[health]
settle = "3s"
timeout = "1m"
commands = []
rollback = false
[commands]
expose = ["nova-status", "nova-manage", "nova-status"]
"#;

/// Operators rely on these without having written them: docs/definition.md.
#[test]
fn without_health_an_app_has_the_usual_one() {
    for text in ["enabled = false\n", "[health]\n", "health.commands = []\n"] {
        let health = Host::new(&[("/etc/venvd/apps/nova.toml", text)])
            .app("nova")
            .unwrap()
            .health;
        assert_eq!(
            (health.settle.as_secs(), health.timeout.as_secs(), health.rollback),
            (10, 120, true),
            "{text:?}"
        );
        assert!(health.commands.is_empty());
    }
}

#[test]
fn a_full_definition_means_what_it_says() {
    let host = Host::new(&[("/etc/venvd/apps/nova.toml", FULL)]);
    let app = host.app("nova").unwrap();
    assert!(app.enabled);
    assert_eq!(app.source, Path::new("/etc/venvd/apps/nova.toml"));
    assert_eq!(app.build.builder, Builder::Pip);
    assert_eq!(app.build.python, Path::new("/usr/bin/python3.11"));
    let unit = |name: &str| &app.units[&name.parse().unwrap()];
    assert!(matches!(&unit("nova-compute.service").kind, UnitKind::Spliced(programs) if programs.len() == 1));
    assert!(matches!(&unit("cinder-scheduler.service").kind, UnitKind::Exec(_)));
    assert_eq!(unit("cinder-scheduler.service").restart, Some(Restart::None));
    assert!(matches!(&unit("apache2.service").kind, UnitKind::Environment));
    let UnitKind::Whole(whole) = &unit("nova-worker@.service").kind else {
        panic!("not whole")
    };
    assert_eq!(
        whole.sections[&Section::Unit]["After"],
        ["network-online.target", "a.target"]
    );
    assert_eq!(whole.sections[&Section::Service]["TimeoutSec"], ["30"]);
    assert_eq!(whole.sections[&Section::Service]["DynamicUser"], ["no"]);
    assert!(app.sudo.commands[0].open_ended);
    assert_eq!(app.health.settle.as_secs(), 3);
    assert!(!app.health.rollback);
    let expose: Vec<_> = app.expose.iter().map(crate::ProgramName::as_str).collect();
    assert_eq!(expose, ["nova-manage", "nova-status"]);
    let needed: Vec<_> = app.needed_programs().into_iter().map(String::from).collect();
    assert_eq!(
        needed,
        ["cinder-scheduler", "nova-compute", "nova-conductor", "nova-rootwrap"],
        "uwsgi is the host's"
    );
}

#[test]
fn an_app_is_off_unless_it_says_otherwise() {
    let host = Host::new(&[("/etc/venvd/apps/nova.toml", "user = \"nova\"")]);
    assert!(!host.app("nova").unwrap().enabled);
}

#[test]
fn later_directories_replace_and_fragments_merge() {
    let host = Host::new(&[
        (
            "/usr/lib/venvd/apps/nova.toml",
            "user = \"vendor\"\n[build]\npackages = [\"nova\"]",
        ),
        (
            "/etc/venvd/apps/nova.toml",
            "user = \"admin\"\n[build]\nbuilder = \"uv\"\npackages = [\"a\", \"b\"]",
        ),
        ("/usr/lib/venvd/apps/nova.toml.d/10-a.toml", "user = \"never\""),
        ("/etc/venvd/apps/nova.toml.d/10-a.toml", "user = \"fragment\""),
        ("/run/venvd/apps/nova.toml.d/20-b.toml", "[build]\npackages = [\"c\"]"),
        ("/etc/venvd/apps/nova.toml.d/.hidden.toml", "nonsense"),
        ("/usr/lib/venvd/apps/glance.toml", "user = \"glance\""),
        ("/etc/venvd/apps/glance.toml", ""),
    ]);
    let app = host.app("nova").unwrap();
    assert_eq!(app.user.unwrap().as_str(), "fragment");
    assert_eq!(app.build.builder, Builder::Uv);
    assert_eq!(app.build.packages.len(), 1);
    assert!(
        matches!(host.app("glance"), Err(LoadError::Unknown { .. })),
        "an empty file masks"
    );
}

#[test]
fn hooks_are_replaced_stage_by_stage_and_kept_with_what_was_accepted() {
    let main = "user = \"nova\"
        [units.\"nova-worker@.service\"]
        [health]
        commands = [\"nova-status upgrade check\", \"/bin/true\"]
        [[hooks.before-stop]]
        run = \"nova-manage db sync\"
        when-unit = \"nova-worker@1.service\"
        one-way = true
        [[hooks.after-start]]
        run = \"first\"
        [[hooks.after-start]]
        run = \"second\"";
    let host = Host::new(&[
        ("/etc/venvd/apps/nova.toml", main),
        (
            "/etc/venvd/apps/nova.toml.d/10-a.toml",
            "[[hooks.after-start]]\nrun = \"other --quiet\"\n[health]\ncommands = []",
        ),
    ]);
    let app = host.app("nova").unwrap();
    let [sync] = app.hooks.of(HookStage::BeforeStop) else {
        panic!("{:?}", app.hooks)
    };
    assert_eq!(sync.run.to_string(), "nova-manage db sync");
    assert_eq!(sync.when_unit.as_ref().unwrap().as_str(), "nova-worker@1.service");
    assert!(sync.one_way);
    let after: Vec<_> = app.hooks.after_start.iter().map(|hook| hook.run.to_string()).collect();
    assert_eq!(after, ["other --quiet"]);
    assert!(app.hooks.while_stopped.is_empty() && app.health.commands.is_empty());
    let needed: Vec<_> = app.needed_programs().into_iter().map(String::from).collect();
    assert_eq!(needed, ["nova-manage", "other"]);
    accept(&host.layout, &app.name).unwrap();
    let accepted = load_accepted(&host.layout, &app.name).unwrap().unwrap();
    assert_eq!(accepted.hooks, app.hooks);
}

#[test]
fn an_unknown_key_is_shown_with_file_line_column_and_caret() {
    let shown = error_of("user = \"nova\"\n[units.\"a.service\"]\nexecc = \"x\"\n");
    assert!(
        shown.starts_with("/etc/venvd/apps/nova.toml:3:1: unknown field `execc`"),
        "{shown}"
    );
    assert!(shown.ends_with("    3 | execc = \"x\"\n      | ^^^^^"), "{shown}");
}

#[test]
fn what_nothing_acts_upon_yet_is_refused_at_its_place() {
    for (text, place) in [
        ("tag = \"1\"", "1:7"),
        ("pin = \"link\"", "1:7"),
        ("[bundle]\nfrom = \"registry.example.org/x\"", ""),
        ("[bundle]\nfrom = \"x\"", "1:1"),
        ("[units.\"a.service\"]\nrestart = \"reload\"", "1:8"),
    ] {
        let shown = error_of(text);
        assert!(shown.contains("supported yet"), "{text}: {shown}");
        assert!(
            shown.starts_with(&format!("/etc/venvd/apps/nova.toml:{place}")),
            "{text}: {shown}"
        );
    }
}

#[test]
fn refused_keys_are_validated_all_the_same() {
    for (text, reason) in [
        ("tag = \"a/b\"", "is not a tag"),
        ("[bundle]\nfrum = \"x\"", "unknown field"),
        ("[build]\nhost-modules = [\"a b\"]", "not the name of a Python module"),
    ] {
        let shown = error_of(text);
        assert!(shown.contains(reason), "{text}: {shown}");
    }
}

#[test]
fn contradictions_are_refused_at_their_place() {
    for (text, start) in [
        (
            "[units.\"a.service\"]\nexec = \"a\"\nprograms = [\"a\"]",
            "/etc/venvd/apps/nova.toml:1:8: `exec` and",
        ),
        (
            "[units.\"a.service\"]\nwhole = true",
            "/etc/venvd/apps/nova.toml:1:8: `whole",
        ),
        (
            "[units.\"a.service\"]\nUnit.After = \"x\"",
            "/etc/venvd/apps/nova.toml:1:8: sections",
        ),
        (
            "[units.\"a.service\"]\nwhole = true\nexec = \"a\"\nService.ExecStart = \"b\"",
            "/etc/venvd/apps/nova.toml:1:8: the command",
        ),
        (
            "[units.\"a.socket\"]\n",
            "/etc/venvd/apps/nova.toml:1:8: an existing socket",
        ),
        (
            "[units.\"a.socket\"]\nwhole = true\nTimer.OnCalendar = \"daily\"",
            "/etc/venvd/apps/nova.toml:1:8: it needs a section of its kind",
        ),
        (
            "[units.\"a.timer\"]\nwhole = true\nTimer.OnCalendar = \"daily\"\nService.User = \"a\"",
            "/etc/venvd/apps/nova.toml:1:8: it has a section of another kind",
        ),
        (
            "[units.\"a.timer\"]\nwhole = true\nexec = \"a\"\nTimer.OnCalendar = \"daily\"",
            "/etc/venvd/apps/nova.toml:1:8: `exec`, `programs`, `environment` and `restart` are for services",
        ),
        (
            "[units.\"a.service\"]\nwhole = true\nexec = \"a\"\nSocket.Accept = true",
            "/etc/venvd/apps/nova.toml:1:8: a service has no Socket",
        ),
        (
            "[units.\"a.path\"]\nwhole = true",
            "/etc/venvd/apps/nova.toml:1:8: only .service units",
        ),
        (
            "[units.\"dbus.service\"]\nexec = \"a\"",
            "/etc/venvd/apps/nova.toml:1:8: venvd never",
        ),
        (
            "[sudo]\ncommands = [\"a /b\"]",
            "/etc/venvd/apps/nova.toml:1:2: sudo commands need",
        ),
        (
            "[sudo]\nunsafe = [\"privsep-helper --config-file /b *\"]",
            "/etc/venvd/apps/nova.toml:1:2: sudo commands need",
        ),
        (
            "[health]\nsettle = \"1m\"\ntimeout = \"1s\"",
            "/etc/venvd/apps/nova.toml:1:2: `timeout`",
        ),
        (
            "user = \"nova\"\n[[hooks.after-start]]\nrun = \"a\"\nwhen-unit = \"b.service\"\n[units.\"a.service\"]",
            "/etc/venvd/apps/nova.toml:2:9: when-unit = \"b.service\" is none",
        ),
        (
            "[[hooks.before-stop]]\nrun = \"a b\"",
            "/etc/venvd/apps/nova.toml:1:3: `a b` runs code of the venv, and never as root",
        ),
        (
            "[health]\ncommands = [\"a\"]",
            "/etc/venvd/apps/nova.toml:1:2: `a` runs code",
        ),
        (
            "user = \"root\"\n[health]\ncommands = [\"a\"]",
            "/etc/venvd/apps/nova.toml:1:1: `a` runs code",
        ),
    ] {
        let shown = error_of(text);
        assert!(shown.starts_with(start), "{text}: {shown}");
    }
}

#[test]
fn bad_values_are_refused() {
    for text in [
        "enabled = 1",
        "user = \"Root\"",
        "build.packages = [\"-r x\"]",
        "build.python = \"python3\"",
        "build.index.url = \"https://me:secret@index.example.org\"",
        "units.\"a b.service\".exec = \"x\"",
        "units.\"a.service\".exec = \"x\\ny\"",
        "units.\"a.service\".environment = { \"A B\" = \"x\" }",
        "rootwrap.config = \"etc/rootwrap.conf\"",
        "health.commands = [\"a\", \"b | c\"]",
        "hooks.before-stop = [{ run = \"\" }]",
        "hooks.before-stop = [{ run = \"a\", once = true }]",
        "health.settle = \"soon\"",
        "x = ",
    ] {
        let shown = error_of(text);
        assert!(shown.starts_with("/etc/venvd/apps/nova.toml:1:"), "{text}: {shown}");
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new(&[("/etc/venvd/apps/nova.toml", "enabled = true")]);
    let path = host.directory.path().join("etc/venvd/apps/nova.toml");
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(host.app("nova"), Err(LoadError::Unsafe(_))));
}

#[test]
fn one_broken_app_does_not_hide_the_others() {
    let host = Host::new(&[
        ("/etc/venvd/apps/good.toml", "enabled = true"),
        ("/etc/venvd/apps/bad.toml", "enabled = maybe"),
        ("/etc/venvd/apps/Bad Name.toml", "enabled = true"),
        ("/etc/venvd/venvd.toml", "registry = \"x\""),
    ]);
    let declared = load(&host.layout);
    assert_eq!(declared.apps.keys().map(AppName::as_str).collect::<Vec<_>>(), ["good"]);
    assert_eq!(declared.broken.keys().map(AppName::as_str).collect::<Vec<_>>(), ["bad"]);
    assert_eq!(declared.problems.len(), 2);
    assert_eq!(declared.settings, Settings::default());
}

#[test]
fn a_typo_in_the_settings_turns_nothing_on() {
    for (text, fragment, enabled) in [
        ("enabled = false\nkeeep = 3", "", false),
        ("keep = \nenabled=false # all of it", "", false),
        ("# enabled = false\nkeep = \"x\"", "", true),
        ("enabled = false\nkeep = \"x\"", "enabled = true", true),
        ("keep = \"x\"", "enabled = false", false),
    ] {
        let mut files = vec![("/etc/venvd/venvd.toml", text)];
        files.extend((!fragment.is_empty()).then_some(("/etc/venvd/venvd.toml.d/10.toml", fragment)));
        let declared = load(&Host::new(&files).layout);
        assert_eq!(declared.problems.len(), 1, "{text}");
        assert_eq!(declared.settings.enabled, enabled, "{text}");
    }
}

#[test]
fn settings_merge_and_default() {
    let host = Host::new(&[
        ("/etc/venvd/venvd.toml", "enabled = true\ndeployment = \"blue\""),
        ("/etc/venvd/venvd.toml.d/10.toml", "enabled = false"),
    ]);
    let settings = load_settings(&host.layout).unwrap();
    assert!(!settings.enabled);
    assert_eq!(settings.deployment.unwrap().as_str(), "blue");
    assert_eq!(load_settings(&Host::new(&[]).layout).unwrap(), Settings::default());
}

#[test]
fn the_accepted_definition_outlives_the_files_breaking() {
    let host = Host::new(&[
        ("/etc/venvd/apps/nova.toml", FULL),
        ("/etc/venvd/apps/nova.toml.d/10.toml", "health.settle = \"7s\""),
    ]);
    let app: AppName = "nova".parse().unwrap();
    assert!(load_accepted(&host.layout, &app).unwrap().is_none());
    switch_accepted(&host.layout, &app, false).unwrap();
    accept(&host.layout, &app).unwrap();
    fs::write(host.layout.on_disk("/etc/venvd/apps/nova.toml"), "nonsense").unwrap();
    assert!(accept(&host.layout, &app).is_err(), "a broken one is never accepted");
    let accepted = load_accepted(&host.layout, &app).unwrap().unwrap();
    assert_eq!(accepted.health.settle.as_secs(), 7);
    assert_eq!(accepted.units.len(), 5);
    assert_eq!(accepted.source, Path::new("/etc/venvd/apps/nova.toml"));
    switch_accepted(&host.layout, &app, false).unwrap();
    assert!(!load_accepted(&host.layout, &app).unwrap().unwrap().enabled);
}

#[test]
fn what_only_the_host_can_have_is_refused_in_a_users_definition() {
    let directory = tempfile::tempdir().unwrap();
    let user = crate::UserPlaces {
        config_home: "/home/alice/.config".into(),
        data_home: "/home/alice/.local/share".into(),
        runtime: "/run/user/1000".into(),
        uid: 0,
    };
    let root = || venvd_fs::Root::at(directory.path());
    let app: AppName = "demo".parse().unwrap();
    for (text, line, why) in [
        ("user = \"root\"\n", 1, "take `user` out"),
        ("\n[rootwrap]\nconfig = \"/etc/x.conf\"\n", 2, "rootwrap.conf"),
        (
            "[units.\"a.service\"]\nwhole = true\nexec = \"a\"\nService.User = \"root\"\n",
            4,
            "take it out",
        ),
    ] {
        for places in ["home/alice/.config/venvd/apps", "etc/venvd/apps"] {
            let path = directory.path().join(places);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("demo.toml"), text).unwrap();
        }
        let error = load_app(&Layout::user(root(), &user), &app).unwrap_err().to_string();
        let place = format!("/home/alice/.config/venvd/apps/demo.toml:{line}:");
        assert!(error.starts_with(&place) && error.contains(why), "{error}");
        load_app(&Layout::new(root()), &app).unwrap();
    }
}
