//! A user's own venvs: built, put in force and taken back by an ordinary user, whose own systemd runs the service.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os, Output};

const OLD: &str = "14.0.0";
const NEXT: &str = "15.0.0";
const UNIT: &str = "placement.service";
const CONFIG: &str = "/home/alice/.config";
const VENVS: &str = "/home/alice/.local/share/venvd/venvs/placement";

/// As long as a user's manager or a service of it may take on a busy host.
const SOON: Duration = Duration::from_secs(60);

struct Session(Machine);

impl Session {
    /// A machine with a user whose manager runs without a login, and whose service is defined.
    fn new(os: Os) -> Result<Self> {
        let machine = supplied(os)?.boot()?;
        machine.ok("dpkg -i /srv/venvd.deb");
        machine.ok("useradd --create-home --uid 1000 --shell /bin/bash alice && loginctl enable-linger alice");
        let session = Self(machine);
        session.wait_up();
        session.write(
            "venvd/apps/placement.toml",
            include_str!("../scenario/user/placement.toml"),
        );
        session.write(
            "systemd/user/placement.service",
            include_str!("../scenario/user/placement.service"),
        );
        session.write(
            "placement/placement.conf",
            include_str!("../scenario/user/placement.conf"),
        );
        Ok(session)
    }

    fn wait_up(&self) {
        self.0.wait_until(SOON, "alice's manager is up", |_| {
            let said = self.run("systemctl --user is-system-running").stdout;
            matches!(said.trim(), "running" | "degraded")
        });
    }

    /// Writes a file below `~/.config`.
    fn write(&self, path: &str, text: &str) {
        self.0.write(&format!("{CONFIG}/{path}"), text, 0o644);
        self.0.ok(&format!("chown -R alice:alice {CONFIG}"));
    }

    /// Runs a line as alice, as from a login of hers.
    fn run(&self, line: &str) -> Output {
        let line = format!("export XDG_RUNTIME_DIR=/run/user/1000; cd; {line}");
        self.0.user_run("alice", &["bash", "-c", &line])
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        println!("{line}\n{}{}", output.stdout, output.stderr);
        assert!(output.success(), "`{line}`: {output}");
        output.stdout.trim_end().to_owned()
    }

    fn property(&self, property: &str) -> String {
        self.ok(&format!("systemctl --user show -P {property} {UNIT}"))
    }

    /// Returns the tag that the service's process was started with.
    fn running(&self) -> Option<String> {
        let pid = self.property("MainPID");
        // The process may be gone by the time it is looked at.
        let variables = self.0.run(&["cat", &format!("/proc/{pid}/environ")]).stdout;
        let tag = variables
            .split('\0')
            .find_map(|variable| variable.strip_prefix("VENVD_TAG="));
        tag.map(str::to_owned)
    }

    /// Panics unless placement answers, as alice's process, from this tag.
    #[track_caller]
    fn assert_serving(&self, tag: &str) {
        let said = self.0.run(&[
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--retry",
            "30",
            "--retry-connrefused",
            "--retry-delay",
            "1",
            "http://127.0.0.1:8778/",
        ]);
        assert_eq!(said.stdout, "200", "{said}");
        assert_eq!(self.running().as_deref(), Some(tag));
        let pid = self.property("MainPID");
        assert_eq!(self.0.ok(&format!("stat -c %U /proc/{pid}")), "alice");
    }

    #[track_caller]
    fn assert_links(&self, tag: &str) {
        for link in ["active", "committed"] {
            let target = self.ok(&format!("readlink {CONFIG}/venvd/{link}/placement"));
            assert_eq!(target, format!("{VENVS}/{tag}"), "{link}");
        }
        assert_eq!(
            self.ok(&format!("ls {CONFIG}/venvd/pending")),
            "",
            "an activation is open"
        );
    }

    /// Asks for a venv by a plain link, and returns when it runs but is not judged yet.
    fn begin(&self) {
        self.ok(&format!("ln -sfn {VENVS}/{NEXT} {CONFIG}/venvd/active/placement"));
        self.0.wait_until(SOON, "the new venv runs, unjudged", |machine| {
            self.running().as_deref() == Some(NEXT)
                && machine
                    .run(&["test", "-e", &format!("{CONFIG}/venvd/pending/placement")])
                    .success()
        });
    }

    /// Waits until the old venv is back, and asserts that nothing is left of the activation.
    #[track_caller]
    fn comes_back(&self) {
        self.ends_with(OLD);
    }

    /// Waits until this venv is in force, and asserts that nothing is left of the activation.
    #[track_caller]
    fn ends_with(&self, tag: &str) {
        self.wait_up();
        self.0.wait_until(SOON, "no activation is open", |machine| {
            // Without what a write that was cut off leaves under its temporary name.
            let open = "grep -lE '\"ended\": *null' /home/alice/.local/share/venvd/transactions/[1-9]*.json";
            machine.run(&["sh", "-c", open]).stdout.is_empty()
        });
        self.assert_serving(tag);
        self.assert_links(tag);
    }
}

/// What is the host's business is refused, and says so.
fn refusals(session: &Session) {
    for (fragment, why) in [
        ("user = \"root\"\n", "take `user` out"),
        (
            "sudo.commands = [\"gunicorn x\"]\nuser = \"alice\"\n",
            "take `user` out",
        ),
        (
            "rootwrap.config = \"/etc/nova/rootwrap.conf\"\n",
            "rootwrap.conf is the administrator's",
        ),
    ] {
        session.write("venvd/apps/placement.toml.d/50-rights.toml", fragment);
        let refused = session.run(&format!("venvctl --user build placement:{OLD}"));
        assert_eq!(refused.status, 1, "{refused}");
        assert!(refused.stderr.contains(why), "{refused}");
    }
    session.ok(&format!("rm -r {CONFIG}/venvd/apps/placement.toml.d"));
    assert_eq!(session.run("venvctl --user --root /tmp list").status, 2);
    let refused = session.run("venvctl build placement");
    assert!(!refused.success(), "the host has no such app: {refused}");
    // Nobody else's, not even root's: what runs as alice is hers.
    session.0.ok("mkdir -p /tmp/other && chown 1234 /tmp/other");
    let refused = session.run("XDG_CONFIG_HOME=/tmp/other venvctl --user --json doctor; XDG_DATA_HOME=/tmp/other venvctl --user hold placement:1");
    assert!(!refused.success(), "{refused}");
}

fn lifecycle(os: Os) -> Result<()> {
    let mut session = Session::new(os)?;
    refusals(&session);

    for tag in [OLD, NEXT] {
        session.ok(&format!(
            "venvctl --user build placement:{tag} --lock /srv/locks/placement-{tag}.txt"
        ));
    }
    session.ok("venvctl --user verify --deep placement");
    assert_eq!(session.ok(&format!("stat -c %U {VENVS}/{OLD}/bin/gunicorn")), "alice");
    assert_eq!(session.ok("find ~/.local/share/venvd ~/.config ! -user alice"), "");
    assert!(
        !session
            .0
            .run(&["test", "-e", "/var/lib/venvd/venvs/placement"])
            .success()
    );

    session.ok(&format!(
        "{VENVS}/{OLD}/bin/placement-manage --config-file {CONFIG}/placement/placement.conf db sync"
    ));
    session.ok(&format!("venvctl --user activate placement:{OLD}"));
    session.ok(&format!(
        "venvctl --user enable placement && systemctl --user enable --now {UNIT}"
    ));
    session.assert_serving(OLD);
    session.assert_links(OLD);
    let exec = session.property("ExecStart");
    assert!(exec.contains(&format!("path={VENVS}/{OLD}/bin/gunicorn ;")), "{exec}");

    // One that does not come up is taken back.
    session.write(
        "systemd/user/placement.service.d/bad.conf",
        &format!("[Service]\nExecStartPre=/bin/sh -c 'test \"$VENVD_TAG\" != {NEXT}'\n"),
    );
    session.ok("systemctl --user daemon-reload");
    let failed = session.run(&format!("venvctl --user activate placement:{NEXT}"));
    assert_eq!(failed.status, 3, "{failed}");
    assert!(failed.stderr.contains("journalctl --user -e"), "{failed}");
    session.comes_back();

    // A good one stays, and so does the way back.
    session.ok(&format!(
        "rm {CONFIG}/systemd/user/placement.service.d/bad.conf && systemctl --user daemon-reload"
    ));
    let done = session.ok(&format!("venvctl --user activate --force placement:{NEXT}"));
    let hook = format!("before-stop `placement-manage --config-file {CONFIG}/placement/placement.conf db sync` done");
    assert!(done.contains(&hook), "{done}");
    session.assert_serving(NEXT);
    session.assert_links(NEXT);
    session.ok("venvctl --user rollback placement");
    session.assert_serving(OLD);

    housekeeping(&session);
    restarts(&mut session)?;

    // Nothing else than the user's own unit is left, which names a program that this machine has not.
    session.ok(&format!(
        "systemctl --user stop {UNIT} && venvctl --user disable placement"
    ));
    let exec = session.property("ExecStart");
    assert!(exec.contains("path=/usr/bin/gunicorn ;"), "{exec}");
    assert_eq!(session.property("PartOf"), "");
    Ok(())
}

/// What is in use stays, and what is shown is the truth.
fn housekeeping(session: &Session) {
    let status: serde_json::Value =
        serde_json::from_str(&session.ok("venvctl --user --json status placement")).unwrap_or_default();
    let shown = status.to_string();
    assert!(shown.contains(UNIT) && shown.contains(OLD), "{shown}");
    session.ok("venvctl --user list && venvctl --user doctor");
    session.ok(&format!(
        "venvctl --user hold placement:{NEXT} && venvctl --user unhold placement:{NEXT}"
    ));
    session.ok("venvctl --user gc --keep 0");
    session.ok(&format!("test -d {VENVS}/{OLD} && test -d {VENVS}/{NEXT}"));
    let refused = session.run(&format!("venvctl --user remove placement:{OLD}"));
    assert_eq!(refused.status, 1, "{refused}");
    assert!(
        !session.run("venvctl activate placement:1").success(),
        "the host's venvd is not hers to ask"
    );
}

/// The committed venv comes up with the manager and with the machine, and an activation that is cut off goes on or is taken back.
fn restarts(session: &mut Session) -> Result<()> {
    session.0.ok("systemctl restart user@1000.service");
    session.wait_up();
    session.assert_serving(OLD);
    session.0.reboot()?;
    session.wait_up();
    session.assert_serving(OLD);

    session.write(
        "venvd/apps/placement.toml.d/50-settle.toml",
        "health.settle = \"10s\"\n",
    );
    session.begin();
    session.ok("kill -9 $(systemctl --user show -P MainPID venvd.service)");
    session.ends_with(NEXT);
    session.ok("venvctl --user rollback placement");

    session.begin();
    session.0.ok("systemctl restart user@1000.service");
    session.comes_back();

    session.begin();
    session.0.kill()?;
    session.0.boot_again()?;
    session.comes_back();
    Ok(())
}

#[test]
fn a_user_runs_services_of_his_own_on_debian_12() -> Result<()> {
    lifecycle(Os::Debian12)
}

#[test]
fn a_user_runs_services_of_his_own_on_debian_13() -> Result<()> {
    lifecycle(Os::Debian13)
}
