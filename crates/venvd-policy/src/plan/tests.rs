use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

use venvd_app::links::{self, Link};
use venvd_app::search;
use venvd_fs::Root;
use venvd_fs::atomic::Change;

use super::*;
use crate::sudoers::header::with_header;
use crate::sudoers::installed::{Family, Version};

mod arguments;
mod edited;
mod former;
mod interpreter;
mod leftovers;
mod off;
mod revoked;
mod shared;

const CONF: &str = "# rootwrap\n[DEFAULT]\nfilters_path=/etc/cinder/rootwrap.d,/usr/share/cinder/rootwrap\n\
                    exec_dirs=/sbin,/usr/bin\nuse_syslog=False\n";
const SYSTEM: &str = "/usr/sbin:/usr/bin";
const STAR: &str = "cinder-rootwrap /etc/cinder/rootwrap.conf *";
const PRIVSEP: &str = "privsep-helper --config-file /etc/cinder/cinder.conf *";
const DAEMON: &str = "cinder-rootwrap-daemon /etc/cinder/rootwrap.conf";

/// A host below a directory of its own, with the app cinder and its venvs 1 and 2. `visudo` is `/bin/true`.
struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
    sudo: Option<Sudo>,
}

fn sudo(family: Family, version: [u32; 3]) -> Sudo {
    Sudo {
        visudo: "/bin/true".into(),
        sudo: "/bin/false".into(),
        family,
        version: Version(version),
    }
}

fn host() -> Host {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let host = Host {
        directory,
        layout,
        sudo: Some(sudo(Family::C, [1, 9, 13])),
    };
    host.define("cinder", "cinder", &format!("[rootwrap]\nconfig = \"/etc/cinder/rootwrap.conf\"\nshadow = [\"privsep-helper\"]\n[sudo]\ncommands = [{STAR:?}, {DAEMON:?}]"));
    host.put("etc/cinder/rootwrap.conf", CONF);
    host.put("etc/cinder/rootwrap.d/volume.filters", "[Filters]\n");
    host.put("etc/sudoers", &format!("Defaults secure_path=\"{SYSTEM}\"\n"));
    fs::create_dir_all(host.at("etc/sudoers.d")).unwrap();
    host.program("sbin/lvs");
    for tag in ["1", "2"] {
        for program in ["cinder-rootwrap", "cinder-rootwrap-daemon", "privsep-helper", "python3"] {
            host.program(&format!("var/lib/venvd/venvs/cinder/{tag}/bin/{program}"));
        }
        host.put(&format!("var/lib/venvd/venvs/cinder/{tag}/lib/python3/os.py"), "");
    }
    host.program("usr/bin/python3");
    host
}

impl Host {
    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str) {
        self.put(path, "#!/bin/sh\n");
        self.chmod(path, 0o755);
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn define(&self, app: &str, user: &str, rest: &str) {
        let path = format!("etc/venvd/apps/{app}.toml");
        self.put(&path, &format!("enabled = true\nuser = {user:?}\n{rest}\n"));
    }

    fn app(&self, name: &str) -> App {
        search::load_app(&self.layout, &name.parse().unwrap()).unwrap()
    }

    fn plan(&self, admitted: &[&str]) -> Result<Plan, Error> {
        self.plan_of("cinder", admitted)
    }

    fn plan_of(&self, app: &str, admitted: &[&str]) -> Result<Plan, Error> {
        self.plan_walking(app, (admitted, Walk::All))
    }

    fn plan_walking(&self, app: &str, (admitted, walk): (&[&str], Walk)) -> Result<Plan, Error> {
        let admitted: Vec<_> = admitted.iter().map(|tag| venv(app, tag)).collect();
        let app = self.app(app);
        plan_for((&self.layout, &app), (&admitted, walk), || self.installed(&app))
    }

    fn installed(&self, app: &App) -> Result<Sudo, Error> {
        self.sudo.clone().ok_or_else(|| Error::NoSudo {
            app: app.name.clone(),
            missing: "/usr/sbin/visudo".into(),
        })
    }

    fn write(&self, admitted: &[&str]) -> Change {
        self.plan(admitted).unwrap().apply().unwrap()
    }

    fn refusal(&self, code: &str) -> String {
        let before = self.state();
        let error = self.plan(&["1"]).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        // Where nothing has rights, all is new.
        let new = self.plan_walking("cinder", (&["1"], Walk::New)).unwrap_err();
        assert_eq!(new.code(), code, "{new}");
        assert_eq!(self.state(), before, "nothing is changed by a refusal");
        venvd_fs::report(&error)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// All that venvd-policy may write, and whatever else came to lie there.
    fn state(&self) -> Vec<(String, String, u32)> {
        let mut files = Vec::new();
        for directory in ["etc/sudoers.d", "etc/cinder"] {
            for entry in fs::read_dir(self.at(directory)).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::symlink_metadata(&path).unwrap().mode();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                files.push((name, fs::read_to_string(&path).unwrap_or_default(), mode));
            }
        }
        files.sort();
        files
    }
}

fn venv(app: &str, tag: &str) -> VenvPath {
    VenvPath::local(&Layout::new(Root::host()), format!("{app}:{tag}").parse().unwrap())
}

fn bin(tag: &str) -> String {
    format!("/var/lib/venvd/venvs/cinder/{tag}/bin")
}

/// Whichever is in front, in the order of their names.
fn rules(tags: &[&str]) -> String {
    let tags = BTreeSet::from_iter(tags);
    let mut text = String::new();
    for command in [STAR, DAEMON] {
        for tag in &tags {
            text += &format!("cinder ALL=(root) NOPASSWD: NOSETENV: {}/{command}\n", bin(tag));
        }
    }
    with_header("from the definition of cinder", &text)
}

fn path_line(bins: &[String]) -> String {
    with_header(
        "from the definitions of all apps of cinder",
        &format!("Defaults:cinder secure_path=\"{}:{SYSTEM}\"\n", bins.join(":")),
    )
}

#[test]
fn follows_an_activation_and_goes_without_a_trace() {
    let host = host();
    let original = host.state();
    for admitted in [&["1"][..], &["1", "2"], &["2", "1"], &["2"]] {
        assert_eq!(host.write(admitted), Change::Changed);
        assert_eq!(host.write(admitted), Change::Unchanged);
        let bins: Vec<String> = admitted.iter().map(|tag| bin(tag)).collect();
        assert_eq!(host.read("etc/sudoers.d/venvd-cinder").unwrap(), rules(admitted));
        assert_eq!(host.read("etc/sudoers.d/venvd_path-cinder").unwrap(), path_line(&bins));
        let expected = CONF.replace("exec_dirs=", &format!("exec_dirs={},", bins.join(",")));
        assert_eq!(host.read("etc/cinder/rootwrap.conf").unwrap(), expected);
        assert_eq!(host.state().len(), original.len() + 2, "no temporary file stays");
    }
    assert_eq!(host.write(&[]), Change::Changed);
    assert_eq!(host.state(), original);
    assert_eq!(host.write(&[]), Change::Unchanged);
}

#[test]
fn not_each_file_is_looked_at_of_a_venv_that_has_rights() {
    let host = host();
    host.write(&["1"]);
    host.chmod("var/lib/venvd/venvs/cinder/1/lib/python3/os.py", 0o777);
    assert_eq!(host.plan(&["1", "2"]).unwrap_err().code(), "policy-unsafe-path");
    let plan = host.plan_walking("cinder", (&["1", "2"], Walk::New)).unwrap();
    assert_eq!(plan.apply().unwrap(), Change::Changed);
    host.program("var/lib/venvd/venvs/cinder/3/bin/cinder-rootwrap");
    host.put("var/lib/venvd/venvs/cinder/3/lib/python3/os.py", "");
    host.chmod("var/lib/venvd/venvs/cinder/3/lib/python3/os.py", 0o666);
    let error = host.plan_walking("cinder", (&["3", "2"], Walk::New)).unwrap_err();
    assert_eq!(error.code(), "policy-unsafe-path");
    // What somebody wrote there says nothing of what was looked at.
    let path = "etc/sudoers.d/venvd-cinder";
    let edited = host.read(path).unwrap() + "# mine\n";
    host.chmod(path, 0o640);
    host.put(path, &edited);
    let error = host.plan_walking("cinder", (&["1", "2"], Walk::New)).unwrap_err();
    assert_eq!(error.code(), "policy-unsafe-path");
}

#[test]
fn files_have_the_right_mode_and_owner() {
    let host = host();
    host.chmod("etc/cinder/rootwrap.conf", 0o640);
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        chown(host.at("etc/cinder/rootwrap.conf"), Some(0), Some(4242)).unwrap();
    }
    host.write(&["1"]);
    for name in ["venvd-cinder", "venvd_path-cinder"] {
        let path = format!("etc/sudoers.d/{name}");
        assert_eq!(fs::metadata(host.at(&path)).unwrap().mode() & 0o7777, 0o440, "{name}");
        host.chmod(&path, 0o644);
    }
    assert_eq!(host.write(&["1"]), Change::Changed, "a wrong mode is put right");
    assert_eq!(host.write(&["1"]), Change::Unchanged);
    let conf = fs::metadata(host.at("etc/cinder/rootwrap.conf")).unwrap();
    assert_eq!(conf.mode() & 0o7777, 0o640);
    if is_root {
        assert_eq!((conf.uid(), conf.gid()), (0, 4242));
    }
}

#[test]
fn a_rule_comes_first_and_goes_last() {
    let host = host();
    let kinds = |plan: &Plan| plan.edits().iter().map(|edit| edit.kind).collect::<Vec<_>>();
    let plan = host.plan(&["1"]).unwrap();
    assert_eq!(kinds(&plan), [Kind::Rules, Kind::Rootwrap, Kind::SecurePath]);
    assert!(matches!(plan.warnings(), [Warning::OpenEnded { .. }]));
    plan.apply().unwrap();
    host.write(&["1", "2"]);
    for fewer in [&["2"][..], &[]] {
        let plan = host.plan(fewer).unwrap();
        assert_eq!(kinds(&plan), [Kind::SecurePath, Kind::Rootwrap, Kind::Rules]);
    }
}

#[test]
fn apps_of_one_user_share_their_secure_path() {
    let host = host();
    let commands = "[sudo]\ncommands = [\"x-rootwrap /etc/x.conf\"]";
    for (app, user, rest) in [
        ("backup", "cinder", commands),
        ("zeta", "cinder", commands),
        ("other", "other", commands),
        ("nosudo", "cinder", ""),
        ("off", "cinder", &format!("{commands}\n")),
        ("gone", "cinder", commands),
        ("uncommitted", "cinder", commands),
    ] {
        host.define(app, user, rest);
        if app != "uncommitted" {
            links::set(
                &host.layout,
                Link::Committed,
                &app.parse().unwrap(),
                Some(&venv(app, "7")),
            )
            .unwrap();
        }
        if app != "gone" {
            host.program(&format!("var/lib/venvd/venvs/{app}/7/bin/x-rootwrap"));
        }
    }
    host.put("etc/venvd/apps/off.toml.d/90-enabled.toml", "enabled = false\n");
    let of = |app: &str| format!("/var/lib/venvd/venvs/{app}/7/bin");
    let file = "etc/sudoers.d/venvd_path-cinder";

    let plan = host.plan(&["2", "1"]).unwrap();
    assert!(
        plan.warnings()
            .iter()
            .any(|w| matches!(w, Warning::LeftOut { app, .. } if app.as_str() == "gone"))
    );
    plan.apply().unwrap();
    let all = path_line(&[of("backup"), bin("2"), bin("1"), of("zeta")]);
    assert_eq!(host.read(file).unwrap(), all);

    // A definition that can't be read any more keeps its place.
    host.put("etc/venvd/apps/zeta.toml", "nonsense = 1\n");
    assert_eq!(host.write(&["2", "1"]), Change::Unchanged);

    host.plan_of("backup", &[]).unwrap().apply().unwrap();
    links::set(
        &host.layout,
        Link::Committed,
        &"cinder".parse().unwrap(),
        Some(&venv("cinder", "2")),
    )
    .unwrap();
    host.plan_of("backup", &[]).unwrap().apply().unwrap();
    assert_eq!(
        host.read(file).unwrap(),
        path_line(&[bin("2"), of("zeta")]),
        "without backup, by cinder's link"
    );

    host.write(&[]);
    assert_eq!(
        host.read(file).unwrap(),
        path_line(&[of("backup"), of("zeta")]),
        "backup is still enabled"
    );
}

#[test]
fn refuses_what_others_can_write() {
    for path in [
        "etc",
        "etc/cinder",
        "etc/cinder/rootwrap.conf",
        "etc/cinder/rootwrap.d",
        "etc/cinder/rootwrap.d/volume.filters",
        "etc/sudoers.d",
        "var/lib/venvd/venvs/cinder",
        "var/lib/venvd/venvs/cinder/1/bin",
        "var/lib/venvd/venvs/cinder/1/bin/cinder-rootwrap",
        "var/lib/venvd/venvs/cinder/1/bin/python3",
        "var/lib/venvd/venvs/cinder/1/lib/deep/module.py",
    ] {
        let host = host();
        host.put("var/lib/venvd/venvs/cinder/1/lib/deep/module.py", "");
        if path != "etc" {
            host.chmod(path, 0o777);
            let report = host.refusal("policy-unsafe-path");
            assert!(report.contains(&format!("/{path}")), "{path}: {report}");
            host.chmod(path, 0o755);
        }
        if nix::unistd::geteuid().is_root() && path != "etc" {
            chown(host.at(path), Some(4242), None).unwrap();
            host.refusal("policy-unsafe-path");
        }
    }
}

#[test]
fn refuses_a_missing_filter_directory_that_others_could_make() {
    let host = host();
    host.plan(&["1"]).unwrap();
    fs::create_dir_all(host.at("usr/share/cinder")).unwrap();
    host.chmod("usr/share/cinder", 0o777);
    host.refusal("policy-unsafe-path");
}

#[test]
fn refuses_relative_and_blank_entries() {
    for (from, to) in [
        ("exec_dirs=/sbin,", "exec_dirs=/sbin, "),
        ("exec_dirs=/sbin,", "exec_dirs=sbin,"),
        ("exec_dirs=/sbin,", "exec_dirs=/sbin,,"),
        ("exec_dirs=/sbin,", "exec_dirs=/sbin,\n  "),
        ("exec_dirs=/sbin,/usr/bin", "exec_dirs="),
        ("rootwrap.d,", "rootwrap.d, "),
    ] {
        let host = host();
        host.put("etc/cinder/rootwrap.conf", &CONF.replace(from, to));
        assert!(host.refusal("policy-unsafe-path").contains("working directory"));
    }
}

#[test]
fn refuses_programs_that_hide_the_systems() {
    let host = host();
    host.program("var/lib/venvd/venvs/cinder/1/bin/lvs");
    let report = host.refusal("policy-shadow");
    assert!(
        report.contains("/sbin/lvs") && report.contains("shadow = [\"lvs\"]"),
        "{report}"
    );
    host.program("usr/bin/privsep-helper");
    host.program("usr/bin/cinder-rootwrap");
    host.chmod("var/lib/venvd/venvs/cinder/1/bin/lvs", 0o644);
    host.plan(&["1"]).expect("named in shadow or [sudo], or not executable");
    let conf = CONF.replace("exec_dirs=/sbin,/usr/bin\n", "");
    host.put("etc/cinder/rootwrap.conf", &conf);
    host.plan(&["1"]).expect("PATH has no /sbin here");
    host.program("var/lib/venvd/venvs/cinder/1/bin/id");
    host.program("usr/bin/id");
    host.refusal("policy-shadow");
}

#[test]
fn refuses_links_out_of_the_venv() {
    let host = host();
    let program = host.at("var/lib/venvd/venvs/cinder/1/bin/cinder-rootwrap");
    fs::remove_file(&program).unwrap();
    symlink("/usr/bin/python3", &program).unwrap();
    assert!(host.refusal("policy-unsafe-path").contains("outside of its venv"));
}

#[test]
fn a_program_may_be_missing_in_one_venv_of_two() {
    let host = host();
    fs::remove_file(host.at("var/lib/venvd/venvs/cinder/1/bin/cinder-rootwrap-daemon")).unwrap();
    host.refusal("policy-missing-program");
    host.write(&["2", "1"]);
    let text = host.read("etc/sudoers.d/venvd-cinder").unwrap();
    assert_eq!(text.matches("cinder-rootwrap-daemon").count(), 1, "{text}");
}

#[test]
fn refuses_a_star_that_sudo_would_not_honour() {
    let mut host = host();
    host.sudo = Some(sudo(Family::Rust, [0, 2, 5]));
    let report = host.refusal("policy-unsupported");
    assert!(
        report.contains("0.2.5") && report.contains("cinder-rootwrap-daemon"),
        "{report}"
    );
    host.sudo = Some(sudo(Family::Rust, [0, 2, 13]));
    host.plan(&["1"]).unwrap();
}

#[test]
fn sudo_is_needed_only_for_rules() {
    let mut host = host();
    host.write(&["1"]);
    host.sudo = None;
    host.refusal("policy-no-sudo");
    host.write(&[]);
    host.define(
        "cinder",
        "cinder",
        "[rootwrap]\nconfig = \"/etc/cinder/rootwrap.conf\"\n",
    );
    host.write(&["1"]);
    assert!(host.read("etc/cinder/rootwrap.conf").unwrap().contains(&bin("1")));
    assert_eq!(host.read("etc/sudoers.d/venvd-cinder"), None);
}

#[test]
fn without_exec_dirs_the_path_of_sudo_has_to_lead_to_the_venv() {
    let host = host();
    let conf = CONF.replace("exec_dirs", "#exec_dirs");
    host.put("etc/cinder/rootwrap.conf", &conf);
    host.write(&["1"]);
    assert_eq!(host.read("etc/cinder/rootwrap.conf").unwrap(), conf);
    host.define(
        "cinder",
        "cinder",
        "[rootwrap]\nconfig = \"/etc/cinder/rootwrap.conf\"\n",
    );
    host.refusal("policy-rootwrap-conf");
    fs::remove_file(host.at("etc/cinder/rootwrap.conf")).unwrap();
    host.refusal("policy-rootwrap-conf");
}

#[test]
fn refuses_another_apps_venv() {
    let host = host();
    let app = host.app("cinder");
    let error = plan_for((&host.layout, &app), (&[venv("nova", "1")], Walk::All), || {
        host.installed(&app)
    })
    .unwrap_err();
    assert_eq!(error.code(), "policy-invalid");
}

#[test]
fn what_visudo_refuses_is_never_in_place() {
    let mut host = host();
    let before = host.state();
    let visudo = |host: &mut Host, script: &str| {
        host.put("visudo", &format!("#!/bin/sh\n{script}\n"));
        host.chmod("visudo", 0o755);
        let path = host.directory.path().join("visudo");
        host.sudo = host.sudo.take().map(|sudo| Sudo { visudo: path, ..sudo });
    };
    // The system's own file is broken, with and without ours: then it is not our fault.
    visudo(
        &mut host,
        "grep -q 'etc/sudoers$' \"$3\" || exit 0; echo 'sudoers: broken'; exit 1",
    );
    host.write(&["1"]);
    host.write(&[]);
    // It stops there, and ours are broken, too.
    visudo(
        &mut host,
        "grep -q 'etc/sudoers$' \"$3\" || echo 'ours: broken'; exit 1",
    );
    let error = host.plan(&["1"]).unwrap().apply().unwrap_err();
    assert!(error.to_string().contains("ours: broken"), "{error}");
    visudo(
        &mut host,
        "grep -q venvd-cinder \"$3\" || exit 0; echo 'bad: line 1'; exit 1",
    );
    let error = host.plan(&["1"]).unwrap().apply().unwrap_err();
    assert_eq!(error.code(), "policy-invalid");
    assert!(error.to_string().contains("bad: line 1"), "{error}");
    assert_eq!(host.state(), before);
}

#[test]
fn a_failure_half_way_puts_all_back() {
    let host = host();
    let before = host.state();
    let plan = host.plan(&["1"]).unwrap();
    // The last file can't be renamed over a directory that came in between the check and the rename.
    let visudo = host.at("visudo");
    let in_the_way = host.at("etc/sudoers.d/venvd_path-cinder");
    host.put("visudo", &format!("#!/bin/sh\nmkdir -p {}\n", in_the_way.display()));
    host.chmod("visudo", 0o755);
    let mut plan = plan;
    if let Some(sudo) = &mut plan.sudo {
        sudo.visudo = visudo;
    }
    let error = plan.apply().unwrap_err();
    // What lies in the way can't be removed either: that is said, and what came before it ...
    assert_eq!(error.code(), "policy-half-written", "{error}");
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(host.state(), before, "... is as it was");
}

#[test]
fn a_change_since_the_planning_is_a_conflict() {
    let host = host();
    let plan = host.plan(&["1"]).unwrap();
    host.put("etc/cinder/rootwrap.conf", &format!("{CONF}# mine\n"));
    let error = plan.apply().unwrap_err();
    assert_eq!(error.code(), "policy-conflict");
    assert!(host.read("etc/cinder/rootwrap.conf").unwrap().ends_with("# mine\n"));
    assert_eq!(host.read("etc/sudoers.d/venvd-cinder"), None);
}
