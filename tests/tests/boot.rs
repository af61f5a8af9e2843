//! What may be wrong when a machine boots: the machine comes up, what is sound runs, and what is not says why.

use std::time::{Duration, Instant};

use anyhow::Result;
use venvd_tests::site::{Site, TAG, UNIT};
use venvd_tests::{Machine, Os};

/// Longer than any boot takes here, and shorter than the 90 seconds for which systemd waits for what does not come.
const BOOT: Duration = Duration::from_secs(60);

/// How long venvd may take to put things right after a boot.
const SOON: Duration = Duration::from_secs(60);

/// The unit of another app, which nothing that is wrong with placement may touch.
const OTHER: &str = "other.service";

/// An app of its own, from one small package.
const DEFINITION: &str = r#"
enabled = true
user = "other"
[build]
packages = ["six"]
[build.index]
find-links = ["/srv/wheels"]
no-index = true
[units."other.service"]
whole = true
exec = "python -c 'import six, time; time.sleep(1e6)'"
Service.Type = "exec"
Install.WantedBy = "multi-user.target"
[health]
settle = "1s"
"#;

/// What a generator sees of the venvs: they are not mounted yet.
const PROBE: &str = "#!/bin/sh\nls -A /var/lib/venvd >/run/seen-by-generator 2>&1\n";

const MOUNT: &str = "var-lib-venvd.mount";

fn venv(tag: &str) -> String {
    format!("/var/lib/venvd/venvs/placement/{tag}")
}

/// A machine with both apps in force.
fn site(os: Os) -> Result<Site> {
    let site = Site::late(os)?;
    let machine = &site.machine;
    machine.ok("useradd --system --user-group other");
    machine.write("/etc/venvd/apps/other.toml", DEFINITION, 0o644);
    machine.ok(
        "set -- /srv/wheels/six-*.whl; version=${1#*/six-}; version=${version%%-*}; \
         echo \"six==$version --hash=sha256:$(sha256sum <\"$1\" | cut -d' ' -f1)\" >/root/six.txt",
    );
    machine
        .ok("venvctl build other:1 --lock /root/six.txt && venvctl activate other:1 && systemctl start other.service");
    machine.write("/etc/systemd/system-generators/probe", PROBE, 0o755);
    Ok(site)
}

/// Reboots: the machine comes up in time and not in an emergency, and the other app runs.
fn reboot(machine: &mut Machine) -> Result<()> {
    let begin = Instant::now();
    machine.reboot()?;
    assert!(begin.elapsed() < BOOT, "the boot took {:?}", begin.elapsed());
    assert_eq!(machine.unit_property("multi-user.target", "ActiveState"), "active");
    for target in ["emergency.target", "rescue.target"] {
        assert_eq!(machine.unit_property(target, "ActiveState"), "inactive", "{target}");
    }
    Ok(())
}

fn assert_other_runs(machine: &Machine) {
    machine.wait_until(SOON, "the other app runs", |machine| {
        machine.unit_property(OTHER, "ActiveState") == "active"
    });
    let environment = machine.environ_of(machine.main_pid(OTHER));
    assert_eq!(environment.get("VENVD_TAG").map(String::as_str), Some("1"));
}

/// What `venvctl status` says of placement.
fn status(machine: &Machine) -> serde_json::Value {
    let said = machine.run(&["venvctl", "--json", "status"]).stdout;
    println!("{}", machine.run(&["venvctl", "status"]));
    let status: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let apps = status["apps"].as_array().cloned().unwrap_or_default();
    let app = apps.into_iter().find(|app| app["app"] == "placement");
    app.unwrap_or_default()
}

/// Asserts that the status names this as a problem of placement.
fn assert_problem(machine: &Machine, words: &[&str]) {
    let problems = status(machine)["problems"].to_string();
    for word in words {
        assert!(problems.contains(word), "{word} is not in {problems}");
    }
}

/// The venvs come after the generators: the units wait for them.
fn late_var(site: &mut Site) -> Result<()> {
    reboot(&mut site.machine)?;
    let machine = &site.machine;
    assert_eq!(
        machine.read("/run/seen-by-generator"),
        "",
        "the venvs were mounted early"
    );
    site.assert_serving(TAG);
    assert_other_runs(machine);
    let moment = |unit: &str, property: &str| -> u64 {
        let said = machine.unit_property(unit, property);
        said.parse()
            .unwrap_or_else(|_| panic!("{property} of {unit} is {said}"))
    };
    let mounted = moment(MOUNT, "ActiveEnterTimestampMonotonic");
    assert!(mounted > 0 && moment(UNIT, "ExecMainStartTimestampMonotonic") > mounted);
    for property in ["Requires", "After"] {
        let units = machine.unit_property(UNIT, property);
        assert!(units.split(' ').any(|unit| unit == MOUNT), "{property}={units}");
    }
    Ok(())
}

/// The venvs' file system can't be mounted: their units fail and say so, and nothing else does.
fn missing_file_system(site: &mut Site) -> Result<()> {
    let machine = &mut site.machine;
    // As `nofail` in fstab does: else it is the mount itself that sends the boot to the emergency shell. (What is missing
    // systemd would make, for a bind mount; a file can't be mounted on a directory.)
    machine.ok(
        "cd /etc/systemd/system && mv local-fs.target.requires local-fs.target.wants && \
         sed -i s,What=/late,What=/etc/hostname, var-lib-venvd.mount",
    );
    reboot(machine)?;
    assert_eq!(machine.unit_property(MOUNT, "ActiveState"), "failed");
    for unit in [UNIT, OTHER] {
        assert_eq!(machine.unit_property(unit, "ActiveState"), "inactive", "{unit}");
        let journal = machine.journalctl(&["--boot", "--output=cat", &format!("--unit={unit}")]);
        assert!(journal.contains("Dependency failed for"), "{journal}");
        assert!(
            journal.contains(&format!("{unit}/start failed with result 'dependency'")),
            "{journal}"
        );
    }
    assert_problem(
        machine,
        &["is in force and not there", "/var/lib/venvd/venvs/placement/14.0.0"],
    );
    for link in ["active", "committed"] {
        assert_eq!(
            machine.ok(&format!("readlink /etc/venvd/{link}/placement")),
            venv(TAG),
            "{link}"
        );
    }
    // It is there again at the next boot, and all is as before.
    machine.ok("sed -i s,What=/etc/hostname,What=/late, /etc/systemd/system/var-lib-venvd.mount");
    reboot(machine)?;
    site.assert_serving(TAG);
    assert_other_runs(&site.machine);
    Ok(())
}

/// A definition that nobody can read: the app goes on as it was last accepted, and the others as ever.
fn corrupt_definition(site: &mut Site) -> Result<()> {
    let machine = &mut site.machine;
    machine.ok("cp /etc/venvd/apps/placement.toml /root; printf 'units = [\\0\\377' >/etc/venvd/apps/placement.toml");
    // And one that never was accepted.
    machine.write(
        "/etc/venvd/apps/broken.toml",
        "enabled = true\nno-such-key = 1\n",
        0o644,
    );
    reboot(machine)?;
    site.assert_serving(TAG);
    assert_other_runs(&site.machine);
    assert_problem(&site.machine, &["/etc/venvd/apps/placement.toml"]);
    let report = site.machine.read("/run/systemd/generator/venvd-report.json");
    assert!(
        report.contains("no-such-key") && report.contains("last one that was accepted"),
        "{report}"
    );
    site.machine
        .ok("cp /root/placement.toml /etc/venvd/apps/placement.toml; rm /etc/venvd/apps/broken.toml");
    Ok(())
}

/// What is asked for does not exist: what is in force runs, and the request is taken back.
fn dangling_active_link(site: &mut Site) -> Result<()> {
    let machine = &mut site.machine;
    // With venvd at rest, so that it finds the link at the next boot.
    machine.ok("systemctl stop venvd.path venvd.service");
    machine.ok(&format!("ln -sfn {} /etc/venvd/active/placement", venv("0.0.0")));
    reboot(machine)?;
    site.assert_serving(TAG);
    assert_other_runs(&site.machine);
    site.machine.wait_until(SOON, "the active link is put back", |machine| {
        machine.ok("readlink /etc/venvd/active/placement") == venv(TAG)
    });
    site.assert_serving(TAG);
    Ok(())
}

/// What is in force does not exist: its unit fails and names it, and an activation puts it right.
fn dangling_committed_link(site: &mut Site) -> Result<()> {
    let machine = &mut site.machine;
    machine.ok("systemctl stop venvd.path venvd.service");
    machine.ok(&format!("ln -sfn {} /etc/venvd/committed/placement", venv("0.0.0")));
    reboot(machine)?;
    assert_other_runs(machine);
    machine.wait_until(SOON, "the unit has failed or is restarted", |machine| {
        machine.unit_property(UNIT, "ActiveState") == "failed" || machine.main_pid(UNIT) != 0
    });
    let journal = machine.journalctl(&["--boot", "--output=cat", &format!("--unit={UNIT}")]);
    assert!(
        journal.contains(&venv("0.0.0")) && journal.contains("203/EXEC"),
        "{journal}"
    );
    println!("{}", status(machine));
    println!(
        "{}",
        machine.journalctl(&["--boot", "--output=cat", "--unit=venvd.service"])
    );
    machine.ok(&format!("venvctl activate placement:{TAG} && systemctl start {UNIT}"));
    site.assert_serving(TAG);
    Ok(())
}

/// The interpreter of what is in force has gone: the previous venv stands in for it, and without any the machine boots
/// all the same.
fn missing_interpreter(site: &mut Site) -> Result<()> {
    const NEXT: &str = "15.0.0";
    let machine = &mut site.machine;
    let python = format!("python{}", machine.os().python());
    machine.ok(&format!(
        "mkdir -p /usr/lib/next/bin && cp /usr/bin/{python} /usr/lib/next/bin/"
    ));
    machine.write(
        "/etc/venvd/apps/placement.toml.d/50-next.toml",
        format!("build.python = \"/usr/lib/next/bin/{python}\"\n"),
        0o644,
    );
    machine.ok(&format!(
        "venvctl build placement:{NEXT} --lock /srv/locks/placement-{NEXT}.txt && venvctl activate placement:{NEXT}"
    ));
    site.assert_serving(NEXT);

    site.machine.ok("mv /usr/lib/next /usr/lib/gone");
    reboot(&mut site.machine)?;
    site.assert_serving(TAG);
    assert_other_runs(&site.machine);
    assert_problem(&site.machine, &["/usr/lib/next/bin", "stands in"]);
    assert_eq!(status(&site.machine)["why"], "fell-back-to-previous");

    // No venv of this machine can run now; what the distribution has is in force, here nothing.
    let machine = &mut site.machine;
    machine.ok(&format!("mv /usr/bin/{python} /usr/lib/gone/"));
    reboot(machine)?;
    for unit in [UNIT, OTHER] {
        assert_eq!(machine.unit_property(unit, "LoadState"), "not-found", "{unit}");
    }
    assert_problem(machine, &["can't run"]);
    assert_eq!(status(machine)["why"], "distribution");

    machine.ok(&format!(
        "mv /usr/lib/gone/{python} /usr/bin/ && cp /usr/bin/{python} /usr/lib/gone/bin/"
    ));
    machine.ok("mv /usr/lib/gone /usr/lib/next");
    reboot(machine)?;
    site.assert_serving(NEXT);
    assert_other_runs(&site.machine);
    Ok(())
}

fn faults(os: Os) -> Result<()> {
    let mut site = site(os)?;
    late_var(&mut site)?;
    missing_file_system(&mut site)?;
    corrupt_definition(&mut site)?;
    dangling_active_link(&mut site)?;
    dangling_committed_link(&mut site)?;
    missing_interpreter(&mut site)
}

#[test]
fn what_is_wrong_at_boot_stays_where_it_is_on_debian_12() -> Result<()> {
    faults(Os::Debian12)
}

#[test]
fn what_is_wrong_at_boot_stays_where_it_is_on_debian_13() -> Result<()> {
    faults(Os::Debian13)
}
