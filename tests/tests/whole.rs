//! Units that venvd writes whole, started by a real systemd: sockets, timers, instances, aliases and units that others
//! pull in. No venv is built for it: what is started is a script in a directory that a committed link names.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

const SOON: Duration = Duration::from_secs(20);

const VENV: &str = "/var/lib/venvd/venvs/demo/1";

const DEFINITION: &str = r#"
enabled = true
user = "demo"

[units."demo-echo.socket"]
whole = true
Socket = { ListenStream = "127.0.0.1:7001", Accept = true }
Install.WantedBy = "sockets.target"
[units."demo-echo@.service"]
whole = true
exec = "demo-echo"
Service = { StandardInput = "socket", StandardError = "journal" }

[units."demo-tick.timer"]
whole = true
Timer = { OnActiveSec = "1ms", AccuracySec = "1ms" }
Install = { WantedBy = "timers.target", Alias = "demo-tock.timer" }
[units."demo-tick.service"]
whole = true
exec = "demo-tick"
Service = { Type = "oneshot", RuntimeDirectory = "demo", RuntimeDirectoryPreserve = true }

[units."demo-worker@.service"]
whole = true
exec = "demo-sleep %i"
Service = { Type = "exec", Environment = "PATH=/opt/own/bin:/usr/bin" }
Install = { WantedBy = "multi-user.target", DefaultInstance = ["one", "two"] }

[units."demo-main.service"]
whole = true
exec = "demo-sleep main"
Service.Type = "exec"
Install = { WantedBy = "multi-user.target", Alias = ["demo-other.service"], Also = "demo-echo.socket" }
[units."demo-needed.service"]
whole = true
exec = "demo-sleep needed"
Install.RequiredBy = "demo-main.service"
[units."demo-upheld.service"]
whole = true
exec = "demo-sleep upheld"
Install.UpheldBy = "demo-main.service"

[units."demo-init.service"]
exec = "demo-sleep --config-file /etc/demo.conf"
[units."demo-packaged.service"]
programs = ["demo-packaged", "demo-tick"]
"#;

/// As Debian's OpenStack packages have them.
const INIT: &str = "[Unit]\nDescription=By an init script\n[Service]\nExecStart=/etc/init.d/demo-init systemd-start\n\
                    Environment=KEPT=yes\nTimeoutStopSec=7\n";

const PACKAGED: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecCondition=/usr/bin/demo-packaged condition\n\
                        ExecStartPre=demo-packaged pre\nExecStart=/usr/sbin/demo-packaged start\n\
                        ExecStartPost=-/bin/demo-packaged post\nExecReload=/usr/local/bin/demo-packaged reload\n\
                        ExecStop=/sbin/demo-packaged stop\nExecStopPost=@/usr/bin/demo-packaged shown stop-post\n\
                        RuntimeDirectory=packaged\nRuntimeDirectoryPreserve=yes\n";

fn machine(os: Os) -> Result<Machine> {
    let mut machine = supplied(os)?.boot()?;
    machine.ok("useradd --system --user-group demo && dpkg -i /srv/venvd.deb");
    for (program, text) in [
        ("demo-echo", "echo \"$VENVD_TAG $(id -un) $PATH\""),
        ("demo-tick", "echo \"$VENVD_TAG\" >/run/demo/tick"),
        ("demo-sleep", "exec sleep infinity"),
        ("demo-packaged", "echo \"$0 $*\" >>/run/packaged/said"),
    ] {
        machine.write(&format!("{VENV}/bin/{program}"), format!("#!/bin/sh\n{text}\n"), 0o755);
    }
    machine.write("/etc/venvd/apps/demo.toml", DEFINITION, 0o644);
    machine.write("/usr/lib/systemd/system/demo-init.service", INIT, 0o644);
    machine.write("/usr/lib/systemd/system/demo-packaged.service", PACKAGED, 0o644);
    machine.write(
        "/etc/systemd/system.conf.d/path.conf",
        "[Manager]\nDefaultEnvironment=PATH=/of/all/services:/usr/bin:/bin\n",
        0o644,
    );
    machine.ok(&format!(
        "mkdir -p /etc/venvd/committed && ln -s {VENV} /etc/venvd/committed/demo"
    ));
    machine.reboot()?;
    Ok(machine)
}

fn is_active(unit: &'static str) -> impl FnMut(&Machine) -> bool {
    move |machine: &Machine| machine.unit_property(unit, "ActiveState") == "active"
}

fn whole_units(os: Os) -> Result<()> {
    let machine = machine(os)?;
    let report = machine.ok("cat /run/systemd/generator/venvd-report.json");
    assert!(!report.contains("skipped") && !report.contains("warnings"), "{report}");
    assert_eq!(
        machine.ok("systemctl list-units --state=failed --no-legend --plain 'demo*'"),
        ""
    );

    // Enabled by links that no `systemctl enable` made.
    for unit in [
        "demo-echo.socket",
        "demo-main.service",
        "demo-needed.service",
        "demo-upheld.service",
        "demo-worker@one.service",
        "demo-worker@two.service",
    ] {
        machine.wait_until(SOON, unit, is_active(unit));
    }
    assert_eq!(machine.unit_property("demo-other.service", "Id"), "demo-main.service");
    assert_eq!(machine.unit_property("demo-tock.timer", "Id"), "demo-tick.timer");
    assert_eq!(
        machine.unit_property("demo-worker@three.service", "ActiveState"),
        "inactive"
    );

    // The timer has run its service, by now or soon.
    machine.wait_until(SOON, "the timer elapsed", |machine| {
        machine.run(&["cat", "/run/demo/tick"]).stdout.trim() == "1"
    });

    // The socket starts an instance for each connection, which runs from the venv, as the app's user.
    let said = machine.ok("bash -c 'cat </dev/tcp/127.0.0.1/7001'");
    assert_eq!(said, format!("1 demo {VENV}/bin:/of/all/services:/usr/bin:/bin"));

    // A unit's own PATH stays behind the venv's; the others' is what systemd gives to all.
    let path_of = |unit: &str| machine.environ_of(machine.main_pid(unit))["PATH"].clone();
    assert_eq!(
        path_of("demo-worker@one.service"),
        format!("{VENV}/bin:/opt/own/bin:/usr/bin")
    );
    assert_eq!(
        path_of("demo-main.service"),
        format!("{VENV}/bin:/of/all/services:/usr/bin:/bin")
    );

    // Upheld: it comes back whatever ended it.
    let before = machine.unit_property("demo-upheld.service", "InvocationID");
    machine.ok("systemctl stop demo-upheld.service");
    machine.wait_until(SOON, "it is upheld", |machine| {
        let unit = "demo-upheld.service";
        machine.unit_property(unit, "ActiveState") == "active" && machine.unit_property(unit, "InvocationID") != before
    });

    // The target restarts services, and leaves sockets alone.
    let invocation = |unit: &str| machine.unit_property(unit, "InvocationID");
    let (socket, worker) = (invocation("demo-echo.socket"), invocation("demo-worker@two.service"));
    machine.ok("systemctl restart venvd-demo.target");
    machine.wait_until(SOON, "it is restarted", is_active("demo-worker@two.service"));
    assert_eq!(invocation("demo-echo.socket"), socket);
    assert_ne!(invocation("demo-worker@two.service"), worker);
    Ok(())
}

fn existing_units(os: Os) -> Result<()> {
    let machine = machine(os)?;
    let unit = "demo-init.service";
    machine.ok(&format!("systemctl start {unit}"));
    let exec = machine.unit_property(unit, "ExecStart");
    assert!(
        exec.contains(&format!(
            "path={VENV}/bin/demo-sleep ; argv[]={VENV}/bin/demo-sleep --config-file"
        )),
        "{exec}"
    );
    assert!(!exec.contains("init.d"), "{exec}");
    let environment = machine.environ_of(machine.main_pid(unit));
    assert_eq!(
        (environment["KEPT"].as_str(), environment["VENVD_TAG"].as_str()),
        ("yes", "1")
    );
    assert_eq!(machine.unit_property(unit, "TimeoutStopUSec"), "7s");

    // All lists that name a program of the app run the venv's; the packaged ones are not even there.
    let unit = "demo-packaged.service";
    machine.ok(&format!(
        "systemctl start {unit} && systemctl reload {unit} && systemctl stop {unit}"
    ));
    let said = machine.ok("cat /run/packaged/said");
    let program = format!("{VENV}/bin/demo-packaged");
    let want =
        ["condition", "pre", "start", "post", "reload", "stop", "stop-post"].map(|word| format!("{program} {word}"));
    assert_eq!(said.lines().collect::<Vec<_>>(), want);
    Ok(())
}

#[test]
fn whole_units_start_on_debian_12() -> Result<()> {
    whole_units(Os::Debian12)
}

#[test]
fn whole_units_start_on_debian_13() -> Result<()> {
    whole_units(Os::Debian13)
}

#[test]
fn all_lists_of_existing_units_run_from_the_venv_on_debian_12() -> Result<()> {
    existing_units(Os::Debian12)
}

#[test]
fn all_lists_of_existing_units_run_from_the_venv_on_debian_13() -> Result<()> {
    existing_units(Os::Debian13)
}
