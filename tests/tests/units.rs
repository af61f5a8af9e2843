//! An existing unit that names the program by its path: spliced, with an administrator's drop-in, on and off.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::site::{Site, TAG, UNIT};

/// As a distribution would ship it: prefixes, quotes, specifiers and a second program that is not the app's.
const PACKAGED: &str = r#"[Unit]
Description=Placement, as packaged

[Service]
Type=notify
User=placement
WorkingDirectory=/var/lib/placement
Environment=OS_PLACEMENT_CONFIG_DIR=/etc/placement "GREETING=two words"
Environment=PATH=/opt/vendor/bin:/usr/bin:/bin
ExecStartPre=-/usr/bin/test -e "/etc/placement/placement.conf"
ExecStart=@/usr/bin/gunicorn gunicorn-%N --bind 127.0.0.1:8778 \
    --workers 1 \
    placement.wsgi.api:application
ExecReload=/bin/kill -HUP $MAINPID

[Install]
WantedBy=multi-user.target
"#;

const DEFINITION: &str = r#"
user = "placement"
[build]
packages = ["openstack-placement", "gunicorn"]
[units."placement-api.service"]
programs = ["gunicorn"]
[units."not-on-this-host.service"]
[health]
settle = "1s"
"#;

fn spliced(os: Os) -> Result<()> {
    let mut site = Site::new(os)?;
    site.machine.ok("venvctl disable placement");
    site.machine
        .write("/usr/lib/systemd/system/placement-api.service", PACKAGED, 0o644);
    site.machine.write("/etc/venvd/apps/placement.toml", DEFINITION, 0o644);
    site.machine.ok("systemctl daemon-reload");
    let packaged = site.machine.unit_property(UNIT, "ExecStart");
    assert!(packaged.contains("path=/usr/bin/gunicorn ;"), "{packaged}");

    site.machine.ok(&format!(
        "venvctl enable placement && systemctl enable {UNIT} && systemctl restart {UNIT}"
    ));
    site.assert_serving(TAG);
    let venv = format!("/var/lib/venvd/venvs/placement/{TAG}");
    let exec = site.machine.unit_property(UNIT, "ExecStart");
    assert!(
        exec.contains(&format!(
            "path={venv}/bin/gunicorn ; argv[]=gunicorn-placement-api --bind"
        )),
        "{exec}"
    );
    let before = site.machine.unit_property(UNIT, "ExecStartPre");
    assert!(
        before.contains("path=/usr/bin/test ;") && before.contains("ignore_errors=yes"),
        "{before}"
    );
    let environment = site.machine.environ_of(site.machine.main_pid(UNIT));
    assert_eq!(environment["PATH"], format!("{venv}/bin:/opt/vendor/bin:/usr/bin:/bin"));
    assert_eq!(environment["GREETING"], "two words");
    assert_eq!(environment["VIRTUAL_ENV"], venv);

    // What an administrator changes stays, and still runs from the venv.
    site.machine.write(
        &format!("/etc/systemd/system/{UNIT}.d/override.conf"),
        "[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn --bind 127.0.0.1:8778 --workers 2 placement.wsgi.api:application\n",
        0o644,
    );
    site.machine.reboot()?;
    site.assert_serving(TAG);
    let exec = site.machine.unit_property(UNIT, "ExecStart");
    assert!(
        exec.contains(&format!("path={venv}/bin/gunicorn")) && exec.contains("--workers 2"),
        "{exec}"
    );

    // Masking our drop-in is the way out on one host.
    site.machine.ok(&format!(
        "ln -s /dev/null /etc/systemd/system/{UNIT}.d/zz-venvd.conf && systemctl daemon-reload"
    ));
    let exec = site.machine.unit_property(UNIT, "ExecStart");
    assert!(exec.contains("path=/usr/bin/gunicorn ;"), "{exec}");
    site.machine.ok(&format!(
        "rm /etc/systemd/system/{UNIT}.d/zz-venvd.conf && systemctl daemon-reload"
    ));

    // The packaged program is not on this host: off would mean that nothing serves, so that is taken back.
    let (status, _, message) = site.venvctl(&["disable", "placement"]);
    assert_eq!(status, 3, "{message}");
    site.assert_serving(TAG);

    // Unless the administrator says by stopping the unit that nothing needs to.
    site.machine
        .ok(&format!("systemctl stop {UNIT} && venvctl disable placement"));
    let exec = site.machine.unit_property(UNIT, "ExecStart");
    assert!(
        exec.contains("path=/usr/bin/gunicorn ;") && exec.contains("--workers 2"),
        "{exec}"
    );
    assert_eq!(site.machine.unit_property(UNIT, "PartOf"), "");
    Ok(())
}

#[test]
fn a_packaged_unit_is_spliced_on_debian_12() -> Result<()> {
    spliced(Os::Debian12)
}

#[test]
fn a_packaged_unit_is_spliced_on_debian_13() -> Result<()> {
    spliced(Os::Debian13)
}
