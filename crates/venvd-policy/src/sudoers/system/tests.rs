use super::*;
use venvd_fs::Root;

fn of(files: &[(&str, &str)]) -> Result<String, Refused> {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let layout = Layout::new(Root::at(directory.path()));
    match secure_path(&layout, &"nova".parse().unwrap()) {
        Ok(path) => Ok(path
            .directories
            .iter()
            .map(PlainPath::as_str)
            .collect::<Vec<_>>()
            .join(":")),
        Err(Problem::Refused(refused)) => Err(refused),
        Err(Problem::Io(error)) => panic!("{error}"),
    }
}

#[test]
fn each_family_begins_with_its_own_file() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let main = |family| main_of(&layout, family).to_str().unwrap();
    assert_eq!((main(Family::C), main(Family::Rust)), ("/etc/sudoers", "/etc/sudoers"));
    fs::write(directory.path().join("etc/sudoers-rs"), "").unwrap();
    assert_eq!(
        (main(Family::C), main(Family::Rust)),
        ("/etc/sudoers", "/etc/sudoers-rs")
    );
    let both = [
        ("etc/sudoers", "Defaults secure_path=/c\n"),
        ("etc/sudoers-rs", "Defaults secure_path=/rs\n"),
    ];
    assert_eq!(of(&both).unwrap(), "/rs");
    assert_eq!(of(&both[..1]).unwrap(), "/c");
}

#[test]
fn finds_what_holds_for_the_user() {
    let include = "@includedir /etc/sudoers.d\n";
    for (files, expected) in [
        (vec![], USUAL),
        (vec![("etc/sudoers", "root ALL=(ALL) ALL\n")], USUAL),
        (vec![("etc/sudoers", "Defaults secure_path=\"/a:/b\"\n")], "/a:/b"),
        (vec![("etc/sudoers", "Defaults\tsecure_path = /a:/b\n")], "/a:/b"),
        (
            vec![("etc/sudoers", "Defaults env_reset, secure_path=/a\\:/b, use_pty\n")],
            "/a:/b",
        ),
        (
            vec![(
                "etc/sudoers",
                "Defaults secure_path=\\\n\"/a\"\nDefaults secure_path=/b # last\n",
            )],
            "/b",
        ),
        (vec![("etc/sudoers", "# Defaults secure_path=\"/a\"\n")], USUAL),
        (
            vec![("etc/sudoers", "Defaults secure_path=\"/a\"\nDefaults !secure_path\n")],
            USUAL,
        ),
        (vec![("etc/sudoers", "Defaults:glance secure_path=\"/a\"\n")], USUAL),
        (vec![("etc/sudoers", "Defaults:glance,nova secure_path=\"/a\"\n")], "/a"),
        (
            vec![(
                "etc/sudoers",
                "Defaults@host secure_path=\"/a\"\nDefaultsx secure_path=\"/b\"\n",
            )],
            USUAL,
        ),
        (
            vec![
                ("etc/sudoers", include),
                ("etc/sudoers.d/x", "Defaults secure_path=/x\n"),
            ],
            "/x",
        ),
        (
            vec![
                ("etc/sudoers", include),
                ("etc/sudoers.d/x.y", "Defaults secure_path=/x\n"),
            ],
            USUAL,
        ),
        (
            vec![
                ("etc/sudoers", include),
                ("etc/sudoers.d/x~", "Defaults secure_path=/x\n"),
            ],
            USUAL,
        ),
        (
            vec![
                ("etc/sudoers", include),
                ("etc/sudoers.d/venvd_path-nova", "Defaults secure_path=/x\n"),
            ],
            USUAL,
        ),
        (
            vec![
                ("etc/sudoers", "#includedir sudoers.d\n@include nowhere\n"),
                ("etc/sudoers.d/b", "Defaults secure_path=/b\n"),
                ("etc/sudoers.d/a", "Defaults secure_path=/a\n"),
            ],
            "/b",
        ),
        (
            vec![("etc/sudoers", "@include /etc/sudoers\nDefaults secure_path=/a\n")],
            "/a",
        ),
        (
            vec![("etc/sudoers", "Defaults: glance , nova secure_path=\"/a\"\n")],
            "/a",
        ),
        (vec![("etc/sudoers", "Defaults:!nova secure_path=\"/a\"\n")], USUAL),
        (vec![("etc/sudoers", "Defaults:ALL,!nova secure_path=\"/a\"\n")], USUAL),
        (
            vec![(
                "etc/sudoers",
                "Defaults:OPS secure_path=/a\nUser_Alias OPS = STACK, bob\nUser_Alias STACK = nova\n",
            )],
            "/a",
        ),
        (
            vec![
                (
                    "etc/sudoers",
                    "Defaults:%stack secure_path=/a\nDefaults:#64060 secure_path=/b\n",
                ),
                ("etc/passwd", "nova:x:64060:5::/:/bin/sh\n"),
                ("etc/group", "stack:x:77:glance,nova\n"),
            ],
            "/b",
        ),
        (
            vec![
                (
                    "etc/sudoers",
                    "Defaults:%five secure_path=/a\nDefaults:%other secure_path=/b\n",
                ),
                ("etc/passwd", "nova:x:64060:5::/:/bin/sh\n"),
                ("etc/group", "five:x:5:\nother:x:6:glance\n"),
            ],
            "/a",
        ),
        (
            vec![
                (
                    "etc/sudoers",
                    "@include /etc/sudoers.%h\nDefaults@vm secure_path=/a\nDefaults@db secure_path=/b\n",
                ),
                ("etc/sudoers.vm", "Defaults:nova secure_path=/x\n"),
                ("etc/hostname", "vm.example.org\n"),
            ],
            "/a",
        ),
    ] {
        assert_eq!(of(&files).unwrap(), expected, "{files:?}");
    }
}

#[test]
fn refuses_what_could_not_be_repeated() {
    for value in ["\"/a b\"", "/a:relative", "\"/a:/b/../c\"", "/a*"] {
        of(&[("etc/sudoers", &format!("Defaults secure_path={value}\n"))]).unwrap_err();
    }
}

#[test]
fn what_only_sudo_could_tell_is_said() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("etc")).unwrap();
    let text = "Defaults:+team secure_path=/a\nDefaults secure_path+=/b\nDefaults@192.0.2.1 secure_path=/c\n";
    fs::write(directory.path().join("etc/sudoers"), text).unwrap();
    let path = secure_path(&Layout::new(Root::at(directory.path())), &"nova".parse().unwrap()).unwrap();
    assert_eq!(path.unclear, text.lines().collect::<Vec<_>>());
    assert_eq!(path.directories.len(), 6);
}

#[test]
fn what_sudo_would_not_trust_is_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("etc")).unwrap();
    let file = directory.path().join("etc/sudoers");
    fs::write(&file, "Defaults secure_path=/evil\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let path = secure_path(&Layout::new(Root::at(directory.path())), &"nova".parse().unwrap()).unwrap();
    assert_eq!(path.directories.len(), 6);
}

/// What `cvtsudoers` reads is what we read; only where it is installed (the machine tests have it).
#[test]
fn reads_as_cvtsudoers_does() {
    let program = Path::new("/usr/bin/cvtsudoers");
    if !program.exists() {
        eprintln!("SKIPPED: there is no /usr/bin/cvtsudoers");
        return;
    }
    for (line, expected) in [
        ("Defaults secure_path=\"/a:/b\"", Some("/a:/b")),
        ("Defaults secure_path=/a\\:/b", Some("/a:/b")),
        ("Defaults env_reset,secure_path = /a , use_pty", Some("/a")),
        ("Defaults env_reset # , secure_path=/a", None),
        ("Defaults secure_path=\"/a#b\"", Some("/a#b")),
        ("Defaults secure_path=/a#b", Some("/a")),
        ("Defaults !secure_path", None),
        ("Defaults:nova secure_path=/a", Some("/a")),
        ("Defaults: nova, glance secure_path=/a", Some("/a")),
        ("Defaults:#64060 ,nova secure_path=/a", Some("/a")),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sudoers");
        fs::write(&file, format!("{line}\n")).unwrap();
        let asked = std::process::Command::new(program)
            .args(["-f", "json"])
            .arg(&file)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
        let theirs = json["Defaults"][0]["Options"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|option| option["secure_path"].as_str());
        let ours = lines::defaults(line).and_then(|(_, setting)| match setting {
            Setting::Set(value) => Some(value),
            _ => None,
        });
        assert_eq!((theirs, ours.as_deref()), (expected, expected), "{line}: {json}");
    }
}
