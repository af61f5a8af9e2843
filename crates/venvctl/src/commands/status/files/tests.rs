use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use venvd_app::search;
use venvd_fs::Root;

use super::*;
use crate::units;

const UNIT: &str = "[Service]\nEnvironment=PATH=/opt/bin\nExecStartPre=/bin/true\nExecStart=/usr/bin/nova-api --a\n";
const OURS: &str = "[Unit]\nSourcePath=/etc/venvd/apps/nova.toml\n[Service]\n\
                    Environment=VIRTUAL_ENV=/var/lib/venvd/venvs/nova/2\nEnvironment=VENVD_TAG=2\n\
                    Environment=PATH=/var/lib/venvd/venvs/nova/2/bin:/opt/bin\nExecStart=\n\
                    ExecStart=/var/lib/venvd/venvs/nova/2/bin/nova-api --a\n";

/// A host below a directory of its own, with the unit of an app and, if there is text for it, the generator's drop-in.
struct Host(tempfile::TempDir);

impl Host {
    fn new(definition: &str, ours: Option<&str>) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.put("etc/venvd/apps/nova.toml", definition);
        host.put("usr/lib/systemd/system/nova-api.service", UNIT);
        if let Some(text) = ours {
            host.put("run/systemd/generator/nova-api.service.d/zz-venvd.conf", text);
        }
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn drop_in(&self, name: &str, text: &str) {
        self.put(&format!("etc/systemd/system/nova-api.service.d/{name}"), text);
    }

    fn read(&self) -> Files {
        let layout = Layout::new(Root::at(self.0.path()));
        let name = "nova".parse().unwrap();
        let app = search::load_app(&layout, &name).unwrap();
        let (unit, declared) = app.units.iter().next().unwrap();
        let reader = Reader {
            layout: &layout,
            units: &units::scan(&layout),
            report: &json!({"apps": {"nova": {"units": {unit.as_str(): {
                "state": "spliced", "warnings": ["/x:1 sets ExecStart after zz-venvd.conf, and has the last word", "odd"]
            }}}}}),
        };
        let declared = Declared {
            app: &name,
            name: unit.as_str(),
            kind: &declared.kind,
        };
        reader.read(declared, unit.as_str())
    }

    fn shadows(&self) -> Vec<String> {
        let shadows = self.read().shadowed_by;
        shadows
            .iter()
            .map(|shadow| {
                let name = shadow.path.file_name().unwrap().to_str().unwrap();
                format!("{name}:{} {}", shadow.line, shadow.what)
            })
            .collect()
    }
}

const SPLICED: &str = "enabled = true\n[units.\"nova-api.service\"]\n";

#[test]
fn the_next_start_runs_what_the_drop_in_says() {
    let files = Host::new(SPLICED, Some(OURS)).read();
    assert_eq!((files.load, files.tag.as_deref()), (Load::Loaded, Some("2")));
    assert_eq!(files.exec_start[0].line, 8);
    assert!(
        files.shadowed_by.is_empty() && files.taken_into_account.is_empty(),
        "{files:?}"
    );
    assert_eq!(files.warnings, ["odd"]);
    let files = Host::new(SPLICED, None).read();
    assert_eq!((files.tag, files.generated), (None, None));
    assert_eq!(files.exec_start[0].text, "ExecStart=/usr/bin/nova-api --a");
}

#[test]
fn what_applies_before_ours_is_taken_into_account() {
    let host = Host::new(SPLICED, Some(OURS));
    host.drop_in(
        "override.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/nova-api --b\n",
    );
    host.drop_in("limits.conf", "[Service]\nLimitNOFILE=1\n");
    let files = host.read();
    assert_eq!(
        files.taken_into_account,
        [Path::new("/etc/systemd/system/nova-api.service.d/override.conf")]
    );
    assert_eq!(files.tag.as_deref(), Some("2"));
}

#[test]
fn what_applies_after_ours_shadows_it_by_file_and_line() {
    for (text, want) in [
        (
            "[Service]\nExecStart=\nExecStart=/usr/bin/nova-api --b\n",
            &["zzz.conf:2 empties ExecStart= after venvd has set it"][..],
        ),
        ("[Service]\nEnvironment=A=1\nNice=5\n", &[]),
        (
            "[Service]\n# x\nEnvironment=\n",
            &["zzz.conf:3 empties Environment= after venvd has set it"],
        ),
        (
            "[Service]\nEnvironment=A=1 PATH=/bin\n",
            &["zzz.conf:2 sets A, PATH after venvd has"],
        ),
        (
            "[Service]\nExecStart=/usr/bin/nova-api --b\n",
            &["zzz.conf:2 adds a line to ExecStart= after venvd has replaced the list"],
        ),
        ("[Service]\nExecStartPre=/bin/false\n", &[]),
        (
            "[Service]\nUnsetEnvironment=LANG PATH\n",
            &["zzz.conf:2 takes PATH away from the service"],
        ),
    ] {
        let host = Host::new(SPLICED, Some(OURS));
        host.drop_in("zzz.conf", text);
        assert_eq!(host.shadows(), want, "{text}");
        let wanted = if text.contains("ExecStart=\n") { None } else { Some("2") };
        assert_eq!(host.read().tag.as_deref(), wanted, "{text}");
    }
    // Also where it applies before: it is asked at the end.
    let host = Host::new(SPLICED, Some(OURS));
    host.drop_in("a.conf", "[Service]\nUnsetEnvironment=VENVD_TAG\n");
    assert_eq!(host.shadows(), ["a.conf:2 takes VENVD_TAG away from the service"]);
}

#[test]
fn masks_and_files_of_the_same_name() {
    let host = Host::new(SPLICED, Some(OURS));
    let directory = host.0.path().join("etc/systemd/system/nova-api.service.d");
    fs::create_dir_all(&directory).unwrap();
    symlink("/dev/null", directory.join("zz-venvd.conf")).unwrap();
    let files = host.read();
    assert_eq!(files.shadowed_by[0].kind, ShadowKind::SameName);
    assert_eq!((files.tag, files.generated), (None, None));
    symlink("/dev/null", host.0.path().join("etc/systemd/system/nova-api.service")).unwrap();
    let files = host.read();
    assert_eq!(
        (files.load, files.shadowed_by[0].kind),
        (Load::Masked, ShadowKind::Mask)
    );
}

#[test]
fn a_whole_unit_may_be_replaced() {
    const WHOLE: &str = "enabled = true\n[units.\"nova-worker.service\"]\nwhole = true\nexec = \"nova-worker\"\n";
    let host = Host::new(WHOLE, None);
    let text = "[Service]\nExecStart=/var/lib/venvd/venvs/nova/2/bin/nova-worker\n";
    host.put("run/systemd/generator/nova-worker.service", text);
    let files = host.read();
    assert_eq!(files.tag.as_deref(), Some("2"));
    assert_eq!(
        files.generated.as_deref(),
        Some(Path::new("/run/systemd/generator/nova-worker.service"))
    );
    host.put(
        "etc/systemd/system/nova-worker.service",
        "[Service]\nExecStart=/bin/x\n",
    );
    let files = host.read();
    assert_eq!((files.tag, files.shadowed_by[0].kind), (None, ShadowKind::UnitFile));
}

#[test]
fn servers_from_outside_the_venv_are_told_by_their_variables() {
    let ours = "[Service]\nEnvironment=VIRTUAL_ENV=/usr/lib/venvd/venvs/nova/2+1\nExecStart=\nExecStart=/usr/bin/uwsgi --ini a\n";
    let exec = "[units.\"nova-api.service\"]\nexec = \"/usr/bin/uwsgi --ini a\"\n";
    let host = Host::new(exec, Some(&ours.replace("2+1", "2-1")));
    assert_eq!(host.read().tag.as_deref(), Some("2-1"));
    host.drop_in("zzz.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/uwsgi\n");
    assert_eq!(host.read().tag, None);
}

#[test]
fn a_broken_unit_says_where() {
    let host = Host::new(SPLICED, None);
    host.put("etc/systemd/system/nova-api.service", "[Service]\nExecStart=rel/x\n");
    let files = host.read();
    assert_eq!(files.load, Load::Broken);
    assert!(
        files.ignored[0].starts_with("/etc/systemd/system/nova-api.service:2"),
        "{files:?}"
    );
    host.put("etc/systemd/system/nova-api.service", "");
    assert_eq!(host.read().load, Load::Masked);
}
