use super::*;
use crate::build::ORIGIN;

const PYTHON: &str = "/var/lib/venvd/venvs/nova/1/bin/python";

fn rewrite(text: &str) -> Option<String> {
    script::rewrite(text.as_bytes(), PYTHON).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn every_form_of_script_becomes_a_plain_one() {
    let forms = [
        ("#!/dev/shm/venvd/venv/bin/python\n", ""),
        ("#!/dev/shm/venvd/venv/bin/python3\n", ""),
        ("#!/dev/shm/venvd/venv/bin/python3.11\n", ""),
        ("#! /dev/shm/venvd/venv/bin/python -sE\n", " -sE"),
        ("#!/dev/shm/venvd/venv/bin/python -u\r\n", " -u"),
        ("#!python\n", ""),
        ("#!pythonw\n", ""),
        ("#!/tmp/build-env-x/bin/python3.12\n", ""),
        ("#!/usr/bin/env python3\n", ""),
        ("#!/usr/bin/env -S python3 -u\n", " -u"),
        ("#!/usr/bin/python3\n", ""),
        (
            "#!/bin/sh\n'''exec' /dev/shm/venvd/venv/bin/python \"$0\" \"$@\"\n' '''\n",
            "",
        ),
        (
            "#!/bin/sh\n'''exec' \"/path with blank/bin/python3.11\" -E \"$0\" \"$@\"\n' '''\n",
            " -E",
        ),
        (
            "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\"\n' '''\n",
            "",
        ),
        (
            "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3' \"$0\" \"$@\"\n' '''\n",
            "",
        ),
        ("#!/bin/sh\n\"exec\" \"$(dirname $0)/python3.12\" \"$0\" \"$@\"\n", ""),
    ];
    for (head, arguments) in forms {
        let rewritten = rewrite(&format!("{head}import sys\n")).unwrap_or_else(|| panic!("missed: {head}"));
        assert_eq!(rewritten, format!("#!{PYTHON}{arguments}\nimport sys\n"), "{head}");
        assert_eq!(rewrite(&rewritten).unwrap(), rewritten, "a second time changes nothing");
    }
}

#[test]
fn what_is_no_python_script_stays() {
    for text in [
        "",
        "import sys\n",
        "\x7fELF",
        "#!/bin/sh\nexec python \"$0\" \"$@\"\n",
        "#!/bin/sh\necho python\n",
        "#!/bin/sh\n'''exec' /x/perl \"$0\" \"$@\"\n' '''\n",
        "#!/bin/bash\n",
        "#!/usr/bin/env bash\n",
        "#!/usr/bin/env\n",
        "#!/usr/bin/pythonista\n",
        "#!/usr/bin/perl\n",
    ] {
        assert_eq!(rewrite(text), None, "{text}");
    }
}

fn interpreter() -> Interpreter {
    Interpreter::probe(Path::new("/usr/bin/python3")).unwrap()
}

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Interpreter) {
    let (directory, interpreter) = (tempfile::tempdir().unwrap(), interpreter());
    fs::create_dir_all(directory.path().join(interpreter.site_packages())).unwrap();
    fs::create_dir(directory.path().join("bin")).unwrap();
    for (name, text) in files {
        let path = directory
            .path()
            .join(name.replace("SITE", interpreter.site_packages().to_str().unwrap()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    (directory, interpreter)
}

#[test]
fn a_tree_gets_its_own_files_and_says_what_changed() {
    let (tree, interpreter) = tree(&[
        ("bin/nova", "#!/dev/shm/venvd/venv/bin/python\n"),
        ("bin/tool", "#!/bin/sh\n"),
    ]);
    let venv = VenvPath::local("nova:1".parse().unwrap());
    let changed = relocate(tree.path(), &venv, &interpreter).unwrap();
    assert_eq!(changed, [PathBuf::from("bin/nova")].into());
    write_own_files(tree.path(), &venv, &interpreter).unwrap();
    let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
    assert_eq!(read("bin/nova"), format!("#!{PYTHON}\n"));
    let home = interpreter.path.parent().unwrap().display();
    let minor = &interpreter.minor;
    assert_eq!(
        read("pyvenv.cfg"),
        format!("home = {home}\ninclude-system-site-packages = false\nversion = {minor}\n")
    );
    assert!(read("bin/activate").contains("VIRTUAL_ENV=/var/lib/venvd/venvs/nova/1\n"));
    assert_eq!(fs::read_link(tree.path().join("bin/python")).unwrap(), interpreter.path);
}

#[test]
fn activate_works_in_a_shell_and_undoes_itself() {
    let (tree, interpreter) = tree(&[]);
    write_own_files(tree.path(), &VenvPath::local("nova:1".parse().unwrap()), &interpreter).unwrap();
    let script = "set -e; PATH=/usr/bin:/bin; . \"$1\"/bin/activate; echo \"$PATH $VIRTUAL_ENV\"; deactivate; \
                  echo \"$PATH ${VIRTUAL_ENV-none}\"";
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(tree.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "/var/lib/venvd/venvs/nova/1/bin:/usr/bin:/bin /var/lib/venvd/venvs/nova/1\n/usr/bin:/bin none\n",
        "{output:?}"
    );
}

#[test]
fn what_still_leads_elsewhere_is_refused() {
    for (name, text) in [
        ("bin/tool", format!("#!/bin/sh\nexec {ORIGIN}/bin/python -m tool\n")),
        ("SITE/tool.pth", format!("{ORIGIN}/src\n")),
        ("SITE/__editable__.tool-1.pth", "/home/me/src\n".to_owned()),
        ("SITE/tool.egg-link", "/home/me/src\n".to_owned()),
    ] {
        let (tree, interpreter) = tree(&[(name, &text)]);
        let error = relocate(tree.path(), &VenvPath::local("nova:1".parse().unwrap()), &interpreter).unwrap_err();
        assert_eq!(error.code(), "relocation", "{name}: {error}");
    }
}

#[test]
fn what_installers_add_is_left_out() {
    let interpreter = interpreter();
    let skipped = |path: &str, kind| choose(Path::new(path), kind, &interpreter) == Choice::Skip;
    let python = format!("bin/python{}", interpreter.minor);
    for path in [
        "pyvenv.cfg",
        "lib64",
        ".venvd",
        "bin/python",
        &python,
        "bin/activate",
        "lib/x/a.dist-info/INSTALLER",
    ] {
        assert!(skipped(path, Kind::File), "{path}");
    }
    assert!(skipped("lib/x/__pycache__", Kind::Directory));
    for path in [
        "bin/activate-global-python-argcomplete",
        "bin/nova",
        "lib/x/a/INSTALLER",
        "lib/x/a.dist-info/RECORD",
    ] {
        assert!(!skipped(path, Kind::File), "{path}");
    }
}

#[test]
fn what_no_distribution_owns_goes() {
    let (tree, _) = tree(&[
        ("bin/nova", ""),
        ("bin/activate.xsh", ""),
        ("SITE/_virtualenv.pth", ""),
        ("share/x/y", ""),
    ]);
    let installed = Installed {
        owners: [(PathBuf::from("bin/nova"), "nova".to_owned())].into(),
        ..Installed::default()
    };
    let pruned = prune(tree.path(), &installed).unwrap();
    assert_eq!(pruned.len(), 3, "{pruned:?}");
    let left: Vec<_> = fs::read_dir(tree.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["bin"]);
    assert!(tree.path().join("bin/nova").exists());
}
