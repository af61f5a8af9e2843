//! What a command is given, and what it leaves behind.

use crate::chroot::{BIN, Host};

#[test]
fn exit_status_and_signals_are_the_commands_own() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.fails("exec /activate nova -- sh -c 'exit 77'").0, 77);
    // A shell says 128 + 15 of a child that was killed by SIGTERM: nothing stands between the two.
    assert_eq!(host.fails("/activate nova -- sh -c 'kill -TERM $$'; exit $?").0, 143);
    assert_eq!(
        host.ok("/activate nova -- sh -c 'echo $$' & wait; echo $!")
            .lines()
            .count(),
        2
    );
    assert_eq!(
        host.ok("/activate nova -- printf '<%s>' '' 'a b' --cd"),
        "<><a b><--cd>"
    );
}

#[test]
fn directories_are_kept_or_chosen() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.ok("cd /usr/bin; /activate nova pwd"), "/usr/bin\n");
    assert_eq!(
        host.ok("/activate nova --cd /usr/lib -- sh -c 'pwd; echo $PWD'"),
        "/usr/lib\n/usr/lib\n"
    );
    let output = host.shell("cd /root; /activate nova pwd");
    assert_eq!(output.stdout, b"/\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("note: nova can't be in the current directory"));
    // One that is gone.
    assert_eq!(
        host.ok("mkdir /gone; cd /gone; rmdir /gone; /activate nova pwd 2>/dev/null"),
        "/\n"
    );
    // As nova, not as root.
    let (status, said) = host.fails("/activate nova --cd /root -- pwd");
    assert_eq!(status, 125);
    assert!(said.contains("can't go to \"/root\": Permission denied"), "{said}");
}

#[test]
fn closed_standard_descriptors_are_opened_on_nothing() {
    let Some(host) = Host::new() else { return };
    let said = host.ok("/activate nova -- readlink /proc/self/fd/0 <&-; \
         /activate nova -- sh -c 'readlink /proc/$$/fd/2 >&1' 2>&-");
    assert_eq!(said, "/dev/null\n/dev/null\n");
}

#[test]
fn what_is_missing_is_told_from_what_is_refused() {
    let Some(host) = Host::new() else { return };
    let (status, said) = host.fails("/activate nova nova-old");
    assert_eq!(status, 127);
    assert!(said.contains("it is in nova:1"), "{said}");
    assert_eq!(host.ok("/activate nova:1 nova-old"), "");
    host.program(&format!("{BIN}/broken"), "");
    host.write(&format!("{BIN}/broken"), "#!/nowhere/python\n");
    assert_eq!(host.fails("/activate nova broken").0, 126);
    host.write(&format!("{BIN}/data"), "");
    assert_eq!(host.fails("/activate nova data").0, 126);
    assert_eq!(host.fails("/activate nova:3 id").0, 127);
    assert_eq!(host.fails("/activate glance id").0, 127);
    assert_eq!(host.fails("/activate nova ./nothing").0, 127);
    assert_eq!(host.fails("/activate nova </dev/null").0, 2);
    let (status, said) = host.fails(&format!("chmod g+w {BIN}; /activate nova id"));
    assert_eq!(status, 126);
    assert!(said.contains("can be written by others"), "{said}");
}
