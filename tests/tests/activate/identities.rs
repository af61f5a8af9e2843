//! Who may do what: root, the service user, an operator through sudo, nobody.

use anyhow::Result;
use venvd_tests::{Machine, Os, Output};

use crate::nova;

const MANAGE: [&str; 4] = ["venv-activate", "nova", "--", "nova-manage"];
const AS_NOVA: &str = "nova-manage of 2 as nova\n";

/// Runs a command as somebody, in front of venv-activate's own line.
fn run(machine: &Machine, user: &str, before: &[&str]) -> Output {
    machine.user_run(user, &[before, &MANAGE].concat())
}

#[test]
fn each_gets_what_they_may_and_hears_of_the_rest() -> Result<()> {
    let machine = nova::machine(Os::Debian12)?;
    let sudo = ["sudo", "-n", "-u", "nova"];
    for (user, before) in [("root", &[][..]), ("nova", &[]), ("olga", &sudo)] {
        let output = run(&machine, user, before);
        assert_eq!((output.status, &*output.stdout), (0, AS_NOVA), "{user}: {output}");
    }
    for user in ["olga", "nobody"] {
        let output = run(&machine, user, &[]);
        assert_eq!(output.status, 125, "{user}: {output}");
        assert!(
            output.stderr.contains("`sudo -u nova venv-activate nova …`"),
            "{output}"
        );
        let own = ["venv-activate", "--as-self", "nova", "nova-manage"];
        let output = machine.user_run(user, &own);
        assert_eq!(output.stdout, format!("nova-manage of 2 as {user}\n"), "{output}");
    }
    // The rule is for being nova, and for nothing else.
    for (user, before) in [
        ("nobody", &sudo[..]),
        ("olga", &["sudo", "-n"]),
        ("olga", &["sudo", "-n", "-u", "nova", "PYTHONPATH=/tmp"]),
    ] {
        let output = run(&machine, user, before);
        assert_eq!(output.status, 1, "{user} {before:?}: {output}");
        assert!(!output.stdout.contains("nova-manage of"), "{output}");
    }
    let output = machine.user_run(
        "olga",
        &[&sudo[..], &["venv-activate", "--user=root", "nova", "id"]].concat(),
    );
    assert_eq!(output.status, 125, "{output}");

    let (uid, groups) = (machine.ok("id -u nova"), machine.ok("id -G nova"));
    let status = machine.ok("venv-activate nova cat /proc/self/status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(field("Uid:"), [&*uid; 4].join(" "));
    let sorted = |text: &str| {
        let mut numbers: Vec<String> = text.split(' ').map(str::to_owned).collect();
        numbers.sort();
        numbers
    };
    assert_eq!(sorted(&field("Groups:")), sorted(&groups));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        machine.ok("venv-activate nova ls /proc/self/fd").lines().count(),
        4,
        "and ls has its own"
    );
    Ok(())
}
