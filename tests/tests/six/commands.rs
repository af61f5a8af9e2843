//! The services' management commands through their links, on sqlite: by root, by the service user, by operators whom
//! sudoers lets be that user, and by anybody else.

use std::thread;

use venvd_tests::Machine;

/// A command, its app, and what asks the database for something that is there once it was set up.
const COMMANDS: [(&str, &str, &str); 5] = [
    ("nova-manage", "nova", "api_db version"),
    ("cinder-manage", "cinder", "db version"),
    ("glance-manage", "glance", "db version"),
    ("keystone-manage", "keystone", "db_version"),
    ("placement-manage", "placement", "db version"),
];

/// As docs/commands.md has it.
const SUDOERS: &str = "Defaults!/usr/local/bin/nova-manage use_pty
%nova-operators ALL=(nova) NOPASSWD: NOSETENV: /usr/local/bin/nova-manage
";

/// Lets the apps expose their commands, from their next activation on.
pub(crate) fn expose(machine: &Machine) {
    for (command, app, _) in COMMANDS {
        let fragment = format!("/etc/venvd/apps/{app}.toml.d/50-commands.toml");
        machine.write(&fragment, format!("commands.expose = [\"{command}\"]\n"), 0o644);
    }
    // What is in the databases is nobody else's business.
    machine.ok("chmod 700 /var/lib/nova /var/lib/cinder /var/lib/glance /var/lib/keystone /var/lib/placement");
    machine.write("/etc/sudoers.d/nova-operators", SUDOERS, 0o440);
    machine.ok("visudo -c && groupadd nova-operators && useradd -m -G nova-operators olga");
}

/// Asks each database as each of them.
pub(crate) fn answer(machine: &Machine) {
    machine.ok("nova-manage api_db sync");
    // They have nothing to do with each other, and most of it is the start of Python.
    thread::scope(|scope| {
        for (command, app, question) in COMMANDS {
            let words: Vec<&str> = [command].into_iter().chain(question.split(' ')).collect();
            scope.spawn(move || ask(machine, app, &words));
        }
    });
    // Nothing was made or left by root.
    let owners = machine.ok("find /var/lib/nova /var/lib/keystone -user root");
    assert_eq!(owners, "");
    operators(machine);
}

fn ask(machine: &Machine, app: &str, words: &[&str]) {
    let root = machine.run(words);
    assert!(root.success(), "{root}");
    let revision = root.stdout.trim();
    println!("{}: {revision}", words.join(" "));
    assert!(!revision.is_empty(), "{root}");
    let user = machine.user_run(app, words);
    assert_eq!((user.status, user.stdout.trim()), (0, revision), "{user}");
    let nobody = machine.user_run("nobody", words);
    assert!(!nobody.success(), "{nobody}");
    // On either stream, as each of them likes.
    assert!(nobody.to_string().contains("unable to open database file"), "{nobody}");
}

fn operators(machine: &Machine) {
    let manage = ["sudo", "-n", "-u", "nova", "nova-manage", "api_db", "version"];
    let operator = machine.user_run("olga", &manage);
    assert!(operator.success() && !operator.stdout.trim().is_empty(), "{operator}");
    let other = machine.user_run("nobody", &manage);
    assert!(!other.success(), "{other}");
    for line in [
        "sudo -n nova-manage api_db version",
        "sudo -n -u nova id",
        "sudo -n -u nova venv-activate nova -- nova-manage api_db version",
        "sudo -n -u nova glance-manage db version",
        "ln -sf /usr/bin/venv-activate /tmp/glance-manage && sudo -n -u nova /tmp/glance-manage db version",
        "sudo -n -u nova PYTHONPATH=/tmp nova-manage api_db version",
    ] {
        let refused = machine.user_run("olga", &["sh", "-c", line]);
        assert_eq!(refused.status, 1, "{line}: {refused}");
        assert!(refused.stderr.contains("sudo: "), "{line}: {refused}");
    }
}
