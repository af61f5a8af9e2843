//! nova, neutron, cinder and manila call for root as they do in service: through rootwrap, its daemon and privsep, from
//! sealed venvs, with the filters that they bring.

use std::time::Instant;

use anyhow::Result;
use serde_json::Value;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

/// A service, and what has to come of its calls.
struct Service {
    app: &'static str,
    version: &'static str,
    sdists: &'static [&'static str],
    /// What it may call by sudo.
    commands: &'static [&'static str],
    calls: &'static [(&'static str, Expect)],
    /// The privsep contexts that have to have a daemon.
    contexts: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Expect {
    /// It returns this, as JSON.
    Returns(&'static str),
    /// The command fails with this exit status: 99 is rootwrap's for what no filter admits, 1 is sudo's.
    Fails(i32),
    /// It is refused, in these words.
    Refused(&'static str),
}

use Expect::{Fails, Refused, Returns};

const SERVICES: [Service; 4] = [
    Service {
        app: "nova",
        version: "33.0.2",
        sdists: &["ovs"],
        commands: &["nova-rootwrap /etc/nova/rootwrap.conf *"],
        calls: &[
            ("makedirs", Returns("null")),
            ("rmdir", Returns("null")),
            ("execute_root", Returns(r#"["0\n",""]"#)),
            ("allowed", Returns(r#"["usage:","privsep-helper"]"#)),
            ("not in the filters", Fails(99)),
            ("another app's", Fails(1)),
            ("without rootwrap", Fails(1)),
        ],
        contexts: &["nova.privsep.sys_admin_pctxt", "os_brick.privileged.default"],
    },
    Service {
        app: "cinder",
        version: "28.0.0",
        sdists: &[],
        commands: &["cinder-rootwrap /etc/cinder/rootwrap.conf *"],
        calls: &[
            ("exists", Returns("true")),
            ("execute_root", Returns(r#"["0\n",""]"#)),
            ("allowed", Returns(r#"["root\n",""]"#)),
            ("not in the filters", Fails(99)),
            ("another app's", Fails(1)),
            ("without rootwrap", Fails(1)),
        ],
        contexts: &["cinder.privsep.sys_admin_pctxt", "os_brick.privileged.default"],
    },
    Service {
        app: "neutron",
        version: "28.0.2",
        sdists: &["ovs"],
        commands: &[
            "neutron-rootwrap /etc/neutron/rootwrap.conf *",
            "neutron-rootwrap-daemon /etc/neutron/rootwrap.conf",
        ],
        calls: &[
            ("path_exists", Returns("true")),
            ("get_link_id", Returns("1")),
            ("get_link_attributes", Returns("65536")),
            ("netns add", Returns(r#""""#)),
            ("list_netns", Returns(r#"["calls"]"#)),
            ("netns exec", Returns(r#""""#)),
            ("netns delete", Returns(r#""""#)),
            (
                "of the venv",
                Returns(r#"["usage:","neutron-keepalived-state-change"]"#),
            ),
            // Not as 99: oslo.rootwrap's daemon has closed its standard error, so writing its warning there fails.
            ("not in the filters", Refused("RemoteError")),
            ("another app's daemon", Fails(1)),
            ("allowed", Returns(r#""lo:""#)),
            ("not in the filters, without the daemon", Fails(99)),
            ("another app's", Fails(1)),
            ("without rootwrap", Fails(1)),
        ],
        contexts: &[
            "neutron.privileged.default",
            "neutron.privileged.link_cmd",
            "neutron.privileged.namespace_cmd",
        ],
    },
    // It calls `sudo privsep-helper`, unless it is told to go through rootwrap.
    Service {
        app: "manila",
        version: "22.0.2",
        sdists: &[],
        commands: &["manila-rootwrap /etc/manila/rootwrap.conf *"],
        calls: &MANILA,
        contexts: &["manila.privsep.sys_admin_pctxt"],
    },
];

const MANILA: [(&str, Expect); 5] = [
    ("mkdir", Returns("null")),
    ("rmdir", Returns("null")),
    ("allowed", Returns(r#"["root\n",""]"#)),
    ("not in the filters", Fails(99)),
    ("another app's", Fails(1)),
];

impl Service {
    fn venv(&self) -> String {
        format!("/var/lib/venvd/venvs/{}/{}", self.app, self.version)
    }

    fn definition(&self) -> String {
        let Self {
            app, sdists, commands, ..
        } = self;
        format!(
            "user = \"{app}\"\n[build]\npackages = [\"{app}\"]\nsdists = {sdists:?}\n\
             [build.index]\nfind-links = [\"/srv/wheels\"]\nno-index = true\n\
             [sudo]\ncommands = {commands:?}\n[rootwrap]\nconfig = \"/etc/{app}/rootwrap.conf\"\n"
        )
    }

    /// Puts it in force, with the rootwrap.conf and the filters that it brings.
    fn put_in_force(&self, machine: &Machine) {
        let Self { app, version, .. } = self;
        let venv = self.venv();
        machine.ok(&format!(
            "useradd --system --user-group --create-home --home-dir /var/lib/{app} --shell /usr/sbin/nologin {app} && \
             install -m 644 -D -t /etc/{app} /srv/rootwrap/{app}.conf"
        ));
        machine.write(&format!("/etc/venvd/apps/{app}.toml"), self.definition(), 0o644);
        for line in [
            format!("venvctl build {app}:{version} --lock /srv/locks/{app}-{version}.txt"),
            format!("cp -r {venv}/etc/{app}/rootwrap.conf {venv}/etc/{app}/rootwrap.d /etc/{app}/"),
            format!("venvctl activate {app}:{version}"),
            format!("venvctl enable {app}"),
        ] {
            let begin = Instant::now();
            machine.ok(&line);
            println!("{:7.1} s  {line}", begin.elapsed().as_secs_f64());
        }
    }

    /// Runs its calls in the venv's python, as a service of its user.
    fn report(&self, machine: &Machine) -> Value {
        let begin = Instant::now();
        let (user, python) = (format!("--uid={}", self.app), format!("{}/bin/python", self.venv()));
        let script = format!("/srv/rootwrap/{}_calls.py", self.app);
        let said = machine.run(&[
            "systemd-run",
            "--wait",
            "--pipe",
            "--quiet",
            "--collect",
            &user,
            &python,
            &script,
        ]);
        println!("{:7.1} s  {script}", begin.elapsed().as_secs_f64());
        let line = said
            .stdout
            .lines()
            .find(|line| line.starts_with('{'))
            .unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{script} gives no report ({error}): {said}"))
    }

    fn assert_calls(&self, report: &Value, expected: &[(&str, Expect)]) {
        for (name, expect) in expected {
            let came = &report["calls"][name];
            let holds = match expect {
                Returns(text) => came.get("returned") == serde_json::from_str(text).ok().as_ref(),
                Fails(status) => came["status"] == *status,
                Refused(words) => came["refused"].as_str().is_some_and(|said| said.contains(words)),
            };
            assert!(holds, "{}: {name}: {came}", self.app);
        }
        let made = report["calls"].as_object().map(serde_json::Map::len);
        assert_eq!(made, Some(expected.len()), "each call is in the table: {report:#}");
    }

    /// Each daemon is root's, runs this venv's program in this venv's python, and has its context's capabilities alone.
    fn assert_daemons(&self, report: &Value) {
        for context in self.contexts {
            let daemon = &report["daemons"][context];
            self.assert_runs(daemon, "privsep-helper");
            let code = daemon["code"].as_str().unwrap_or_default();
            assert!(
                code.starts_with(&format!("{}/lib/python", self.venv())),
                "{context}: {daemon}"
            );
            assert_ne!(daemon["wanted"], "0000000000000000", "{context}");
            assert_eq!(daemon["effective"], daemon["wanted"], "{context}");
            assert_eq!(daemon["permitted"], daemon["wanted"], "{context}");
        }
        if let Some(daemon) = report["daemons"].get("rootwrap") {
            self.assert_runs(daemon, &format!("{}-rootwrap-daemon", self.app));
        }
    }

    fn assert_runs(&self, daemon: &Value, program: &str) {
        let bin = format!("{}/bin", self.venv());
        let python = daemon["argv"][0].as_str().unwrap_or_default();
        assert!(python.starts_with(&format!("{bin}/python")), "{daemon}");
        assert_eq!(daemon["argv"][1], format!("{bin}/{program}"));
    }
}

/// Without the setting, manila calls `sudo privsep-helper`: that is refused, but for a definition that has it as unsafe.
fn manila_without_rootwrap(machine: &Machine, manila: &Service) {
    machine.ok("sed -i /helper_command/d /etc/manila/manila.conf");
    let refused = [("mkdir", Refused("non-zero")), ("rmdir", Refused("non-zero"))];
    manila.assert_calls(&manila.report(machine), &[&refused, &MANILA[2..]].concat());

    let fragment = "[sudo]\nunsafe = [\"privsep-helper --config-file /etc/manila/manila.conf *\"]\n";
    machine.write("/etc/venvd/apps/manila.toml.d/50-unsafe.toml", fragment, 0o644);
    let said = machine.run(&["venvctl", "policy", "apply", "manila"]);
    assert!(
        said.success() && said.to_string().contains("whoever is manila is root"),
        "{said}"
    );
    let report = manila.report(machine);
    manila.assert_calls(&report, &MANILA);
    manila.assert_daemons(&report);
}

fn services_call_for_root(os: Os) -> Result<()> {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/rootwrap");
    let machine = supplied(os)?.bind_ro(scenario, "/srv/rootwrap").boot()?;
    machine.ok("dpkg -i /srv/venvd.deb");
    for service in &SERVICES {
        service.put_in_force(&machine);
    }
    for service in &SERVICES {
        let report = service.report(&machine);
        service.assert_calls(&report, service.calls);
        service.assert_daemons(&report);
    }
    manila_without_rootwrap(&machine, &SERVICES[3]);
    Ok(())
}

// The builds take minutes, so it is one release: the one that `six` does not build for.
#[test]
fn services_call_for_root_on_debian_13() -> Result<()> {
    services_call_for_root(Os::Debian13)
}
