//! What a command can do to root's terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::chroot::{Host, NOVA};
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
         print 'wide ', syscall(16, 0, 0x7700005412, $c) < 0 ? $! + 0 : 0, \"\\n\";\n\
         print 'x32 ', syscall(0x40000000 + 514, 0, 0x5412, $c) < 0 ? $! + 0 : 0, \"\\n\";\n",
    );
    let on_terminal = |line: &str| host.ok(&format!("script -qec '{line}' /dev/null </dev/null"));
    let pushed = on_terminal("/venv-activate nova perl /push.pl");
    assert_eq!(pushed.matches("errno 1\r").count(), 2, "{pushed}");
    if cfg!(target_arch = "x86_64") {
        assert!(pushed.contains("wide 1\r") && pushed.contains("x32 1\r"), "{pushed}");
    }
    // Standard descriptors elsewhere: the session's terminal can still be opened.
    let pushed = on_terminal("/venv-activate nova -- sh -c \"perl /push.pl </dev/tty\" </dev/null 2>&1 | cat");
    assert_eq!(pushed.matches("errno 1\r").count(), 2, "{pushed}");
    let report = on_terminal("/venv-activate nova report");
    assert_eq!(field(&report, "Seccomp"), "2");
    assert_eq!(field(&report, "NoNewPrivs"), "0");
    // The test can fail: root itself is not held back.
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "1") {
        assert!(on_terminal("perl /push.pl").contains("errno 0"));
    }
}

/// A program that asks for its own number the way 32-bit programs do, and exits with 0: a header, one segment, and
/// `mov $20, %eax; int $0x80; xor %edi, %edi; mov $60, %eax; syscall`.
#[cfg(target_arch = "x86_64")]
fn foreign() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let code = b"\xb8\x14\0\0\0\xcd\x80\x31\xff\xb8\x3c\0\0\0\x0f\x05";
    let (header, segment) = (64_u64, 56_u64);
    let start = header + segment;
    let length = start + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [BASE + start, header, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0");
    file.extend(b"\x01\0\0\0\x05\0\0\0");
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_of_a_foreign_abi_is_killed() {
    let Some(host) = Host::new() else { return };
    let path = host.path("/foreign");
    fs::write(&path, foreign()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    if !Path::new("/usr/bin/script").exists() || !host.shell("/foreign").status.success() {
        // A kernel without that ABI needs no guard against it.
        return;
    }
    let said = host.ok("script -qec '/venv-activate nova /foreign; echo status $?' /dev/null </dev/null");
    // SIGSYS
    assert!(said.contains("status 159"), "{said}");
}

/// As in a container without CAP_SYS_ADMIN, where the filter can't be loaded.
const CONFINED: &str = "setpriv --bounding-set=-sys_admin /venv-activate nova";

#[test]
fn where_no_filter_can_be_loaded_the_command_has_a_terminal_of_its_own() {
    let Some(host) = Host::new() else { return };
    if !Path::new("/usr/bin/script").exists() || !Path::new("/usr/bin/perl").exists() {
        return;
    }
    let on_terminal = |line: &str| {
        host.write("/line", line);
        host.shell("script -qec 'bash /line' /dev/null </dev/null")
    };
    let said = |line: &str| {
        let output = on_terminal(line);
        // script(1) types a NUL when its own input ends.
        let said = String::from_utf8_lossy(&output.stdout)
            .replace('\r', "")
            .replace("^@", "");
        assert!(output.status.success(), "{line}: {}: {said}", output.status);
        said
    };
    let report = said(&format!(
        "stty rows 33 cols 77; tty; {CONFINED} -- sh -c 'tty; stty size; report'"
    ));
    let lines: Vec<&str> = report.lines().collect();
    assert_ne!(lines[0], lines[1], "{report}");
    assert_eq!(lines[2], "33 77", "{report}");
    assert_eq!(field(&report, "Uid"), [NOVA.to_string().as_str(); 4].join(" "));
    assert_eq!(field(&report, "Seccomp"), "0");
    // sudo works.
    assert_eq!(field(&report, "NoNewPrivs"), "0");
    for line in report.lines().filter(|line| line.contains(" -> ")) {
        assert!(!line.contains(lines[0]) && !line.contains("ptmx"), "{line}");
    }

    // What is typed by it, root's shell would run.
    host.write(
        "/push.pl",
        "for (split //, \"evil\\n\") { my $c = $_; ioctl(STDIN, 0x5412, $c) }\n",
    );
    let read = "for n in 1 2 3; do read -t 0.3 typed; echo \"<$typed>\"; done";
    let pushed = said(&format!("{CONFINED} perl /push.pl; {read}"));
    assert!(!pushed.contains("<evil>"), "{pushed}");
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "1") {
        let pushed = said(&format!("perl /push.pl; {read}"));
        assert!(pushed.contains("<evil>"), "{pushed}");
    }

    // It ends as the command did, carries everything, and leaves other descriptors alone.
    assert_eq!(
        on_terminal(&format!("{CONFINED} -- sh -c 'exit 77'")).status.code(),
        Some(77)
    );
    assert_eq!(
        said(&format!("{CONFINED} -- sh -c 'kill -TERM $$'; echo $?"))
            .lines()
            .last(),
        Some("143")
    );
    assert_eq!(said(&format!("{CONFINED} seq 100000")).lines().count(), 100_000);
    assert_eq!(
        said(&format!("echo in | {CONFINED} -- sh -c 'cat; echo out >&2' 2>&1 | cat")),
        "in\nout\n"
    );
    assert_eq!(
        on_terminal(&format!("{CONFINED} nothing-there")).status.code(),
        Some(127)
    );
}
