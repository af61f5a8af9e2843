//! What lies under a venv: its interpreter, shared objects, links.

use super::*;

/// A host whose venv 1 has a real link to an interpreter with a standard library and shared objects.
fn host_with_interpreter() -> Host {
    let host = host();
    for path in [
        "usr/bin/python3.11",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "opt/lib/libown.so",
    ] {
        host.program(path);
    }
    for path in [
        "os.py",
        "configparser.py",
        "json/__init__.py",
        "lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
    ] {
        host.put(&format!("usr/lib/python3.11/{path}"), "");
    }
    host.put(
        "etc/ld.so.conf.d/own.conf",
        "# ours\n/opt/lib\n/usr/lib/x86_64-linux-gnu\n",
    );
    host.put("etc/ld.so.cache", "");
    let python = host.at("var/lib/venvd/venvs/cinder/1/bin/python");
    symlink("/usr/bin/python3.11", python).unwrap();
    host
}

#[test]
fn refuses_what_others_could_put_under_the_interpreter() {
    host_with_interpreter().plan(&["1"]).unwrap();
    for path in [
        "usr/bin",
        "usr/bin/python3.11",
        "usr/lib",
        "usr/lib/python3.11",
        "usr/lib/python3.11/configparser.py",
        "usr/lib/python3.11/json",
        "usr/lib/python3.11/lib-dynload",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "etc/ld.so.cache",
        "opt",
        "opt/lib",
        "opt/lib/libown.so",
        "sbin",
    ] {
        let host = host_with_interpreter();
        for mode in [0o775, 0o757, 0o777, 0o1777] {
            host.chmod(path, mode);
            let report = host.refusal("policy-unsafe-path");
            assert!(report.contains(&format!("/{path}\"")), "{path}: {report}");
        }
        host.chmod(path, 0o755);
        host.plan(&["1"]).unwrap();
        if nix::unistd::geteuid().is_root() {
            // The service user, or anybody else.
            chown(host.at(path), Some(64060), None).unwrap();
            assert!(host.refusal("policy-unsafe-path").contains("64060"), "{path}");
        }
    }
}

#[test]
fn refuses_modules_of_the_standard_library_in_bin() {
    for name in [
        "configparser.py",
        "configparser.cpython-311-x86_64-linux-gnu.so",
        "_ssl.so",
        "json/__init__.py",
    ] {
        let host = host_with_interpreter();
        host.put(&format!("var/lib/venvd/venvs/cinder/1/bin/{name}"), "");
        let report = host.refusal("policy-stdlib-module");
        assert!(report.contains(name.split('/').next().unwrap()), "{name}: {report}");
    }
    let host = host_with_interpreter();
    for name in ["jp.py", "configparser", "configparser.sh", "__pycache__/x.pyc"] {
        host.put(&format!("var/lib/venvd/venvs/cinder/1/bin/{name}"), "");
    }
    host.plan(&["1"]).unwrap();
}

#[test]
fn finds_the_standard_library_wherever_distributions_have_it() {
    const BIN: &str = "var/lib/venvd/venvs/cinder/1/bin";
    type Arrange = fn(&Host);
    let arrangements: [Arrange; 3] = [
        // Fedora has both: what is for any platform's packages in lib, all else in lib64.
        |host| {
            fs::create_dir_all(host.at("usr/lib64")).unwrap();
            fs::rename(host.at("usr/lib/python3.11"), host.at("usr/lib64/python3.11")).unwrap();
            fs::create_dir_all(host.at("usr/lib/python3.11/site-packages")).unwrap();
        },
        |host| fs::rename(host.at(&format!("{BIN}/python")), host.at(&format!("{BIN}/python3"))).unwrap(),
        |host| {
            fs::rename(host.at("usr/bin/python3.11"), host.at("usr/bin/python3")).unwrap();
            fs::remove_file(host.at(&format!("{BIN}/python"))).unwrap();
            symlink("/usr/bin/python3", host.at(&format!("{BIN}/python"))).unwrap();
            fs::create_dir_all(host.at("var/lib/venvd/venvs/cinder/1/lib/python3.11")).unwrap();
        },
    ];
    for (index, arrange) in arrangements.into_iter().enumerate() {
        let host = host_with_interpreter();
        arrange(&host);
        host.plan(&["1"]).unwrap();
        host.put(&format!("{BIN}/configparser.py"), "");
        let report = host.refusal("policy-stdlib-module");
        assert!(report.contains("configparser"), "{index}: {report}");
        fs::remove_file(host.at(&format!("{BIN}/configparser.py"))).unwrap();
        let lib = if index == 0 { "lib64" } else { "lib" };
        host.chmod(&format!("usr/{lib}/python3.11/json"), 0o777);
        host.refusal("policy-unsafe-path");
    }
    let host = host_with_interpreter();
    fs::remove_file(host.at("usr/lib/python3.11/os.py")).unwrap();
    assert!(host.refusal("policy-stdlib-module").contains("no standard library"));
}

#[test]
fn refuses_links_and_path_files_that_leave_the_venv() {
    const VENV: &str = "var/lib/venvd/venvs/cinder/1";
    const SITE: &str = "lib/python3.11/site-packages";
    let with = |at: &str, target: &str| {
        let host = host_with_interpreter();
        host.put("usr/lib/python3/dist-packages/libvirt.py", "");
        host.put(&format!("{VENV}/{SITE}/own.py"), "");
        symlink(target, host.at(&format!("{VENV}/{at}"))).unwrap();
        host
    };
    let host_module = "/usr/lib/python3/dist-packages/libvirt.py";
    for (at, target) in [
        ("lib64", "/usr/lib"),
        ("bin/tool", "/usr/bin/python3.11"),
        ("lib/python3.11/site-packages/libvirt.py", host_module),
        ("lib/python3.11/site-packages/up", "../../../../2"),
        ("bin/python4", "/nonexistent"),
    ] {
        with(at, target).refusal("policy-unsafe-path");
    }
    for (at, target) in [
        ("lib64", "lib"),
        ("bin/python3.11", "python"),
        ("bin/python4", "/usr/bin/python3.11"),
    ] {
        with(at, target).plan(&["1"]).unwrap();
    }
    // The manifest knows of it, and nobody else can write there.
    let link = format!("{SITE}/libvirt.py");
    let host = with(&link, host_module);
    let manifest = format!("{{\"host_modules\": [{{\"name\": \"libvirt\", \"links\": [{link:?}]}}], \"app\": 1}}");
    host.put(&format!("{VENV}/.venvd/manifest.json"), &manifest);
    host.plan(&["1"]).unwrap();
    host.chmod("usr/lib/python3/dist-packages/libvirt.py", 0o666);
    host.refusal("policy-unsafe-path");

    for (line, good) in [
        ("/usr/lib", false),
        ("../../../../2", false),
        ("..", true),
        ("missing", true),
        // Whoever makes it later, say below /tmp, would get what is in it imported by root.
        ("/nonexistent", false),
        ("missing/../../../../../../nonexistent", false),
        (" import x/../../../../../../../tmp", false),
        ("# comment\r/usr/lib", false),
        ("import os; os.x('/usr/lib')", true),
        ("# /usr/lib", true),
    ] {
        let host = host_with_interpreter();
        host.put(&format!("{VENV}/{SITE}/x.pth"), &format!("{line}\n"));
        assert_eq!(host.plan(&["1"]).is_ok(), good, "{line}");
    }
}
