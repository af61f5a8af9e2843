//! The files that commands name.

use super::*;

#[test]
fn rootwrap_gets_the_configuration_that_is_checked() {
    let other = "/etc/cinder/other.conf";
    for program in ["cinder-rootwrap", "cinder-rootwrap-daemon", "oslo-rootwrap"] {
        for rest in ["", "[rootwrap]\nconfig = \"/etc/cinder/rootwrap.conf\"\n"] {
            let host = host();
            host.program(&format!("var/lib/venvd/venvs/cinder/1/bin/{program}"));
            host.define(
                "cinder",
                "cinder",
                &format!("{rest}[sudo]\ncommands = [\"{program} {other}\"]"),
            );
            let report = host.refusal("policy-rootwrap-conf");
            assert!(
                report.contains("(sudo.commands[0])") && report.contains(&format!("[rootwrap] config = {other:?}")),
                "{report}"
            );
        }
    }
}

#[test]
fn other_files_that_a_command_names_must_be_roots() {
    let host = host();
    host.program("var/lib/venvd/venvs/cinder/1/bin/cinder-manage");
    host.define(
        "cinder",
        "cinder",
        "[sudo]\ncommands = [\"cinder-manage --config-file /srv/cinder/manage.conf db\"]",
    );
    host.plan(&["1"]).expect("it is missing, and root alone can make it");
    host.put("srv/cinder/manage.conf", "");
    host.plan(&["1"]).unwrap();
    host.chmod("srv/cinder/manage.conf", 0o666);
    assert!(host.refusal("policy-unsafe-path").contains("/srv/cinder/manage.conf"));
    fs::remove_file(host.at("srv/cinder/manage.conf")).unwrap();
    host.chmod("srv/cinder", 0o777);
    assert!(host.refusal("policy-unsafe-path").contains("/srv/cinder"));
}
