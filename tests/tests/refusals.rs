//! Bad input on a host that serves: each case is a clear error with its own code, and what ran before still runs.

use std::time::Duration;

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::site::{Site, TAG, UNIT};

const VENVS: &str = "ls /var/lib/venvd/venvs/placement";
const STAGING: &str = "find /var/lib/venvd/staging -mindepth 1 -maxdepth 1 -type d";

/// Asserts exit status 1, the code, and that the message names all of `words`.
fn refused(answer: (i32, String, String), code: &str, words: &[&str]) {
    let (status, said, message) = answer;
    assert_eq!((status, said.as_str()), (1, code), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn all(os: Os) -> Result<()> {
    let site = Site::new(os)?;
    unknown_key(&site);
    unknown_tag(&site);
    ordinary_users(&site);
    flip_to_nowhere(&site);
    missing_program(&site);
    python_that_does_not_fit(&site);
    other_packages_under_one_tag(&site);
    failing_builds(&site);
    no_space(&site);
    // Last: this one does restart the service, twice.
    broken_service(&site);
    off_with_a_broken_definition(&site);
    Ok(())
}

fn unknown_key(site: &Site) {
    let fragment = "/etc/venvd/apps/placement.toml.d/50-typo.toml";
    site.machine
        .write(fragment, "[units.\"placement-api.service\"]\nexecc = \"x\"\n", 0o644);
    let words = ["50-typo.toml:2:1: unknown field `execc`", "2 | execc = \"x\"", "^^^^^"];
    refused(site.venvctl(&["build", "placement:x"]), "invalid-definition", &words);
    refused(site.venvctl(&["activate", "placement:14.0.0"]), "app-broken", &words);
    // A daemon-reload by anybody must not take the unit away.
    site.machine.ok("systemctl daemon-reload");
    let exec = site.machine.unit_property(UNIT, "ExecStart");
    assert!(exec.contains(&format!("/placement/{TAG}/bin/gunicorn")), "{exec}");
    site.machine.ok(&format!("rm {fragment}"));
    site.assert_untouched();
}

fn unknown_tag(site: &Site) {
    refused(
        site.venvctl(&["activate", "placement:99"]),
        "no-such-venv",
        &["placement:99", "venvctl list"],
    );
    refused(site.venvctl(&["activate", "nothing:1"]), "unknown-app", &["nothing"]);
    refused(site.venvctl(&["rollback", "placement"]), "no-previous", &["placement"]);
    site.assert_untouched();
}

/// They may look, the app's own user may run its commands, and what needs root says so.
fn ordinary_users(site: &Site) {
    let of = |user: &str, command: &[&str]| site.machine.user_run(user, command);
    let status = of("nobody", &["venvctl", "status"]);
    assert!(status.success(), "{status}");
    assert!(status.stdout.contains("placement is on: 14.0.0 in force"), "{status}");
    assert!(!status.stdout.contains('!'), "a false alarm: {status}");
    let version = of(
        "placement",
        &["venv-activate", "placement", "placement-manage", "--version"],
    );
    assert_eq!((version.status, version.stdout.trim()), (0, TAG), "{version}");
    for command in [
        &["venvctl", "activate", "placement:14.0.0"][..],
        &["venvctl", "disable", "placement"],
        &["venvctl", "remove", "placement:14.0.0"],
    ] {
        let denied = of("nobody", command);
        assert_eq!(denied.status, 1, "{denied}");
        assert!(denied.stderr.contains("run it as root"), "{denied}");
    }
    site.assert_untouched();
}

/// By another tool: nobody waits for an answer, so the link is put back, and the journal says why.
fn flip_to_nowhere(site: &Site) {
    for target in [
        "/var/lib/venvd/venvs/placement/99",
        "/tmp",
        "/var/lib/venvd/venvs/cinder/1",
    ] {
        site.machine
            .ok(&format!("ln -sfn {target} /etc/venvd/active/placement"));
        let venv = format!("/var/lib/venvd/venvs/placement/{TAG}");
        site.machine
            .wait_until(Duration::from_secs(10), "the link is put back", |machine| {
                machine.run(&["readlink", "/etc/venvd/active/placement"]).stdout.trim() == venv
            });
        let journal = site
            .machine
            .journalctl(&["-o", "cat", "VENVD_APP=placement", "VENVD_RESULT=refused"]);
        assert!(
            journal.contains(target.rsplit('/').next().unwrap_or(target)),
            "{journal}"
        );
    }
    site.assert_untouched();
}

fn missing_program(site: &Site) {
    site.machine
        .ok("venvctl build placement:bare --lock /srv/locks/rootwrap-a.txt");
    refused(
        site.venvctl(&["activate", "placement:bare"]),
        "missing-program",
        &["placement:bare", "gunicorn"],
    );
    site.assert_untouched();
    site.machine.ok("venvctl remove placement:bare");
    refused(site.venvctl(&["remove", &format!("placement:{TAG}")]), "linked", &[TAG]);
}

/// The interpreter that a venv is bound to is replaced by one of another minor version.
fn python_that_does_not_fit(site: &Site) {
    let machine = &site.machine;
    machine.ok("mkdir -p /opt/python && cp $(readlink -f /usr/bin/python3) /opt/python/python3");
    let fragment = "/etc/venvd/apps/placement.toml.d/50-python.toml";
    machine.write(fragment, "build.python = \"/opt/python/python3\"\n", 0o644);
    machine.ok("venvctl build placement:other --lock /srv/locks/placement-14.0.0.txt");
    machine.ok("rm /opt/python/python3");
    refused(
        site.venvctl(&["activate", "placement:other"]),
        "no-python",
        &["/opt/python/python3"],
    );
    // A python of another version, as far as anybody who asks it can tell.
    machine.write(
        "/opt/python/python3",
        "#!/bin/sh\n/usr/bin/python3 \"$@\" | sed -E 's/3\\.1[0-9]/3.99/g; s/cpython-31[0-9]/cpython-399/g'\n",
        0o755,
    );
    refused(
        site.venvctl(&["activate", "placement:other"]),
        "python-mismatch",
        &["placement:other", "3.99"],
    );
    machine.ok(&format!("rm -r {fragment} /opt/python; venvctl remove placement:other"));
    site.assert_untouched();
}

fn other_packages_under_one_tag(site: &Site) {
    let lock = ["--lock", "/srv/locks/placement-15.0.0.txt"];
    let answer = site.venvctl(&[&["build", "placement:14.0.0"], &lock[..]].concat());
    refused(answer, "other-lock", &["placement:14.0.0", "alembic was", "more"]);
    site.assert_untouched();
}

fn failing_builds(site: &Site) {
    let machine = &site.machine;
    let before = machine.ok(VENVS);
    let fragment = "/etc/venvd/apps/placement.toml.d/50-index.toml";
    let build = ["build", "placement:15.0.0", "--lock", "/srv/locks/placement-15.0.0.txt"];

    // Half of it is there, and the network is gone.
    machine.ok("mkdir /srv/half && cp /srv/wheels/[a-m]* /srv/half/");
    machine.write(
        fragment,
        "build.index = { find-links = [\"/srv/half\"], no-index = false }\n",
        0o644,
    );
    refused(site.venvctl(&build), "download-failed", &["placement:15.0.0", ".log"]);

    // A wheel that is not the one that was locked.
    machine.ok(
        "rm -r /srv/half; cp -r /srv/wheels /srv/half; echo x >> /srv/half/openstack_placement-15.0.0-py3-none-any.whl",
    );
    machine.write(
        fragment,
        "build.index = { find-links = [\"/srv/half\"], no-index = true }\n",
        0o644,
    );
    refused(
        site.venvctl(&build),
        "missing-wheel",
        &["openstack-placement==15.0.0", "/srv/half"],
    );

    // A lock without hashes.
    machine.write("/root/loose.txt", "openstack-placement==15.0.0\n", 0o644);
    refused(
        site.venvctl(&["build", "placement:15.0.0", "--lock", "/root/loose.txt"]),
        "lock-not-hashed",
        &["hash", "loose.txt"],
    );

    assert_eq!(machine.ok(VENVS), before, "a half venv is there");
    assert_eq!(machine.ok(STAGING), "", "something is left in staging");
    machine.ok(&format!("rm -r {fragment} /srv/half"));
    site.assert_untouched();
}

/// Too little space is seen before the wheels are unpacked, or when the disk is full in the middle.
fn no_space(site: &Site) {
    let machine = &site.machine;
    let build = ["build", "placement:15.0.0", "--lock", "/srv/locks/placement-15.0.0.txt"];
    // As soon as the installer has begun, somebody else takes all that is left.
    let ballast = "until find /var/lib/venvd/staging -name pyvenv.cfg | grep -q .; do sleep 0.02; done; \
                   cat /dev/zero > /var/lib/venvd/ballast";
    for (size, meanwhile) in [("70m", "true"), ("400m", ballast)] {
        // Over the directories that a build writes to, so that the service goes on below.
        machine.ok(&format!("mount -t tmpfs -o size={size},mode=755 tmpfs /var/lib/venvd"));
        machine.ok(&format!(
            "systemd-run --quiet --collect --unit=meanwhile sh -c '{meanwhile}'"
        ));
        refused(site.venvctl(&build), "no-space", &["/var/lib/venvd"]);
        assert_eq!(machine.ok("ls /var/lib/venvd/venvs/placement 2>/dev/null || true"), "");
        machine.ok("systemctl stop meanwhile.service || true; umount /var/lib/venvd");
    }
    site.assert_untouched();
}

/// All that preflight can see is right, but the service does not start: the old venv comes back.
fn broken_service(site: &Site) {
    let machine = &site.machine;
    machine.ok("awk '/^openstack-placement==/{skip=1; next} /^[a-z]/{skip=0} !skip' /srv/locks/placement-15.0.0.txt > /root/no-placement.txt");
    machine.ok("venvctl build placement:broken --lock /root/no-placement.txt");
    // gunicorn takes two seconds to give up on its worker.
    machine.write(
        "/etc/venvd/apps/placement.toml.d/50-settle.toml",
        "health.settle = \"10s\"\n",
        0o644,
    );
    let (status, code, message) = site.venvctl(&["activate", "placement:broken"]);
    assert_eq!(status, 3, "{code}: {message}");
    assert!(
        ["job-failed", "not-settled"].contains(&code.as_str()),
        "{code}: {message}"
    );
    assert!(message.contains(UNIT), "{message}");
    site.assert_serving(TAG);
    let link = machine.ok("readlink /etc/venvd/active/placement");
    assert!(link.ends_with(TAG), "the active link still leads to {link}");
    assert_eq!(machine.ok("ls /etc/venvd/pending"), "", "an activation is open");
}

/// A typo must not stand between an operator and the way out.
fn off_with_a_broken_definition(site: &Site) {
    let fragment = "/etc/venvd/apps/placement.toml.d/50-typo.toml";
    site.machine.write(fragment, "execc = \"x\"\n", 0o644);
    site.machine
        .ok(&format!("systemctl daemon-reload && systemctl restart {UNIT}"));
    site.assert_serving(TAG);
    site.machine.ok("venvctl disable placement");
    assert_eq!(site.machine.unit_property(UNIT, "LoadState"), "not-found");
}

#[test]
fn bad_input_is_refused_and_the_service_stays_up_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn bad_input_is_refused_and_the_service_stays_up_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
