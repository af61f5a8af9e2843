//! An activation that is cut off in the middle: whatever dies, placement serves from a venv that was found healthy.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::site::{Site, TAG, UNIT};
use venvd_tests::{Machine, Os};

const NEXT: &str = "15.0.0";

/// A site with the next release built, and a settle window that leaves time to cut in.
fn site(os: Os) -> Result<Site> {
    let site = Site::new(os)?;
    site.machine.ok(&format!(
        "venvctl build placement:{NEXT} --lock /srv/locks/placement-{NEXT}.txt"
    ));
    site.machine.write(
        "/etc/venvd/apps/placement.toml.d/50-settle.toml",
        "health.settle = \"8s\"\n",
        0o644,
    );
    Ok(site)
}

/// Begins the activation, and returns when the new venv runs but is not judged yet.
fn begin(site: &Site) {
    site.machine.ok(&format!(
        "ln -sfn /var/lib/venvd/venvs/placement/{NEXT} /etc/venvd/active/placement"
    ));
    site.machine
        .wait_until(Duration::from_secs(30), "the new venv runs, unjudged", |machine| {
            let pid = machine.main_pid(UNIT);
            // The process may be gone by the time it is looked at.
            let variable = format!("VENVD_TAG={NEXT}");
            let runs = machine
                .run(&["grep", "-qzxF", &variable, &format!("/proc/{pid}/environ")])
                .success();
            runs && machine.run(&["test", "-e", "/etc/venvd/pending/placement"]).success()
        });
}

/// Returns what is open, in one line.
fn open(machine: &Machine) -> String {
    let open = "cat $(grep -lE '\"ended\": *null' /var/lib/venvd/transactions/[1-9]*.json /dev/null)";
    machine.run(&["sh", "-c", open]).stdout
}

/// Kills venvd as nobody should.
fn kill(site: &Site) {
    site.machine.ok("kill -9 $(systemctl show -P MainPID venvd.service)");
}

/// Waits until this venv is in force, and asserts that nothing is left of the activation.
fn ends_with(site: &Site, tag: &str) {
    site.machine
        .wait_until(Duration::from_secs(60), "no activation is open", |machine| {
            open(machine).is_empty()
        });
    assert_eq!(site.machine.ok("ls /etc/venvd/pending"), "", "a marker is left");
    site.assert_serving(tag);
    for link in ["active", "committed"] {
        let target = site.machine.ok(&format!("readlink /etc/venvd/{link}/placement"));
        assert_eq!(target, format!("/var/lib/venvd/venvs/placement/{tag}"), "{link}");
    }
    assert_eq!(site.machine.wait_running(), Vec::<String>::new());
}

fn cut_off(os: Os) -> Result<()> {
    let mut site = site(os)?;

    begin(&site);
    site.machine.ok("systemctl daemon-reload");
    kill(&site);
    ends_with(&site, NEXT);
    site.machine.ok("venvctl rollback placement");

    begin(&site);
    kill(&site);
    site.machine
        .wait_until(Duration::from_secs(30), "the next venvd goes on", |machine| {
            open(machine).contains("\"resumed\":true")
        });
    kill(&site);
    ends_with(&site, TAG);

    begin(&site);
    site.machine.kill()?;
    site.machine.boot_again()?;
    ends_with(&site, TAG);
    let first = site.machine.journalctl(&[
        "-b",
        "-o",
        "cat",
        "_SYSTEMD_UNIT=placement-api.service",
        "-g",
        "Starting gunicorn",
    ]);
    assert!(
        !first.contains("25.2.0"),
        "code that was not judged ran at boot: {first}"
    );

    // What was stopped on purpose stays so, and is not started by an activation.
    site.machine.ok(&format!(
        "rm /etc/venvd/apps/placement.toml.d/50-settle.toml; systemctl stop {UNIT}"
    ));
    site.machine.ok(&format!("venvctl activate placement:{NEXT}"));
    assert_eq!(site.machine.unit_property(UNIT, "ActiveState"), "inactive");
    site.machine.ok(&format!("systemctl start {UNIT}"));
    site.assert_serving(NEXT);

    // And back by its own verb.
    site.machine.ok("venvctl rollback placement");
    site.assert_serving(TAG);
    Ok(())
}

#[test]
fn an_activation_that_is_cut_off_goes_on_or_is_taken_back_on_debian_12() -> Result<()> {
    cut_off(Os::Debian12)
}

#[test]
fn an_activation_that_is_cut_off_goes_on_or_is_taken_back_on_debian_13() -> Result<()> {
    cut_off(Os::Debian13)
}
