//! Exposed commands: links that come and go with their app, who may type them as what, and that each run is one venv's.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use venvd_tests::demo::Demo;
use venvd_tests::{Machine, Os};

const DEFINITION: &str = "/etc/venvd/apps/demo.toml";
const FRAGMENT: &str = "/etc/venvd/apps/demo.toml.d/50-commands.toml";
const LINKS: &str = "find /usr/local/bin -type l -printf '%f %l\\n' | sort";

/// Declares what is exposed, and makes it so as an administrator would.
fn expose(machine: &Machine, commands: &str) -> (i32, String) {
    let text = format!("health.settle = \"100ms\"\ncommands.expose = [{commands}]\n");
    machine.write(FRAGMENT, text, 0o644);
    let said = machine.run(&["venvctl", "--json", "enable", "demo"]);
    (said.status, said.stdout)
}

fn assert_links(machine: &Machine, names: &[&str]) {
    let expected = names.iter().fold(String::new(), |mut lines, name| {
        _ = writeln!(lines, "{name} /usr/bin/venv-activate");
        lines
    });
    assert_eq!(machine.ok(LINKS), expected.trim_end());
}

/// `pbr` is only in `demo:b`. `python` tells best where it runs from.
const EXPOSED: [&str; 2] = ["pbr", "python"];

fn come_and_go(machine: &Machine) {
    let (status, said) = expose(machine, "\"pbr\", \"python\"");
    assert_eq!(status, 0, "{said}");
    assert_links(machine, &EXPOSED);
    let healthy = machine.ok("venvctl doctor");
    assert!(!healthy.contains("command"), "{healthy}");

    machine.ok("venvctl disable demo");
    assert_links(machine, &[]);
    machine.ok("test ! -e /etc/venvd/commands.json && venvctl enable demo");
    assert_links(machine, &EXPOSED);

    // As in an image, where there is no venvd.
    machine.ok("venvctl --root /proc/1/root disable demo");
    assert_links(machine, &[]);
    machine.ok("venvctl --root /proc/1/root enable demo");
    assert_links(machine, &EXPOSED);
}

fn others_names_are_refused(machine: &Machine) {
    machine.write("/usr/local/bin/oslo-rootwrap", "theirs", 0o755);
    let enabled = expose(machine, "\"pbr\", \"python\", \"oslo-rootwrap\"");
    let activated = machine.run(&["venvctl", "--json", "activate", "demo:b"]);
    for (status, said) in [enabled, (activated.status, activated.stdout)] {
        assert_eq!(status, 1, "{said}");
        for word in ["command-refused", "/usr/local/bin/oslo-rootwrap", DEFINITION] {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
    }
    assert_eq!(
        machine.ok("readlink /etc/venvd/committed/demo"),
        "/var/lib/venvd/venvs/demo/a"
    );
    assert_eq!(machine.read("/usr/local/bin/oslo-rootwrap"), "theirs");
    machine.ok("rm /usr/local/bin/oslo-rootwrap");
    assert_eq!(expose(machine, "\"pbr\", \"python\"").0, 0);

    machine.write("/etc/venvd/apps/twin.toml", "commands.expose = [\"python\"]\n", 0o644);
    machine.ok("venvctl install /var/lib/venvd/venvs/demo/a twin:1 && venvctl activate twin:1");
    let said = machine.run(&["venvctl", "--json", "enable", "twin"]);
    assert_eq!(said.status, 1, "{said}");
    for word in ["command-refused", "/etc/venvd/apps/twin.toml", DEFINITION, "python"] {
        assert!(said.stdout.contains(word), "{word:?} is not in: {said}");
    }
    assert_links(machine, &EXPOSED);
    machine.ok("rm /etc/venvd/apps/twin.toml");
}

/// Whoever types it gets his own rights, but for root, who gets the app's user's; and all arguments are the command's.
fn rights_and_arguments(machine: &Machine) {
    let ids = "import os, sys; print(os.getresuid(), os.getgroups(), sys.prefix, sys.argv[1:])";
    let uid = |user: &str| machine.ok(&format!("id -u {user}"));
    for (user, becomes) in [("root", "demo"), ("demo", "demo"), ("nobody", "nobody")] {
        let said = machine.user_run(user, &["python", "-c", ids, "--user", "root", "-h", "--"]);
        let uid = uid(becomes);
        assert!(
            said.stdout.starts_with(&format!("({uid}, {uid}, {uid}) [")),
            "{user}: {said}"
        );
        assert!(
            said.stdout.ends_with("/venvs/demo/a ['--user', 'root', '-h', '--']\n"),
            "{user}: {said}"
        );
        assert_eq!(said.stderr, "", "{user}: nothing is said but to people");
    }
    let terminal = |user| {
        machine
            .user_run(user, &["script", "-qec", "python -c 'print(7)'", "/dev/null"])
            .stdout
    };
    let hint = "note: this runs as you are; `sudo -u demo python …` runs it as demo";
    assert!(terminal("nobody").contains(hint), "{}", terminal("nobody"));
    assert!(!terminal("demo").contains("note"), "{}", terminal("demo"));
}

/// Neither a name nor an environment of his own making gets anybody more, or other code.
fn games(machine: &Machine) {
    let said = |line: &str| machine.user_run("nobody", &["bash", "-c", line]);
    for name in [
        "",
        "/",
        "..",
        "demo",
        "demo:a",
        "./",
        "-python",
        "pyth*n",
        "py\nthon",
        "venv-activat",
    ] {
        let said = said(&format!(
            "exec -a $'{}' /usr/bin/venv-activate python -V",
            name.escape_default()
        ));
        assert_eq!(said.status, 127, "{name:?}: {said}");
        assert!(said.stderr.contains("no app that is on exposes"), "{name:?}: {said}");
    }
    for line in [
        "exec -a /nowhere/../python /usr/bin/venv-activate -c 'import sys; print(sys.prefix)'",
        "d=$(mktemp -d) && cd $d && ln -s /usr/bin/venv-activate python && ./python -c 'import sys; print(sys.prefix)'",
        "d=$(mktemp -d) && cd $d && rmdir $d && python -c 'import sys; print(sys.prefix)'",
        "mkdir -p /tmp/evil && echo 'print(\"evil\")' >/tmp/evil/sitecustomize.py && PYTHONPATH=/tmp/evil PYTHONHOME=/tmp \
         LD_PRELOAD=/tmp/evil.so PATH=/tmp:/usr/local/bin python -c 'import sys; print(sys.prefix)'",
        "python -c 'import sys; print(sys.prefix)' <&-",
    ] {
        let said = said(line);
        assert_eq!(said.stdout, "/var/lib/venvd/venvs/demo/a\n", "{line}: {said}");
    }
    let other = said("d=$(mktemp -d) && ln -s /usr/local/bin/python $d/other && $d/other -V");
    assert_eq!(other.status, 127, "{other}");
    assert!(other.stderr.contains("\"other\""), "{other}");
}

fn a_command_that_the_venv_lacks(machine: &Machine) {
    let lacking = machine.user_run("nobody", &["pbr", "--version"]);
    assert_eq!(lacking.status, 127, "{lacking}");
    assert!(
        lacking
            .stderr
            .contains("demo:a, which is in force, has no pbr; it is in demo:b"),
        "{lacking}"
    );
    machine.ok("venvctl activate demo:b");
    let there = machine.user_run("nobody", &["pbr", "--version"]);
    assert!(there.success(), "{there}");
    assert_links(machine, &EXPOSED);
}

/// One run: a process that imports early and late, and starts another program of its venv by name in between.
const RUN: &str = "
import os, subprocess, sys
import oslo_rootwrap.wrapper
child = subprocess.check_output(['sh', '-c', 'command -v oslo-rootwrap'], text=True).strip()
import oslo_rootwrap.client
files = {module.__file__ for module in list(sys.modules.values()) if getattr(module, '__file__', None)}
ours = [file for file in files if 'oslo_rootwrap' in file]
print(sys.prefix, os.environ['VENVD_TAG'], child, *ours)
";

/// One after the other, until it is enough.
const RUNS: &str = "while [ ! -e /run/enough ]; do python /srv/run.py || echo failed; done >/run/runs 2>&1\n";

/// At least 300 runs, while at least 30 activations go back and forth.
fn each_run_is_of_one_venv(machine: &Machine) {
    machine.write("/srv/run.py", RUN, 0o644);
    machine.write("/srv/runs.sh", RUNS, 0o755);
    machine.ok("systemd-run --unit=runs --service-type=exec sh /srv/runs.sh");
    let runs = || machine.read("/run/runs").lines().count();
    let mut activations = 0;
    while activations < 30 || runs() < 300 {
        machine.ok(&format!("venvctl activate demo:{}", ["a", "b"][activations % 2]));
        activations += 1;
    }
    machine.ok("touch /run/enough");
    machine.wait_until(Duration::from_secs(30), "the last run is done", |machine| {
        machine.unit_property("runs.service", "ActiveState") == "inactive"
    });
    let runs = machine.read("/run/runs");
    let of = |tag: &str| {
        let venv = format!("/var/lib/venvd/venvs/demo/{tag}");
        let is_whole = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [prefix, said, child, files @ ..] = &words[..] else {
                return false;
            };
            (*prefix, *said, *child) == (&venv, tag, &format!("{venv}/bin/oslo-rootwrap"))
                && files.len() >= 3
                && files.iter().all(|file| file.starts_with(&format!("{venv}/lib/")))
        };
        runs.lines().filter(is_whole).count()
    };
    let (a, b, all) = (of("a"), of("b"), runs.lines().count());
    println!("{all} runs through {activations} activations: {a} of demo:a, {b} of demo:b");
    assert!(a >= 100 && b >= 100, "{a} + {b} of {all}");
    assert_eq!(a + b, all, "{runs}");
}

fn the_package_takes_its_links_along(machine: &Machine) {
    machine.ok("dpkg -r venvd");
    assert_links(machine, &[]);
    machine.ok("dpkg -i /srv/venvd.deb");
    machine.wait_until(Duration::from_secs(30), "venvd makes them again", |machine| {
        machine.ok(LINKS).lines().count() == EXPOSED.len()
    });
    assert_links(machine, &EXPOSED);
}

#[test]
fn exposed_commands_on_debian_13() -> Result<()> {
    let demo = Demo::new(Os::Debian13)?;
    let machine = &demo.machine;
    come_and_go(machine);
    others_names_are_refused(machine);
    rights_and_arguments(machine);
    games(machine);
    a_command_that_the_venv_lacks(machine);
    each_run_is_of_one_venv(machine);
    the_package_takes_its_links_along(machine);
    Ok(())
}
