//! Placement and cinder as an operator's host has them, before venvd comes.

use crate::Machine;

/// Placement's releases, the older first.
pub(super) const PLACEMENT: [&str; 2] = ["14.0.0", "15.0.0"];
/// Cinder's releases, of the same cycles.
pub const CINDER: [&str; 2] = ["27.0.0", "28.0.0"];

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../scenario/", $name))
    };
}

/// Creates users and configuration, and installs cinder-scheduler's unit as Debian packages it.
///
/// # Panics
/// When a command fails.
pub fn lay_out(machine: &Machine) {
    for user in ["placement", "cinder"] {
        machine.ok(&format!(
            "useradd --system --user-group --create-home --home-dir /var/lib/{user} --shell /usr/sbin/nologin {user}"
        ));
    }
    machine.write("/etc/placement/placement.conf", file!("placement.conf"), 0o644);
    machine.write("/etc/cinder/cinder.conf", file!("cinder.conf"), 0o644);
    machine.write("/etc/init.d/cinder-scheduler", file!("cinder-scheduler.init"), 0o755);
    machine.write(
        "/usr/lib/systemd/system/cinder-scheduler.service",
        file!("cinder-scheduler.service"),
        0o644,
    );
    // The filters are cinder's own.
    machine.ok(&format!(
        "cd /tmp && python3 -m zipfile -e /srv/wheels/cinder-{old}-py3-none-any.whl cinder && \
         cp -r --no-preserve=ownership cinder/cinder-{old}.data/data/etc/cinder/rootwrap.* /etc/cinder/ && \
         chmod -R u=rwX,go=rX /etc/cinder && rm -r cinder",
        old = CINDER[0]
    ));
    machine.ok("systemctl daemon-reload && systemctl enable --now cinder-scheduler");
}

/// Declares both apps; nothing is on yet.
///
/// # Panics
/// When a file can't be written.
pub fn declare(machine: &Machine) {
    machine.write("/etc/venvd/apps/placement.toml", file!("placement.toml"), 0o644);
    machine.write("/etc/venvd/apps/cinder.toml", file!("cinder.toml"), 0o644);
}

/// Everything of the distribution's that venvd may touch, as text: effective units, sudo rules, rootwrap's file.
pub(super) fn distribution_state(machine: &Machine) -> String {
    machine.ok("systemctl daemon-reload; systemctl cat cinder-scheduler.service; \
         systemctl show -p ExecStart,Environment cinder-scheduler.service | sed 's/ ; start_time=.*//'; \
         for list in PartOf Before Requires Wants After; do \
           echo $list $(systemctl show --value -p $list cinder-scheduler.service | tr ' ' '\\n' | sort); done; \
         systemctl show -p LoadState placement-api.service; \
         ls /run/systemd/generator /etc/sudoers.d | grep -i -e venvd -e placement -e cinder; \
         sha256sum /etc/cinder/rootwrap.conf; stat -c '%U:%G %a %n' /etc/cinder/rootwrap.conf; \
         sudo -l -U cinder | tail -n +2")
}

/// The status of placement's answer; `000` when there is none.
pub(super) fn ask_placement(machine: &Machine) -> String {
    machine
        .run(&[
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "20",
            "http://127.0.0.1:8778/",
        ])
        .stdout
}
