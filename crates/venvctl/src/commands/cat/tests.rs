use std::fs;
use std::os::unix::fs::symlink;

use venvd_fs::Root;

use super::*;

fn shown(files: &[(&str, &str)], targets: &[&str]) -> Result<String, Failure> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    let layout = Layout::new(Root::at(root.path()));
    let units = units::scan(&layout);
    let mut texts = Vec::new();
    for target in targets {
        for unit in units_of(&layout, target)? {
            texts.push(read(&layout, &units, &unit)?);
        }
    }
    Ok(lines(&texts).iter().map(|line| format!("{}\n", line.text)).collect())
}

const PACKAGED: (&str, &str) = (
    "usr/lib/systemd/system/nova-api.service",
    "[Service]\nType=simple\nEnvironment=A=1 B=2\n# comment\nExecStart=/usr/bin/nova-api \\\n  --config-file x\n",
);

#[test]
fn every_file_in_order_with_what_has_no_effect() {
    let files = [
        PACKAGED,
        (
            "etc/systemd/system/nova-api.service.d/override.conf",
            "[Service]\nType=notify\nEnvironment=B=3\n",
        ),
        (
            "run/systemd/generator/nova-api.service.d/zz-venvd.conf",
            "[Service]\nExecStart=\nExecStart=/v/nova-api\n",
        ),
        (
            "etc/systemd/system/nova-api.service.d/zzz.conf",
            "[Service]\nExecStart=\nExecStart=/bin/x\n",
        ),
        ("etc/systemd/system/nova-api.service.d/hidden.conf", "-> /dev/null"),
    ];
    let want = "\
# /usr/lib/systemd/system/nova-api.service
[Service]
Type=simple
#^ no effect: /etc/systemd/system/nova-api.service.d/override.conf:2 sets Type= again
Environment=A=1 B=2
#^ B has no effect: /etc/systemd/system/nova-api.service.d/override.conf:3 sets it again
# comment
ExecStart=/usr/bin/nova-api \\
  --config-file x
#^ no effect: /run/systemd/generator/nova-api.service.d/zz-venvd.conf:2 empties ExecStart=

# /etc/systemd/system/nova-api.service.d/hidden.conf (a mask: it hides what comes after it under its name)

# /etc/systemd/system/nova-api.service.d/override.conf
[Service]
Type=notify
Environment=B=3

# /run/systemd/generator/nova-api.service.d/zz-venvd.conf (venvd's generator makes it anew at each boot and daemon-reload)
[Service]
ExecStart=
ExecStart=/v/nova-api
#^ no effect: /etc/systemd/system/nova-api.service.d/zzz.conf:2 empties ExecStart=

# /etc/systemd/system/nova-api.service.d/zzz.conf
[Service]
ExecStart=
ExecStart=/bin/x
";
    for target in ["nova-api.service", "nova-api"] {
        assert_eq!(shown(&files, &[target]).unwrap(), want);
    }
}

#[test]
fn all_lines_of_a_continuation_are_dimmed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(PACKAGED.0);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("{}ExecStart=\nExecStart=/b\n", PACKAGED.1)).unwrap();
    let layout = Layout::new(Root::at(root.path()));
    let id = UnitId::parse("nova-api.service").unwrap();
    let text = read(&layout, &units::scan(&layout), &id).unwrap();
    let lines = &text.files[0].lines;
    let dimmed: Vec<u32> = lines
        .iter()
        .filter(|line| line.no_effect)
        .map(|line| line.number)
        .collect();
    assert_eq!(dimmed, [5, 6]);
    assert_eq!(lines[5].notes, ["no effect: line 7 empties ExecStart="]);
}

#[test]
fn an_app_is_all_of_its_units() {
    let files = [
        PACKAGED,
        (
            "usr/lib/systemd/system/nova-compute.service",
            "[Service]\nExecStart=/bin/x\nnonsense\n",
        ),
        (
            "etc/venvd/apps/nova.toml",
            "[units.\"nova-api.service\"]\n[units.\"nova-compute.service\"]\n",
        ),
    ];
    let text = shown(&files, &["nova"]).unwrap();
    assert!(
        text.contains("nova-api.service\n") && text.contains("\n\n# /usr/lib/systemd/system/nova-compute"),
        "{text}"
    );
    assert!(text.contains("nonsense\n#^ systemd: missing `=`"), "{text}");
}

#[test]
fn what_is_not_loaded_says_why() {
    let masked = ("etc/systemd/system/nova-api.service", "-> /dev/null");
    let text = shown(&[PACKAGED, masked], &["nova-api"]).unwrap();
    assert!(
        text.starts_with("# nova-api.service is not loaded: masked by /etc/systemd/system/nova-api.service\n"),
        "{text}"
    );
    let broken = ("etc/systemd/system/nova-api.service", "[Service]\nExecStart=rel/x\n");
    let text = shown(&[PACKAGED, broken], &["nova-api"]).unwrap();
    assert!(
        text.contains("is not loaded: systemd can't load it: ") && text.contains("ExecStart=rel/x\n#^ "),
        "{text}"
    );
    for (target, code) in [
        ("nothing", "no-such-unit"),
        ("a/b.service", "invalid-name"),
        ("x.y", "invalid-name"),
    ] {
        assert_eq!(shown(&[PACKAGED], &[target]).unwrap_err().code, code);
    }
}

#[test]
fn lines_are_counted_as_systemd_counts_them() {
    let unit = "# a\r\n[Service]\rType=simple\nType=notify\r\nExecStart=/a\0X";
    let text = shown(&[(PACKAGED.0, unit)], &["nova-api"]).unwrap();
    let want = "# a\n[Service]\nType=simple\n#^ no effect: line 4 sets Type= again\nType=notify\nExecStart=/a\nX\n#^ ";
    assert!(text.split_once('\n').unwrap().1.starts_with(want), "{text}");
}
