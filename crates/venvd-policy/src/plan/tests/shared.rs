//! What a venv would take from the system, and one app from another.

use super::*;

const MANAGE: &str = "[sudo]\ncommands = [\"x-manage /etc/x.conf\"]";

/// A host where cinder has no rootwrap, and the system's programs are in `usr/bin` alone.
fn host_without_rootwrap(more: &str) -> Host {
    let host = host();
    host.define("cinder", "cinder", &format!("{MANAGE}\n{more}"));
    host.program("var/lib/venvd/venvs/cinder/1/bin/x-manage");
    host
}

#[test]
fn refuses_programs_that_hide_the_systems_from_sudo() {
    let host = host_without_rootwrap("");
    for program in ["x-manage", "python3.11", "privsep-helper"] {
        host.program(&format!("usr/bin/{program}"));
        host.program(&format!("var/lib/venvd/venvs/cinder/1/bin/{program}"));
    }
    let report = host.refusal("policy-shadow");
    assert!(report.contains("[sudo] shadow = [\"privsep-helper\"]"), "{report}");
    host.define("cinder", "cinder", &format!("{MANAGE}\nshadow = [\"privsep-helper\"]"));
    host.plan(&["1"]).unwrap();
    host.define("cinder", "cinder", "");
    host.plan(&["1"]).expect("without rules there is no secure_path");
}

#[test]
fn rootwrap_does_not_look_where_sudo_does() {
    let host = host();
    host.put("etc/sudoers", "Defaults secure_path=\"/opt/bin\"\n");
    for program in ["opt/bin/lvm", "var/lib/venvd/venvs/cinder/1/bin/lvm"] {
        host.program(program);
    }
    let report = host.refusal("policy-shadow");
    assert!(
        report.contains("/opt/bin/lvm") && report.contains("[rootwrap] shadow"),
        "{report}"
    );
}

#[test]
fn two_apps_of_one_user_call_no_program_of_one_name() {
    let host = host_without_rootwrap("");
    host.define("twin", "cinder", MANAGE);
    let report = host.refusal("policy-shared");
    assert!(
        report.contains("/cinder.toml:4 (sudo.commands[0])")
            && report.contains("/twin.toml")
            && report.contains("x-manage"),
        "{report}"
    );
    host.plan(&[]).expect("off is off");
    host.put("etc/venvd/apps/twin.toml.d/90-enabled.toml", "enabled = false\n");
    host.plan(&["1"]).expect("the other one is off");
    host.define("twin", "twin", MANAGE);
    fs::remove_dir_all(host.at("etc/venvd/apps/twin.toml.d")).unwrap();
    host.plan(&["1"]).expect("the other one's user is another");
}

#[test]
fn two_apps_have_no_rootwrap_conf_in_common() {
    let host = host();
    symlink("cinder", host.at("etc/alias")).unwrap();
    for config in ["/etc/cinder/rootwrap.conf", "/etc/alias/rootwrap.conf"] {
        host.define("twin", "twin", &format!("[rootwrap]\nconfig = {config:?}\n"));
        let report = host.refusal("policy-shared");
        for named in ["/cinder.toml", "/twin.toml", "/etc/cinder/rootwrap.conf"] {
            assert!(report.contains(named), "{report}");
        }
        host.plan(&[]).unwrap();
    }
    host.define("twin", "twin", "[rootwrap]\nconfig = \"/etc/twin/rootwrap.conf\"\n");
    host.plan(&["1"]).unwrap();
}
