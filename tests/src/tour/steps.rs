//! What each step does and claims.

use std::time::Duration;

use anyhow::Result;

use super::Tour;
use super::services::{self, CINDER, PLACEMENT};

const UNITS: [(&str, &str); 2] = [
    ("placement", "placement-api.service"),
    ("cinder", "cinder-scheduler.service"),
];

pub(super) fn install(tour: &mut Tour) -> Result<()> {
    services::lay_out(&tour.machine);
    tour.before = services::distribution_state(&tour.machine);
    tour.run("dpkg -i /srv/venvd.deb");
    services::declare(&tour.machine);
    let version = tour.run("venvctl --version");
    tour.show("venvd is installed", version.starts_with("venvctl "), version);
    let state = services::distribution_state(&tour.machine);
    tour.show(
        "an app that is not on changes nothing",
        state == tour.before,
        "units, sudo rules and rootwrap.conf are as before",
    );
    Ok(())
}

pub(super) fn build(tour: &mut Tour) -> Result<()> {
    for (app, versions) in [("placement", PLACEMENT), ("cinder", CINDER)] {
        for version in versions {
            tour.run(&format!(
                "venvctl build {app}:{version} --lock /srv/locks/{app}-{version}.txt"
            ));
        }
    }
    let list = tour.run("venvctl list");
    let all = ["placement", "cinder"]
        .iter()
        .zip([PLACEMENT, CINDER])
        .all(|(app, versions)| {
            versions
                .iter()
                .all(|version| list.lines().any(|line| line.contains(&format!("{app}:{version}"))))
        });
    tour.show(
        "four sealed venvs",
        all,
        format!("{} listed", list.lines().count().saturating_sub(1)),
    );
    let again = tour.run(&format!(
        "venvctl build placement:{0} --lock /srv/locks/placement-{0}.txt 2>&1",
        PLACEMENT[0]
    ));
    tour.show(
        "the same lock again is a no-op",
        again.contains("already"),
        again.trim(),
    );
    let other = tour.machine.run(&[
        "venvctl",
        "build",
        "placement:14.0.0",
        "--lock",
        "/srv/locks/placement-15.0.0.txt",
    ]);
    tour.show(
        "another lock under the tag is refused",
        other.status == 1,
        other.stderr.trim(),
    );
    Ok(())
}

pub(super) fn databases(tour: &mut Tour) -> Result<()> {
    for (app, version) in [("placement", PLACEMENT[0]), ("cinder", CINDER[0])] {
        tour.run(&format!("venvctl activate {app}:{version}"));
        tour.run(&format!("venv-activate {app} -- {app}-manage db sync"));
        let owner = tour.machine.ok(&format!("stat -c %U /var/lib/{app}/{app}.sqlite"));
        tour.show(&format!("{app}'s database belongs to its user"), owner == app, owner);
        let prefix = tour.run(&format!(
            "venv-activate {app} -- python -c 'import sys; print(sys.prefix)'"
        ));
        tour.show(
            &format!("{app}'s commands run in the tagged venv"),
            prefix == format!("/var/lib/venvd/venvs/{app}/{version}"),
            prefix,
        );
    }
    Ok(())
}

pub(super) fn reboot(tour: &mut Tour) -> Result<()> {
    tour.run("venvctl enable placement");
    tour.run("venvctl enable cinder");
    (tour.say)("  # reboot");
    tour.machine.reboot()?;
    runs_from(tour, "after the reboot", [PLACEMENT[0], CINDER[0]]);
    Ok(())
}

pub(super) fn rootwrap(tour: &mut Tour) -> Result<()> {
    tour.machine.write("/root/secret", "only root reads this\n", 0o600);
    let sudo = ["sudo", "-n", "cinder-rootwrap", "/etc/cinder/rootwrap.conf"];
    let allowed = tour.machine.user_run(
        "cinder",
        &[&sudo[..], &["dd", "status=none", "if=/root/secret"]].concat(),
    );
    tour.show(
        "dd, which a filter allows, runs as root",
        allowed.stdout == "only root reads this\n",
        allowed.stdout.trim(),
    );
    let refused = tour
        .machine
        .user_run("cinder", &[&sudo[..], &["cat", "/root/secret"]].concat());
    tour.show(
        "cat, which none allows, is refused by rootwrap",
        refused.status == 99,
        refused.stderr.lines().last().unwrap_or_default(),
    );
    for command in [
        &["id"][..],
        &["cinder-rootwrap", "/tmp/mine.conf", "id"],
        &["cinder-manage", "db", "sync"],
    ] {
        let refused = tour.machine.user_run("cinder", &[&["sudo", "-n"], command].concat());
        let line = refused.stderr.lines().last().unwrap_or_default().to_owned();
        tour.show(
            &format!("`sudo {}` is refused by sudo", command.join(" ")),
            refused.status == 1,
            line,
        );
    }
    Ok(())
}

pub(super) fn flip(tour: &mut Tour) -> Result<()> {
    let before = invocations(tour);
    for (app, version) in [("placement", PLACEMENT[1]), ("cinder", CINDER[1])] {
        tour.run(&format!("venvctl activate {app}:{version}"));
    }
    restarted_once(tour, &before);
    runs_from(tour, "after the activation", [PLACEMENT[1], CINDER[1]]);

    let before = invocations(tour);
    for (app, version) in [("placement", PLACEMENT[0]), ("cinder", CINDER[0])] {
        tour.run(&format!(
            "ln -sfn /var/lib/venvd/venvs/{app}/{version} /etc/venvd/active/{app}"
        ));
    }
    for (app, version) in [("placement", PLACEMENT[0]), ("cinder", CINDER[0])] {
        tour.machine
            .wait_until(Duration::from_secs(60), "the flip is in force", |machine| {
                machine
                    .run(&["readlink", &format!("/etc/venvd/committed/{app}")])
                    .stdout
                    .trim()
                    .ends_with(version)
                    && !machine
                        .run(&["test", "-e", &format!("/etc/venvd/pending/{app}")])
                        .success()
            });
    }
    restarted_once(tour, &before);
    runs_from(tour, "after the downgrade by ln -sfn", [PLACEMENT[0], CINDER[0]]);
    let records = tour
        .machine
        .journalctl(&["-o", "cat", "VENVD_APP=cinder", "VENVD_CAUSE=link", "VENVD_RESULT=done"]);
    tour.show(
        "the journal has the result with its fields",
        !records.is_empty(),
        records.trim(),
    );
    Ok(())
}

pub(super) fn disable(tour: &mut Tour) -> Result<()> {
    for app in ["placement", "cinder"] {
        tour.run(&format!("venvctl disable {app}"));
    }
    let after = services::distribution_state(&tour.machine);
    let same = after == tour.before;
    let seen = if same {
        "as before".to_owned()
    } else {
        format!("before:\n{}\nafter:\n{after}", tour.before)
    };
    tour.show(
        "units, sudo rules and rootwrap.conf are as before venvd came",
        same,
        seen,
    );
    let running = tour.machine.ok("systemctl is-active cinder-scheduler.service");
    let pid = tour.machine.main_pid("cinder-scheduler.service");
    let environment = tour.machine.environ_of(pid);
    tour.show(
        "cinder-scheduler runs as the distribution made it",
        running == "active" && !environment.contains_key("VENVD_TAG"),
        running,
    );
    let failed = tour.machine.wait_running();
    tour.show("no unit failed", failed.is_empty(), format!("{failed:?}"));
    Ok(())
}

/// Claims that both services run from these tags, by what systemd says, what the processes are, and what they answer.
fn runs_from(tour: &mut Tour, when: &str, tags: [&str; 2]) {
    for ((app, unit), tag) in UNITS.into_iter().zip(tags) {
        let venv = format!("/var/lib/venvd/venvs/{app}/{tag}");
        tour.machine
            .wait_until(Duration::from_secs(30), "the unit runs", |machine| {
                machine.main_pid(unit) != 0
            });
        let exec = tour.machine.unit_property(unit, "ExecStart");
        tour.show(
            &format!("{unit} {when}: ExecStart"),
            exec.contains(&format!("path={venv}/bin/")),
            format!("{venv}/bin/…"),
        );
        let environment = tour.machine.environ_of(tour.machine.main_pid(unit));
        let variable = |name: &str| environment.get(name).cloned().unwrap_or_default();
        let path = variable("PATH");
        tour.show(
            &format!("{unit} {when}: PATH of its process"),
            path.starts_with(&format!("{venv}/bin:")),
            path,
        );
        let virtual_env = variable("VIRTUAL_ENV");
        tour.show(
            &format!("{unit} {when}: VIRTUAL_ENV of its process"),
            virtual_env == venv,
            virtual_env,
        );
    }
    tour.machine
        .wait_until(Duration::from_secs(30), "placement answers", |machine| {
            services::ask_placement(machine) != "000"
        });
    let status = services::ask_placement(&tour.machine);
    tour.show(&format!("placement {when}: HTTP"), status == "200", status);
    let version = tour.machine.ok("venv-activate placement -- placement-manage --version");
    tour.show(
        &format!("placement-manage {when}: its version"),
        version.ends_with(tags[0]),
        version,
    );
    // A scheduler says its version when it starts: that is the code that runs, whatever its path is called.
    let invocation = tour.machine.unit_property("cinder-scheduler.service", "InvocationID");
    let wanted = format!("(version {})", tags[1]);
    tour.machine.wait_until(
        Duration::from_secs(30),
        "cinder-scheduler says its version",
        |machine| {
            machine
                .journalctl(&["-o", "cat", &format!("_SYSTEMD_INVOCATION_ID={invocation}")])
                .contains("(version ")
        },
    );
    let log = tour
        .machine
        .journalctl(&["-o", "cat", &format!("_SYSTEMD_INVOCATION_ID={invocation}")]);
    let line = log
        .lines()
        .find(|line| line.contains("(version "))
        .unwrap_or_default()
        .to_owned();
    tour.show(
        &format!("cinder-scheduler {when}: says its version"),
        line.contains(&wanted),
        line,
    );
}

/// How often each unit was started in this boot.
fn invocations(tour: &Tour) -> Vec<(String, usize)> {
    UNITS
        .into_iter()
        .map(|(_, unit)| {
            // MESSAGE_ID of "A start job for unit … has finished successfully": systemd.journal-fields(7), sd-messages.h.
            let filter = [
                "-b",
                "-o",
                "cat",
                "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf",
                &format!("UNIT={unit}"),
            ];
            (unit.to_owned(), tour.machine.journalctl(&filter).lines().count())
        })
        .collect()
}

fn restarted_once(tour: &mut Tour, before: &[(String, usize)]) {
    for ((unit, then), (_, now)) in before.iter().cloned().zip(invocations(tour)) {
        tour.show(
            &format!("{unit} restarted once"),
            now == then + 1,
            format!("{then} starts before, {now} after"),
        );
    }
}
