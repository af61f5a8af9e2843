//! Every way from packages to a sealed venv, in a machine without network: three kinds of input, two builders.

use anyhow::Result;
use venvd_tests::tour::supplied;
use venvd_tests::{Machine, Os};

const APP: &str = r#"
user = "tool"
[build]
packages = ["oslo.rootwrap"]
constraints = ["/root/constraints.txt"]
builder = "BUILDER"
[build.index]
find-links = ["/srv/wheels"]
no-index = true
"#;

fn boot(os: Os) -> Result<Machine> {
    let machine = supplied(os)?.boot()?;
    machine.ok("useradd --system --user-group --create-home tool && dpkg -i /srv/venvd.deb");
    machine.ok("grep -oE '^[a-z][A-Za-z0-9._-]+==[0-9][0-9.a-z]*' /srv/locks/rootwrap-b.txt > /root/constraints.txt");
    machine.ok(
        "cd /root && uv pip compile --offline --no-index --find-links /srv/wheels --generate-hashes \
         --python /usr/bin/python3 --format pylock.toml -o pylock.toml /srv/locks/rootwrap-a.in",
    );
    Ok(machine)
}

fn builds(os: Os) -> Result<()> {
    let machine = boot(os)?;
    for builder in ["uv", "pip"] {
        machine.write("/etc/venvd/apps/tool.toml", APP.replace("BUILDER", builder), 0o644);
        for (tag, lock, version) in [
            ("hashes", "--lock /srv/locks/rootwrap-a.txt", "7.7.0"),
            ("pylock", "--lock /root/pylock.toml", "7.7.0"),
            ("packages", "", "7.9.0"),
        ] {
            let venv = format!("tool:{tag}-{builder}");
            machine.ok(&format!("venvctl build {venv} {lock}"));
            let said = machine.ok(&format!(
                "venv-activate {venv} -- python -c 'import sys, os, importlib.metadata as m, oslo_rootwrap.wrapper; \
                 print(sys.prefix, m.version(\"oslo.rootwrap\"), os.geteuid() != 0)'"
            ));
            assert_eq!(
                said,
                format!("/var/lib/venvd/venvs/tool/{tag}-{builder} {version} True"),
                "{venv}"
            );
            // Its own script, not only its python.
            let script = machine.run(&["venv-activate", &venv, "--", "oslo-rootwrap"]);
            assert_eq!(script.status, 98, "rootwrap without a command says so: {script}");
            assert_sealed(&machine, &format!("/var/lib/venvd/venvs/tool/{tag}-{builder}"));
        }
    }
    // Without a tag, one is made of version and lock; the lock that was made is kept, and the same again is a no-op.
    let first = machine.ok("venvctl --json build tool");
    assert!(
        first.contains("\"venv\": \"tool:7.9.0-") && first.contains("\"new\": true"),
        "{first}"
    );
    let second = machine.ok("venvctl --json build tool");
    assert_eq!(second, first.replace("\"new\": true", "\"new\": false"));
    assert!(!machine.ok("ls /etc/venvd/locks/tool").is_empty(), "no lock was kept");
    Ok(())
}

/// Root's, closed to others, no setuid, compiled without a trace of the build, and no process of a builder is left.
fn assert_sealed(machine: &Machine, venv: &str) {
    for (what, test) in [
        ("is not root's", "! -user root -o ! -group root"),
        ("others can write", "! -type l -perm /022"),
        ("is setuid or setgid", "-perm /6000"),
        ("is neither file, directory nor link", "! -type f ! -type d ! -type l"),
    ] {
        assert_eq!(machine.ok(&format!("find {venv} \\( {test} \\)")), "", "{what}");
    }
    // Each inode with more than one name is counted below venvd's own directory, where the store's and the venvs' are.
    let elsewhere = "find /var/lib/venvd -type f -links +1 -printf '%i %n\\n' | sort | uniq -c | awk '$1 != $3'";
    assert_eq!(machine.ok(elsewhere), "", "inode has a name elsewhere");
    assert_eq!(
        machine.ok(&format!(
            "grep -rIl -e /var/lib/venvd/staging -e /dev/shm {venv}/bin {venv}/lib {venv}/pyvenv.cfg || true"
        )),
        ""
    );
    let compiled = machine.ok(&format!(
        "find {venv}/lib -name wrapper.*.pyc -path '*oslo_rootwrap*' | head -1"
    ));
    let origin = machine.ok(&format!(
        "python3 -I -c 'import marshal, sys; print(marshal.loads(open(sys.argv[1], \"rb\").read()[16:]).co_filename)' {compiled}"
    ));
    assert!(origin.starts_with("/venv/lib/python3."), "{origin}");
    assert_eq!(
        machine.ok("find /var/lib/venvd/staging -mindepth 1 -maxdepth 1 -type d"),
        "",
        "staging is not empty"
    );
}

#[test]
fn every_input_and_builder_makes_a_sealed_venv_on_debian_12() -> Result<()> {
    builds(Os::Debian12)
}

#[test]
fn every_input_and_builder_makes_a_sealed_venv_on_debian_13() -> Result<()> {
    builds(Os::Debian13)
}
