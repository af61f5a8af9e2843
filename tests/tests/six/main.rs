//! Six OpenStack services: built, sealed, moved to another directory by install, verified, and started from there; and
//! their management commands, typed as if there were no venv.

mod commands;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use venvd_tests::tour::{declare, lay_out, supplied};
use venvd_tests::{Machine, Os};

/// A service, and how to see that it is really up.
struct Service {
    app: &'static str,
    version: &'static str,
    unit: &'static str,
    /// Commands of the venv that are run before it starts.
    set_up: &'static [&'static str],
    answers: Answer,
}

enum Answer {
    /// What curl is given, and the status of HTTP.
    Http(&'static str, &'static str),
    /// What the journal of its unit has to say.
    Journal(&'static str),
}

const SERVICES: [Service; 6] = [
    Service {
        app: "placement",
        version: "15.0.0",
        unit: "placement-api.service",
        set_up: &["placement-manage db sync"],
        answers: Answer::Http("http://127.0.0.1:8778/", "200"),
    },
    Service {
        app: "cinder",
        version: "28.0.0",
        unit: "cinder-scheduler.service",
        set_up: &["cinder-manage db sync"],
        answers: Answer::Journal("(version 28.0.0)"),
    },
    Service {
        app: "keystone",
        version: "29.1.0",
        unit: "keystone-api.service",
        set_up: &[
            "keystone-manage db_sync",
            "keystone-manage fernet_setup --keystone-user keystone --keystone-group keystone",
            "keystone-manage bootstrap --bootstrap-password secret --bootstrap-public-url http://127.0.0.1:5000/v3",
        ],
        // A token: the database, the keys and the application all work.
        answers: Answer::Http(
            "-H Content-Type:application/json -d @/srv/six/token.json http://127.0.0.1:5000/v3/auth/tokens",
            "201",
        ),
    },
    Service {
        app: "glance",
        version: "32.0.0",
        unit: "glance-api.service",
        set_up: &["glance-manage db_sync"],
        answers: Answer::Http("http://127.0.0.1:9292/versions", "200"),
    },
    Service {
        app: "neutron",
        version: "28.0.2",
        unit: "neutron-api.service",
        set_up: &["python /srv/six/neutron-tables.py"],
        answers: Answer::Http("http://127.0.0.1:9696/v2.0/networks", "200"),
    },
    Service {
        app: "nova",
        version: "33.0.2",
        unit: "nova-novncproxy.service",
        set_up: &[],
        answers: Answer::Http("http://127.0.0.1:6080/token.json", "200"),
    },
];

/// The point release before nova's: nearly all of it is the same.
const OLDER_NOVA: &str = "33.0.1";

/// The programs that are no Python's, and so can't tell where they run.
const NO_PYTHON: [&str; 0] = [];

impl Service {
    fn venv(&self) -> String {
        format!("/var/lib/venvd/venvs/{}/{}", self.app, self.version)
    }
}

/// Runs a shell line that has to succeed, and says how long it took.
fn timed(machine: &Machine, line: &str) -> String {
    let begin = Instant::now();
    let said = machine.ok(line);
    println!("{:7.1} s  {line}", begin.elapsed().as_secs_f64());
    said
}

/// All venvs that this test has: application and tag.
fn venvs() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES
        .iter()
        .map(|service| (service.app, service.version))
        .chain([("nova", OLDER_NOVA)])
}

fn boot(os: Os) -> Result<Machine> {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/six");
    let machine = supplied(os)?.bind_ro(scenario, "/srv/six").boot()?;
    machine.ok("dpkg -i /srv/venvd.deb");
    lay_out(&machine);
    declare(&machine);
    for app in ["keystone", "glance", "neutron", "nova"] {
        machine.ok(&format!(
            "useradd --system --user-group --create-home --home-dir /var/lib/{app} --shell /usr/sbin/nologin {app} && \
             install -m 644 /srv/six/{app}.toml /etc/venvd/apps/ && \
             install -m 644 -D -t /etc/{app} /srv/six/{app}*.conf"
        ));
    }
    commands::expose(&machine);
    Ok(machine)
}

/// Builds all, carries what was built away, and installs from there: nothing is left at the place of the build.
fn build_and_move(machine: &Machine) {
    for (app, version) in venvs() {
        timed(
            machine,
            &format!("venvctl build {app}:built-{version} --lock /srv/locks/{app}-{version}.txt"),
        );
    }
    println!("{}", machine.ok("venvctl list"));
    machine.ok("mkdir /srv/carried && mv /var/lib/venvd/venvs /var/lib/venvd/store /srv/carried/");
    for (app, version) in venvs() {
        timed(
            machine,
            &format!("venvctl install /srv/carried/venvs/{app}/built-{version} {app}:{version}"),
        );
    }
    machine.ok("rm -r /srv/carried");
}

/// No program of any venv may run another environment than its own: that is what a missed shebang does.
fn programs_run_at_home(machine: &Machine) {
    let paths: Vec<_> = venvs()
        .map(|(app, version)| format!("/var/lib/venvd/venvs/{app}/{version}"))
        .collect();
    let begin = Instant::now();
    let command = [
        &["python3", "-I", "/srv/six/probe.py"][..],
        &paths.iter().map(String::as_str).collect::<Vec<_>>(),
    ]
    .concat();
    let said = machine.user_run("nobody", &command);
    assert!(said.success(), "{said}");
    println!("{:7.1} s  every program of every venv", begin.elapsed().as_secs_f64());
    let answers: Vec<Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_default())
        .collect();
    assert_eq!(answers.len(), paths.len(), "{said}");
    for answer in &answers {
        println!(
            "{:>12} programs in {}; no Python: {}",
            answer["programs"], answer["venv"], answer["other"]
        );
        assert_eq!(answer["elsewhere"], serde_json::json!({}), "run elsewhere: {answer}");
        assert_eq!(
            answer["missing"],
            serde_json::json!([]),
            "declared, but not there: {answer}"
        );
        assert_eq!(answer["other"], serde_json::json!(NO_PYTHON), "{answer}");
        assert!(answer["programs"].as_u64() >= Some(20), "{answer}");
    }
}

fn start(machine: &Machine) {
    for service in &SERVICES {
        let Service { app, version, unit, .. } = service;
        timed(machine, &format!("venvctl activate {app}:{version}"));
        for line in service.set_up {
            timed(machine, &format!("venv-activate {app} -- {line}"));
        }
        timed(machine, &format!("venvctl enable {app}"));
        timed(machine, &format!("systemctl restart {unit}"));
    }
}

fn assert_serving(machine: &Machine, service: &Service) {
    let unit = service.unit;
    machine.wait_until(Duration::from_secs(120), unit, |machine| match service.answers {
        Answer::Http(request, status) => {
            let line = format!("curl -sS -o /dev/null -w '%{{http_code}}' --max-time 30 {request} || true");
            machine.ok(&line) == status
        }
        Answer::Journal(text) => machine.journalctl(&["-b", "-o", "cat", "-u", unit]).contains(text),
    });
    assert_eq!(machine.unit_property(unit, "NRestarts"), "0", "{unit}");
    assert_runs_from(machine, service);
    println!("{unit} serves from {}", service.venv());
}

/// What the process really runs, not what its unit says.
fn assert_runs_from(machine: &Machine, service: &Service) {
    let pid = machine.main_pid(service.unit);
    match machine.environ_of(pid).get("VENVD_TAG") {
        Some(tag) => assert_eq!(tag, service.version, "{}", service.unit),
        // One that sets its title (neutron brings setproctitle) writes that over its environment; what it has mapped
        // tells then.
        None => {
            let maps = machine.read(&format!("/proc/{pid}/maps"));
            assert!(
                maps.contains(&format!("{}/", service.venv())),
                "{}: {maps}",
                service.unit
            );
        }
    }
}

/// What an operator sees of them: sizes, what goes, and what a point release brings.
fn look_after(machine: &Machine) {
    println!("{}", timed(machine, "venvctl list"));
    let diff = timed(machine, &format!("venvctl diff nova:{OLDER_NOVA} nova:33.0.2"));
    println!("{diff}");
    assert!(
        diff.contains("nova") && !diff.contains("oslo"),
        "one distribution differs: {diff}"
    );
    let kept = timed(machine, "venvctl gc --dry-run");
    println!("{kept}");
    for (app, version) in venvs() {
        assert!(kept.contains(&format!("{app}:{version}")), "{app}:{version}: {kept}");
    }
    timed(machine, "venvctl gc");
    timed(machine, "venvctl verify");
}

fn six_services(os: Os) -> Result<()> {
    let machine = boot(os)?;
    build_and_move(&machine);
    timed(&machine, "venvctl verify");
    programs_run_at_home(&machine);
    start(&machine);
    for service in &SERVICES {
        assert_serving(&machine, service);
    }
    commands::answer(&machine);
    look_after(&machine);
    for service in &SERVICES {
        assert_serving(&machine, service);
    }
    println!(
        "{}",
        machine.ok("df -h /var/lib/venvd | tail -1; du -sh /var/lib/venvd")
    );
    Ok(())
}

#[test]
fn six_services_are_built_moved_verified_and_started_on_debian_12() -> Result<()> {
    six_services(Os::Debian12)
}
