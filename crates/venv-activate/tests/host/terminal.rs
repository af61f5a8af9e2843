//! What a command can do to root's terminal.

use std::fs;
use std::path::Path;

use crate::chroot::Host;
use crate::report::field;

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
    let pushed = on_terminal("/activate nova perl /push.pl");
    assert_eq!(pushed.matches("errno 1\r").count(), 2, "{pushed}");
    if cfg!(target_arch = "x86_64") {
        assert!(pushed.contains("wide 1\r"), "{pushed}");
    }
    // Standard descriptors elsewhere: the session's terminal can still be opened.
    let pushed = on_terminal("/activate nova -- sh -c \"perl /push.pl </dev/tty\" </dev/null 2>&1 | cat");
    assert_eq!(pushed.matches("errno 1\r").count(), 2, "{pushed}");
    let report = on_terminal("/activate nova report");
    assert_eq!(field(&report, "Seccomp"), "2");
    assert_eq!(field(&report, "NoNewPrivs"), "0");
    // Without CAP_SYS_ADMIN, as in a container.
    let report = on_terminal("setpriv --bounding-set=-sys_admin /activate nova report");
    assert_eq!(
        (field(&report, "Seccomp"), field(&report, "NoNewPrivs")),
        ("2".into(), "1".into())
    );
    // The test can fail: root itself is not held back.
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "1") {
        assert!(on_terminal("perl /push.pl").contains("errno 0"));
    }
}
