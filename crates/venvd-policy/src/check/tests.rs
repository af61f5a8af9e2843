use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use venvd_app::search;
use venvd_fs::Root;

use super::*;

const VENV: &str = "var/lib/venvd/venvs/neutron/1";

/// Neutron in a venv, with a filter file of its own.
struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
}

fn host(filters: &str) -> Host {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let host = Host { directory, layout };
    host.put(
        "etc/venvd/apps/neutron.toml",
        "enabled = true\nuser = \"neutron\"\n[rootwrap]\nconfig = \"/etc/neutron/rootwrap.conf\"\n",
    );
    host.put(
        "etc/neutron/rootwrap.conf",
        "[DEFAULT]\nfilters_path=/etc/neutron/rootwrap.d,/usr/share/neutron/rootwrap\nexec_dirs=/sbin,/usr/bin\n",
    );
    host.put("etc/neutron/rootwrap.d/l3.filters", &format!("[Filters]\n{filters}\n"));
    for path in [
        "usr/bin/python3.11",
        "sbin/ip",
        "usr/bin/tool",
        &format!("{VENV}/bin/tool"),
    ] {
        host.put(path, "#!/bin/sh\n");
        fs::set_permissions(host.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink("/usr/bin/python3.11", host.at(&format!("{VENV}/bin/python"))).unwrap();
    host
}

impl Host {
    fn at(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        let app = search::load_app(&self.layout, &"neutron".parse().unwrap()).unwrap();
        let venv = VenvPath::parse(&self.layout, Path::new(&format!("/{VENV}"))).unwrap();
        check(&self.layout, &app, &[venv])
    }

    fn codes(&self) -> Vec<(Level, String)> {
        let findings = self.findings().into_iter();
        findings.map(|finding| (finding.level, finding.code)).collect()
    }
}

#[test]
fn finds_filters_without_a_program_or_with_another_ones() {
    use Level::{Error, Warning};
    for (filter, expected) in [
        ("ip: IpFilter, ip, root", None),
        ("tool: CommandFilter, tool, root", None),
        ("kill: ReadFileFilter, /nowhere", None),
        ("env: EnvFilter, env, root, A=, B=, tool", None),
        (
            "env: EnvFilter, env, root, A=, nowhere",
            Some((Warning, "filter-without-program")),
        ),
        (
            "x: CommandFilter, nowhere, root",
            Some((Warning, "filter-without-program")),
        ),
        (
            "x: CommandFilter, /usr/bin/nowhere, root",
            Some((Warning, "filter-without-program")),
        ),
        ("x: CommandFilter, /sbin/ip, root", None),
        (
            "x: RegExpFilter, /usr/bin/tool, root, tool, .*",
            Some((Error, "filter-outside-venv")),
        ),
        (
            "x: DnsmasqFilter, dnsmasq, root",
            Some((Warning, "filter-unknown-class")),
        ),
    ] {
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(level, code)| (level, code.to_owned()))
            .collect();
        assert_eq!(host(filter).codes(), expected, "{filter}");
    }
}

#[test]
fn finds_kill_filters_that_miss_the_interpreter() {
    for (filters, fits) in [
        ("a: KillFilter, root, python3.11, -9", true),
        ("a: KillFilter, root, /usr/bin/python3.11, -9", true),
        (
            "a: KillFilter, root, python3, -9\nb: KillFilter, root, python3.11, -9",
            true,
        ),
        (
            "a: KillFilter, root, python3, -9\nb: KillFilter, root, python3.11, -15",
            false,
        ),
        (
            "a: KillFilter, root, python2.7, -9\nb: KillFilter, root, python3.9, -9",
            false,
        ),
        ("a: KillFilter, root, /opt/bin/python3.11, -9", false),
        ("a: KillFilter, root, dnsmasq, -9", true),
    ] {
        let findings = host(filters).findings();
        assert_eq!(findings.is_empty(), fits, "{filters}: {findings:?}");
        assert!(
            findings
                .iter()
                .all(|f| f.code == "kill-filter"
                    && f.message.contains("add `KillFilter, root, /usr/bin/python3.11, -9`"))
        );
    }
}

#[test]
fn finds_shipped_configuration_that_the_host_lacks_or_has_otherwise() {
    let host = host("");
    assert_eq!(host.findings(), []);
    let conf = fs::read_to_string(host.at("etc/neutron/rootwrap.conf")).unwrap();
    let ours = conf.replace("exec_dirs=", &format!("exec_dirs=/{VENV}/bin,"));
    host.put("etc/neutron/rootwrap.conf", &ours);
    for (path, text) in [
        ("neutron/rootwrap.conf", conf.as_str()),
        ("neutron/api-paste.ini", "[x]\n"),
        ("neutron/rootwrap.d/l3.filters", "[Filters]\nip: IpFilter, ip, root\n"),
        ("os-brick/rootwrap.d/os-brick.filters", "[Filters]\n"),
        ("neutron/rootwrap.d/dhcp.filters", "[Filters]\n"),
    ] {
        host.put(&format!("{VENV}/etc/{path}"), text);
    }
    // Where a package put them instead.
    host.put("usr/share/neutron/rootwrap/dhcp.filters", "[Filters]\n");
    let codes = host.codes();
    let expected = [
        (Level::Error, "filters-missing"),
        (Level::Warning, "config-missing"),
        (Level::Warning, "config-differs"),
    ];
    assert_eq!(
        codes,
        expected.map(|(level, code)| (level, code.to_owned())),
        "{:?}",
        host.findings()
    );
    host.put("etc/neutron/rootwrap.d/os-brick.filters", "[Filters]\n");
    host.put(
        "etc/neutron/rootwrap.d/l3.filters",
        "[Filters]\nip: IpFilter, ip, root\n",
    );
    host.put("etc/neutron/api-paste.ini", "[y]\n");
    assert_eq!(host.codes(), [(Level::Warning, "config-differs".to_owned())]);
}

#[test]
fn finds_variables_that_reach_python() {
    for (line, found) in [
        ("Defaults env_reset, env_keep += \"LANG PYTHONPATH\"", true),
        ("Defaults:neutron env_keep+=PYTHONHOME", true),
        ("Defaults env_keep = \"A PYTHON*\"", true),
        ("Defaults env_keep=\"PY*\"", true),
        ("Defaults env_check += PYTHONPATH", true),
        ("Defaults:NET !env_reset", true),
        ("Defaults:nova !env_reset", false),
        ("Defaults env_keep -= PYTHONPATH", false),
        (
            "Defaults env_keep += \"LANG P XPYTHON\", env_delete += PYTHONPATH",
            false,
        ),
        ("Defaults env_reset # env_keep=PYTHONPATH", false),
    ] {
        let host = host("");
        host.put("etc/sudoers", &format!("User_Alias NET = neutron\n{line}\n"));
        let codes = host.codes();
        let expected = (Level::Error, "environment-kept".to_owned());
        assert_eq!(codes, Vec::from_iter(found.then_some(expected)), "{line}");
    }
}

#[test]
fn finds_other_rules_of_the_same_user() {
    let host = host("");
    host.put(
        "etc/sudoers",
        "# neutron ALL=(ALL) ALL\nDefaults:neutron !requiretty\nroot ALL=(ALL:ALL) ALL\nnova ALL=(root) /bin/x\n\
         User_Alias STACK = nova, neutron\nSTACK ALL = (root) NOPASSWD: /usr/bin/privsep-helper *\n\
         @includedir /etc/sudoers.d\n",
    );
    host.put("etc/sudoers.d/neutron_sudoers", "%neutron,bob ALL=(root) /bin/y\n");
    host.put("etc/group", "neutron:x:5:neutron\n");
    let ours = crate::sudoers::header::with_header("x", "neutron ALL=(root) /bin/ours\n");
    host.put("etc/sudoers.d/venvd-neutron", &ours);
    let messages: Vec<_> = host.findings().into_iter().map(|finding| finding.message).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("/etc/sudoers: neutron also has `STACK ALL") && messages[0].contains("as root"));
    assert!(messages[1].contains("/etc/sudoers.d/neutron_sudoers: ") && messages[1].contains("/bin/y"));
}
