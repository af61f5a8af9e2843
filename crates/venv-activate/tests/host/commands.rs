//! What a command is given, and what it leaves behind.

use crate::chroot::{BIN, Host};

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
    assert_eq!(host.fails("/venv-activate nova </dev/null").0, 2);
    let (status, said) = host.fails(&format!("chmod g+w {BIN}; /venv-activate nova id"));
    assert_eq!(status, 126);
    assert!(said.contains("can be written by others"), "{said}");
}

#[test]
fn no_trap_in_the_environment_fires() {
    let Some(host) = Host::new() else { return };
    host.write("/traps/trap.sh", "echo trapped\n");
    host.write("/traps/sitecustomize.py", "print('trapped')\n");
    host.write("/traps/trap.pm", "print \"trapped\\n\"; 1;\n");
    host.program(
        &format!("{BIN}/run-all"),
        "bash -c 'echo bash'; perl -e 'print \"perl\\n\"'; ls / >/dev/null; python3 -c 'print(\"python\")'",
    );
    let traps = "BASH_ENV=/traps/trap.sh ENV=/traps/trap.sh PYTHONPATH=/traps PERL5LIB=/traps PERL5OPT=-Mtrap \
                 PYTHONHOME=/nowhere IFS=/ SHELLOPTS=xtrace PS4='$(echo trapped >&2)' 'BASH_FUNC_ls%%=() { echo trapped; }'";
    let op = "setpriv --reuid 1000 --regid 1000 --clear-groups env";
    let untrapped = host.ok("/venv-activate nova run-all");
    assert!(untrapped.contains("bash\n"), "{untrapped}");
    for line in [
        format!("env {traps} /venv-activate nova run-all"),
        format!("{op} {traps} /venv-activate --as-self nova run-all"),
    ] {
        assert_eq!(host.ok(&format!("{line} 2>&1")), untrapped, "{line}");
    }
    // The test can fail.
    let trapped = host.shell(&format!("env {traps} {BIN}/run-all"));
    assert!(String::from_utf8_lossy(&trapped.stdout).contains("trapped"));
}

#[test]
fn a_command_is_of_one_venv_while_the_link_flips() {
    let Some(host) = Host::new() else { return };
    for tag in [1, 2] {
        let body = format!("echo {tag} $VENVD_TAG ${{VIRTUAL_ENV##*/}} $(dirname $(command -v which-venv))");
        host.program(&format!("/var/lib/venvd/venvs/nova/{tag}/bin/which-venv"), &body);
    }
    let said = host.ok("cd /etc/venvd/committed; \
         while :; do for tag in 1 2; do ln -s /var/lib/venvd/venvs/nova/$tag .new; mv -T .new nova; done; done & \
         for n in $(seq 150); do /venv-activate nova which-venv; done; kill $!");
    let of = |tag: u8| format!("{tag} {tag} {tag} /var/lib/venvd/venvs/nova/{tag}/bin");
    assert_eq!(said.lines().count(), 150);
    assert!(said.lines().all(|line| line == of(1) || line == of(2)), "{said}");
    assert!(
        said.contains(&of(1)) && said.contains(&of(2)),
        "it never flipped: {said}"
    );
}
