//! A machine with the apps `nova`, two venvs of which are there, and `glance`, one of which is.

use anyhow::Result;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

/// The rule of docs/commands.md.
const SUDOERS: &str = "%nova-operators ALL = (nova) NOPASSWD: NOSETENV: /usr/bin/venv-activate\n";

/// Files of the service user's that undo what is done before them.
const BASHRC: &str = "PS1='nova> '\nPATH=/usr/bin:/bin\n";
const ZSHRC: &str = "PROMPT='nova> '\npath=(/usr/bin /bin)\n";
const CONFIG_FISH: &str =
    "function fish_prompt; echo -n 'nova> '; end\nset -gx PATH /usr/bin /bin\nset -g fish_greeting\n";

/// Boots it. `nova:2` is in force.
///
/// # Errors
/// When the machine does not boot.
pub(crate) fn machine(os: Os) -> Result<Machine> {
    let machine = supplied(os)?.boot()?;
    machine.ok(
        "dpkg -i /srv/venvd.deb; groupadd nova-operators; groupadd libvirt; \
         useradd --system --user-group --create-home --home-dir /var/lib/nova -G libvirt --shell /usr/sbin/nologin nova; \
         useradd --user-group -G nova-operators --shell /bin/bash olga",
    );
    for (app, tag) in [("nova", "1"), ("nova", "2"), ("glance", "9.8.7")] {
        let bin = format!("/var/lib/venvd/venvs/{app}/{tag}/bin");
        let manage = format!("#!/bin/sh\necho {app}-manage of {tag} as $(id -un)\n");
        machine.write(&format!("{bin}/{app}-manage"), manage, 0o755);
        machine.write(&format!("/etc/venvd/apps/{app}.toml"), "user = \"nova\"\n", 0o644);
        machine.ok(&format!(
            "mkdir -p /etc/venvd/committed; ln -sfn /var/lib/venvd/venvs/{app}/{tag} /etc/venvd/committed/{app}"
        ));
    }
    machine.write("/etc/sudoers.d/nova-operators", SUDOERS, 0o440);
    machine.ok("visudo -c");
    for (file, text) in [
        (".bashrc", BASHRC),
        (".zshrc", ZSHRC),
        (".config/fish/config.fish", CONFIG_FISH),
    ] {
        machine.write(&format!("/var/lib/nova/{file}"), text, 0o644);
    }
    machine.ok("chown -R nova:nova /var/lib/nova");
    Ok(machine)
}
