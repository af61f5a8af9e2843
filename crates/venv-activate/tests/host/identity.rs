//! Who a command runs as, and what of root is left to it.

use crate::chroot::{BIN, Host, NOVA};
use crate::report::{field, has_line};

#[test]
fn root_becomes_the_service_user_for_good() {
    let Some(host) = Host::new() else { return };
    // Whatever root's shell is like: open descriptors, a strict umask, inheritable capabilities, groups, a trap.
    let report = host.ok(
        "cd /root; umask 077; exec 7</etc/passwd 9>/dev/null; export LD_PRELOAD=/x BASH_ENV=/x; \
         exec setpriv --inh-caps=+chown,+setuid --ambient-caps=+chown --groups 0,4 env SUDO_USER=x /venv-activate nova report 2>/dev/null",
    );
    let id = NOVA.to_string();
    for ids in ["Uid", "Gid"] {
        assert_eq!(field(&report, ids), [id.as_str(); 4].join(" "), "{ids}");
    }
    assert_eq!(field(&report, "Groups"), "64060 64100");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&report, set), "0000000000000000", "{set}");
    }
    // sudo must still work in what runs here.
    assert_ne!(field(&report, "CapBnd"), "0000000000000000");
    assert_eq!(field(&report, "NoNewPrivs"), "0");
    // SIGPIPE is not left ignored, as Rust's own start does it.
    let ignored = u64::from_str_radix(&field(&report, "SigIgn"), 16).unwrap();
    assert_eq!(ignored & (1 << (13 - 1)), 0, "{ignored:x}");
    assert_eq!(field(&report, "SigBlk"), "0000000000000000");
    assert!(
        !report.contains("/etc/passwd"),
        "a descriptor of root's is still open: {report}"
    );
    for line in [
        // root's own directory is not nova's.
        "/",
        "0022",
        "HOME=/var/lib/nova",
        "USER=nova",
        "LOGNAME=nova",
        "SHELL=/bin/bash",
        "VENVD_APP=nova",
        "VENVD_TAG=2",
        "VIRTUAL_ENV=/var/lib/venvd/venvs/nova/2",
        &format!("PATH={BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ] {
        assert!(has_line(&report, line), "{line} is not in {report}");
    }
    for name in ["LD_PRELOAD", "BASH_ENV", "SUDO_USER"] {
        assert!(!report.contains(name), "{name} is in {report}");
    }
}

#[test]
fn who_may_do_what() {
    let Some(host) = Host::new() else { return };
    let op = "setpriv --reuid 1000 --regid 1000 --clear-groups";
    let nova = "setpriv --reuid 64060 --regid 64060 --init-groups";
    assert_eq!(host.ok("/venv-activate nova id -u"), "64060\n");
    assert_eq!(host.ok(&format!("{nova} /venv-activate nova id -u")), "64060\n");
    assert_eq!(
        host.ok(&format!("{nova} /venv-activate --user nova nova id -u")),
        "64060\n"
    );
    assert_eq!(host.ok("/venv-activate --user op plain id -u"), "1000\n");
    assert_eq!(host.ok(&format!("{op} /venv-activate --as-self nova id -u")), "1000\n");
    for (line, reason) in [
        (
            format!("{op} /venv-activate nova id"),
            "`sudo -u nova venv-activate nova …`",
        ),
        (
            format!("{op} /venv-activate --user nova nova id"),
            "only root can become nova",
        ),
        (
            format!("{op} /venv-activate --user root nova id"),
            "nothing in a venv is run as root",
        ),
        (
            "/venv-activate --as-self nova id".to_owned(),
            "nothing in a venv is run as root",
        ),
        (
            "/venv-activate --user root nova id".to_owned(),
            "nothing in a venv is run as root",
        ),
        (
            "/venv-activate --user nobody-here nova id".to_owned(),
            "there is no user nobody-here",
        ),
        ("/venv-activate plain id".to_owned(), "has no `user`"),
        (
            "chmod u+s /venv-activate; setpriv --reuid 1000 /venv-activate nova id".to_owned(),
            "must not be installed setuid",
        ),
    ] {
        let (status, said) = host.fails(&line);
        assert_eq!(status, 125, "{line}: {said}");
        assert!(said.contains(reason), "{line}: {said}");
    }
}
