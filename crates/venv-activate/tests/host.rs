//! The program itself, on a small host of its own: a chroot with one app, in a mount namespace that ends with the test.
//!
//! Needs root and namespaces, as the machine tests do; without root there is nobody to become somebody else.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

const NOVA: u32 = 64060;
const BIN: &str = "/var/lib/venvd/venvs/nova/2/bin";

struct Host(tempfile::TempDir);

impl Host {
    /// Makes a host with the venvs nova:1 and nova:2, the latter in force; `None` when this is not root.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let host = Self(tempfile::tempdir().unwrap());
        // A temporary directory is closed to others, and this one shall be a root.
        fs::set_permissions(host.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        host.write(
            "/etc/passwd",
            "root:x:0:0::/root:/bin/sh\nnova:x:64060:64060::/var/lib/nova:/bin/bash\nop:x:1000:1000::/:/bin/sh\n",
        );
        host.write(
            "/etc/group",
            "root:x:0:\nnova:x:64060:\nlibvirt:x:64100:nova\nop:x:1000:\n",
        );
        host.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\n");
        host.write("/etc/venvd/apps/nova.toml", "user = \"nova\"\n");
        host.write("/etc/venvd/apps/plain.toml", "description = \"no user\"\n");
        host.program("/var/lib/venvd/venvs/nova/1/bin/nova-old", "true");
        host.program("/var/lib/venvd/venvs/plain/1/bin/x", "true");
        host.program(
            &format!("{BIN}/report"),
            "cat /proc/self/status; ls -l /proc/self/fd; pwd; umask; env",
        );
        fs::create_dir(host.path("/root")).unwrap();
        fs::set_permissions(host.path("/root"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(host.path("/etc/venvd/committed")).unwrap();
        for (app, tag) in [("nova", "2"), ("plain", "1")] {
            symlink(
                format!("/var/lib/venvd/venvs/{app}/{tag}"),
                host.path(&format!("/etc/venvd/committed/{app}")),
            )
            .unwrap();
        }
        let program = host.path("/venv-activate");
        fs::copy(env!("CARGO_BIN_EXE_venv-activate"), program).unwrap();
        Some(host)
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, body: &str) {
        self.write(path, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a shell line on the host, as root.
    fn shell(&self, line: &str) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host.sh");
        Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--propagation=private",
                "--kill-child",
                "sh",
                script,
            ])
            .arg(self.0.path())
            .args(["/bin/sh", "-c", line])
            .output()
            .unwrap()
    }

    /// Runs a shell line that must succeed, and returns what it says on standard output.
    fn ok(&self, line: &str) -> String {
        let output = self.shell(line);
        assert!(
            output.status.success(),
            "{line}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell line that must fail, and returns its status and what it says on standard error.
    fn fails(&self, line: &str) -> (i32, String) {
        let output = self.shell(line);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }
}

/// Returns the value of a field of `/proc/self/status`, with single blanks.
fn field(report: &str, name: &str) -> String {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {report}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has_line(report: &str, line: &str) -> bool {
    report.lines().any(|candidate| candidate == line)
}

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
fn exit_status_and_signals_are_the_commands_own() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.fails("exec /venv-activate nova -- sh -c 'exit 77'").0, 77);
    // A shell says 128 + 15 of a child that was killed by SIGTERM: nothing stands between the two.
    assert_eq!(
        host.fails("/venv-activate nova -- sh -c 'kill -TERM $$'; exit $?").0,
        143
    );
    assert_eq!(
        host.ok("/venv-activate nova -- sh -c 'echo $$' & wait; echo $!")
            .lines()
            .count(),
        2
    );
    assert_eq!(
        host.ok("/venv-activate nova -- printf '<%s>' '' 'a b' --cd"),
        "<><a b><--cd>"
    );
}

#[test]
fn directories_are_kept_or_chosen() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.ok("cd /usr/bin; /venv-activate nova pwd"), "/usr/bin\n");
    assert_eq!(
        host.ok("/venv-activate nova --cd /usr/lib -- sh -c 'pwd; echo $PWD'"),
        "/usr/lib\n/usr/lib\n"
    );
    let output = host.shell("cd /root; /venv-activate nova pwd");
    assert_eq!(output.stdout, b"/\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("note: nova can't be in the current directory"));
    // One that is gone.
    assert_eq!(
        host.ok("mkdir /gone; cd /gone; rmdir /gone; /venv-activate nova pwd 2>/dev/null"),
        "/\n"
    );
    // As nova, not as root.
    let (status, said) = host.fails("/venv-activate nova --cd /root -- pwd");
    assert_eq!(status, 125);
    assert!(said.contains("can't go to \"/root\": Permission denied"), "{said}");
}

#[test]
fn closed_standard_descriptors_are_opened_on_nothing() {
    let Some(host) = Host::new() else { return };
    let said = host.ok("/venv-activate nova -- readlink /proc/self/fd/0 <&-; \
         /venv-activate nova -- sh -c 'readlink /proc/$$/fd/2 >&1' 2>&-");
    assert_eq!(said, "/dev/null\n/dev/null\n");
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
        (format!("{op} /venv-activate nova id"), "`sudo venv-activate nova …`"),
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

#[test]
fn what_is_missing_is_told_from_what_is_refused() {
    let Some(host) = Host::new() else { return };
    let (status, said) = host.fails("/venv-activate nova nova-old");
    assert_eq!(status, 127);
    assert!(said.contains("it is in nova:1"), "{said}");
    assert_eq!(host.ok("/venv-activate nova:1 nova-old"), "");
    host.program(&format!("{BIN}/broken"), "");
    host.write(&format!("{BIN}/broken"), "#!/nowhere/python\n");
    assert_eq!(host.fails("/venv-activate nova broken").0, 126);
    host.write(&format!("{BIN}/data"), "");
    assert_eq!(host.fails("/venv-activate nova data").0, 126);
    assert_eq!(host.fails("/venv-activate nova:3 id").0, 127);
    assert_eq!(host.fails("/venv-activate glance id").0, 127);
    assert_eq!(host.fails("/venv-activate nova ./nothing").0, 127);
    assert_eq!(host.fails("/venv-activate nova").0, 2);
    let (status, said) = host.fails(&format!("chmod g+w {BIN}; /venv-activate nova id"));
    assert_eq!(status, 126);
    assert!(said.contains("can be written by others"), "{said}");
}

#[test]
fn the_service_user_cannot_type_into_roots_terminal() {
    let Some(host) = Host::new() else { return };
    if !Path::new("/usr/bin/script").exists() || !Path::new("/usr/bin/perl").exists() {
        // Both are in every Debian; elsewhere the machine tests are the ones that count.
        return;
    }
    // TIOCSTI, the same with bits that the kernel does not look at, and TIOCLINUX.
    host.write(
        "/push.pl",
        "my $c = 'x';\n\
         for my $request (0x5412, 0x541c) {\n\
             print \"errno \", ioctl(STDIN, $request, $c) ? 0 : $! + 0, \"\\n\";\n\
         }\n\
         print 'wide ', syscall(16, 0, 0x7700005412, $c) < 0 ? $! + 0 : 0, \"\\n\";\n",
    );
    let on_terminal = |line: &str| host.ok(&format!("script -qec '{line}' /dev/null </dev/null"));
    let pushed = on_terminal("/venv-activate nova perl /push.pl");
    assert_eq!(pushed.matches("errno 1\r").count(), 2, "{pushed}");
    if cfg!(target_arch = "x86_64") {
        assert!(pushed.contains("wide 1\r"), "{pushed}");
    }
    // Standard descriptors elsewhere: the session's terminal can still be opened.
    let pushed = on_terminal("/venv-activate nova -- sh -c \"perl /push.pl </dev/tty\" </dev/null 2>&1 | cat");
    assert_eq!(pushed.matches("errno 1\r").count(), 2, "{pushed}");
    let report = on_terminal("/venv-activate nova report");
    assert_eq!(field(&report, "Seccomp"), "2");
    assert_eq!(field(&report, "NoNewPrivs"), "0");
    // Without CAP_SYS_ADMIN, as in a container.
    let report = on_terminal("setpriv --bounding-set=-sys_admin /venv-activate nova report");
    assert_eq!(
        (field(&report, "Seccomp"), field(&report, "NoNewPrivs")),
        ("2".into(), "1".into())
    );
    // The test can fail: root itself is not held back.
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "1") {
        assert!(on_terminal("perl /push.pl").contains("errno 0"));
    }
}
