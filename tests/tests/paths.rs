//! The `PATH` of a service with venvd is the venv's `bin` in front of the one it has without: measured, not computed.

use std::collections::BTreeMap;

use anyhow::Result;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

const VENV: &str = "/var/lib/venvd/venvs/demo/1";

/// Ways to come to a `PATH`, and what the venv's does not come in front of.
const WAYS: [(&str, &str, Then); 9] = [
    ("default", "", Then::InFront),
    ("own", "Environment=A=1 'PATH=/opt/%N:/usr/bin' B=2", Then::InFront),
    ("empty", "Environment=PATH=", Then::InFront),
    ("passed", "PassEnvironment=LANG PATH", Then::InFront),
    ("search", "ExecSearchPath=/opt/search:/usr/bin", Then::InFront),
    (
        "both",
        "ExecSearchPath=/opt/search\nEnvironment=PATH=/opt/own",
        Then::InFront,
    ),
    (
        "passed-search",
        "ExecSearchPath=/opt/search\nPassEnvironment=PATH",
        Then::InFront,
    ),
    ("file", "EnvironmentFile=/etc/default/demo-%N", Then::Reported),
    ("unset", "UnsetEnvironment=PATH", Then::Reported),
];

/// What comes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The venv is in front.
    InFront,
    /// It can't be; the report says why.
    Reported,
}

fn unit(way: &str) -> String {
    format!("{way}.service")
}

/// Starts all units, and returns what their processes were given as `PATH`.
fn paths(machine: &Machine) -> BTreeMap<&'static str, Option<String>> {
    machine.ok("systemctl daemon-reload");
    let of = |way: &'static str| {
        machine.ok(&format!("systemctl start {}", unit(way)));
        let said = machine.ok(&format!("cat /run/path-{way}"));
        (
            way,
            said.lines()
                .find_map(|line| line.strip_prefix("PATH="))
                .map(str::to_owned),
        )
    };
    WAYS.into_iter().map(|(way, ..)| of(way)).collect()
}

fn the_venv_comes_in_front(os: Os) -> Result<()> {
    let mut machine = supplied(os)?.boot()?;
    machine.ok("dpkg -i /srv/venvd.deb");
    for bin in ["/usr/bin".to_owned(), format!("{VENV}/bin")] {
        let script = "#!/bin/sh\n/usr/bin/tr '\\0' '\\n' </proc/$$/environ\n";
        machine.write(&format!("{bin}/demo-path"), script, 0o755);
    }
    let mut definition = String::new();
    for (way, lines, _) in WAYS {
        let text = format!(
            "[Service]\nType=oneshot\nExecStart=/usr/bin/demo-path\nStandardOutput=truncate:/run/path-{way}\n{lines}\n"
        );
        machine.write(&format!("/usr/lib/systemd/system/{}", unit(way)), &text, 0o644);
        definition.push_str(&format!("[units.\"{}\"]\n", unit(way)));
    }
    machine.write(
        "/etc/default/demo-file",
        "# of the administrator\nPATH=\"/of/the/file:/usr/bin\"\n",
        0o644,
    );
    machine.write("/etc/venvd/apps/demo.toml", &definition, 0o644);
    machine.ok(&format!(
        "mkdir -p /etc/venvd/committed && ln -s {VENV} /etc/venvd/committed/demo"
    ));
    for configuration in [
        "",
        "DefaultEnvironment=\"PATH=/of/100%%/services:/usr/bin\"\nManagerEnvironment=PATH=/of/systemd:/usr/bin\n",
    ] {
        let text = format!("[Manager]\n{configuration}");
        machine.write("/etc/systemd/system.conf.d/path.conf", &text, 0o644);
        machine.ok("rm -f /etc/venvd/apps/demo.toml.d/on.toml");
        machine.reboot()?;
        let without = paths(&machine);
        machine.write("/etc/venvd/apps/demo.toml.d/on.toml", "enabled = true\n", 0o644);
        let with = paths(&machine);
        let report = machine.ok("cat /run/systemd/generator/venvd-report.json");
        for (way, _, then) in WAYS {
            let want = match (then, &without[way]) {
                (Then::InFront, Some(path)) if !path.is_empty() => Some(format!("{VENV}/bin:{path}")),
                (Then::InFront, _) => Some(format!("{VENV}/bin")),
                (Then::Reported, path) => path.clone(),
            };
            assert_eq!(with[way], want, "{way} {configuration:?}");
        }
        for said in [
            "/etc/default/demo-file:2: sets PATH",
            "UnsetEnvironment= takes PATH away",
        ] {
            assert!(report.contains(said), "{report}");
        }
    }
    Ok(())
}

#[test]
fn the_venv_comes_in_front_of_each_path_on_debian_12() -> Result<()> {
    the_venv_comes_in_front(Os::Debian12)
}

#[test]
fn the_venv_comes_in_front_of_each_path_on_debian_13() -> Result<()> {
    the_venv_comes_in_front(Os::Debian13)
}
