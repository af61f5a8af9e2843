//! `--unit`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::chroot::{BIN, Host};
use crate::report::has_line;

/// A host with a unit that has all that `--unit` takes over, and with the files that it names.
fn with_a_unit() -> Option<Host> {
    let host = Host::new()?;
    host.write(
        "/etc/systemd/system/nova-api.service",
        "[Service]\nUser=nova\nExecStart=/usr/bin/nova-api\nUMask=0027\nWorkingDirectory=/srv/%p\n\
         Environment=A=unit PYTHONWARNINGS=error \"B=%t/x y\" C=%i PATH=/opt/nova:/usr/bin\n\
         EnvironmentFile=/etc/default/nova\nEnvironmentFile=-/etc/default/not-there\nEnvironmentFile=/etc/nova/*.env\n\
         LimitNOFILE=123:456\nLimitCORE=0\n",
    );
    host.write(
        "/etc/systemd/system/nova-api.service.d/x.conf",
        "[Service]\nUnsetEnvironment=LANG D=1 D=2\nEnvironment=D=2\n",
    );
    host.write("/etc/default/nova", "# c\nA='from\nfile' \nSECRET=s\n");
    host.write("/etc/nova/1.env", "E=1\nSHARED=1\n");
    host.write("/etc/nova/2.env", "SHARED=2\n");
    fs::set_permissions(host.path("/etc/default/nova"), fs::Permissions::from_mode(0o640)).unwrap();
    Some(host)
}

const LIMITS: &str = "sed -n \"/open files/p;/core file/p\" /proc/self/limits";

#[test]
fn a_unit_brings_its_settings_along() {
    let Some(host) = with_a_unit() else { return };
    fs::create_dir_all(host.path("/srv/nova-api")).unwrap();
    let report = host.ok("cd /usr; A=caller LANG=C PYTHONPATH=/x /venv-activate --unit=nova-api nova report");
    for line in [
        "/srv/nova-api",
        "0027",
        "A=from",
        "file",
        "B=/run/x y",
        "C=",
        "D=2",
        "E=1",
        "SHARED=2",
        "SECRET=s",
        // What an administrator gave the service is wanted.
        "PYTHONWARNINGS=error",
        "VENVD_TAG=2",
        &format!("PATH={BIN}:/opt/nova:/usr/bin"),
    ] {
        assert_eq!(has_line(&report, line), line != "D=2", "{line}: {report}");
    }
    assert!(!report.contains("LANG=") && !report.contains("PYTHONPATH"), "{report}");
    let limits = host.ok(&format!("/venv-activate --unit=nova-api.service nova -- {LIMITS}"));
    let words: Vec<Vec<&str>> = limits.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        words,
        [
            ["Max", "core", "file", "size", "0", "0", "bytes"].as_slice(),
            &["Max", "open", "files", "123", "456", "files"]
        ]
    );
    assert_eq!(host.ok("/venv-activate --unit=nova-api --cd /usr nova pwd"), "/usr\n");
}

#[test]
fn what_of_a_unit_cannot_be_had_is_told() {
    let as_root = "/venv-activate --unit=nova-api nova id";
    let as_nova = &*format!("setpriv --reuid 64060 --regid 64060 --init-groups {as_root}");
    for (before, line, reason) in [
        ("true", as_root, "can't go to \"/srv/nova-api\""),
        (
            "true",
            as_nova,
            "root can (`sudo venv-activate --unit=…`): Permission denied",
        ),
        (
            "true",
            "/venv-activate --unit=nova-apu nova id",
            "there is no unit of that name",
        ),
        (
            "chmod g+w /etc/systemd/system/nova-api.service",
            as_root,
            "can be written by others",
        ),
        (
            "chmod 600 /etc/systemd/system/nova-api.service.d/x.conf",
            as_nova,
            "x.conf: Permission denied",
        ),
        (
            "rm /etc/default/nova",
            as_root,
            "can't read its EnvironmentFile \"/etc/default/nova\": No such file",
        ),
        (
            "rm /etc/nova/*",
            as_root,
            "EnvironmentFile=/etc/nova/*.env matches no file",
        ),
        (
            "rm /etc/default/nova; mkfifo /etc/default/nova",
            as_root,
            "it is no regular file",
        ),
        (
            "printf 'A=\\377' >/etc/default/nova",
            as_root,
            "the assignment in line 1 is not UTF-8",
        ),
        (
            "ln -s /dev/null /etc/systemd/system/x.service",
            "/venv-activate --unit=x nova id",
            "it is masked by \"/etc/systemd/system/x.service\"",
        ),
        // Somebody else's hands are in what another user shall run with.
        (
            "chown nova /etc/default/nova",
            "/venv-activate --unit=nova-api --user op nova id",
            "\"/etc/default/nova\" belongs to user 64060",
        ),
        (
            "printf '[Service]\\nEnvironment=X=%%q' >/etc/systemd/system/nova-api.service.d/y.conf",
            as_root,
            "Environment=%q: what its specifiers stand for",
        ),
    ] {
        let Some(host) = with_a_unit() else { return };
        let (status, said) = host.fails(&format!("{before}; {line}"));
        assert_eq!(status, 125, "{before}; {line}: {said}");
        assert!(said.contains(reason), "{before}; {line}: {said}");
    }
    let Some(host) = with_a_unit() else { return };
    // One's own is one's own, and root may hand out what only root can write.
    host.ok(&format!(
        "mkdir -p /srv/nova-api; chown nova /etc/default/nova; {as_root}"
    ));
    host.ok("chown root /etc/default/nova; /venv-activate --unit=nova-api --user op nova id");
}
