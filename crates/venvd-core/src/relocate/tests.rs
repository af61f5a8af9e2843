use super::*;
use crate::build::ORIGIN;

/// A venv of the host.
fn local(name: &str) -> VenvPath {
    VenvPath::local(&venvd_app::Layout::new(venvd_fs::Root::host()), name.parse().unwrap())
}

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
    let venv = local("nova:1");
    let placed = relocate(tree.path(), &venv, &interpreter).unwrap();
    assert_eq!(placed, [PathBuf::from("bin/nova")].into());
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
    write_own_files(tree.path(), &local("nova:1"), &interpreter).unwrap();
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
        let error = relocate(tree.path(), &local("nova:1"), &interpreter).unwrap_err();
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

#[test]
fn programs_are_written_from_their_declaration_whoever_installed() {
    let demo = (
        "SITE/demo-1.dist-info/entry_points.txt",
        "[console_scripts]\ndemo = demo:main\n",
    );
    let texts = [
        "#!/dev/shm/venvd/venv/bin/python\nimport re\n",
        "#!/bin/sh\n'''exec' /dev/shm/venvd/venv/bin/python \"$0\" \"$@\"\n' '''\n# uv\n",
    ];
    let read = texts.map(|text| {
        let (tree, interpreter) = tree(&[("bin/demo", text), demo, ("bin/sub/tool", "#!python\n")]);
        let placed = relocate(tree.path(), &local("nova:1"), &interpreter).unwrap();
        assert_eq!(placed, ["bin/demo", "bin/sub/tool"].map(PathBuf::from).into());
        fs::read_to_string(tree.path().join("bin/demo")).unwrap()
    });
    assert!(read[0].starts_with(&format!("#!{PYTHON}\nimport sys\n")), "{}", read[0]);
    assert_eq!(read[0], read[1]);
}

#[test]
fn modes_of_programs_do_not_depend_on_the_installer() {
    let (tree, interpreter) = tree(&[
        ("bin/elf", "\x7fELF"),
        ("bin/script", "#!/bin/sh\n"),
        ("bin/tool.bat", "rem\n"),
    ]);
    fs::set_permissions(tree.path().join("bin/elf"), fs::Permissions::from_mode(0o644)).unwrap();
    relocate(tree.path(), &local("nova:1"), &interpreter).unwrap();
    for (name, mode) in [("elf", 0o755), ("script", 0o755), ("tool.bat", 0o644)] {
        let path = tree.path().join("bin").join(name);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o7777,
            mode,
            "{name}"
        );
    }
}

#[test]
fn a_program_of_another_python_is_refused() {
    let long = format!("#!/usr/bin/{}\n", "x".repeat(120));
    for text in [
        "#!/home/me/bin/pypy3\n",
        "#!perl\n",
        "#!/usr/bin/env -S FOO=1 python3\n",
        "#!/usr/bin/env -i python3\n",
        "#!/usr/bin/nice /usr/bin/python3.11\n",
        "#!/bin/sh\n'''exec' /x/python -E \"$0\" more \"$@\"\n' '''\n",
        "#!/bin/sh\n\"exec\" \"/x/python\" \"$@\"\n",
        "#!/var/lib/venvd/venvs/nova/1/bin/other\n",
        "#!\u{fffd}\n",
        "#!\n",
        &long,
    ] {
        let (tree, interpreter) = tree(&[("bin/tool", text)]);
        let error = relocate(tree.path(), &local("nova:1"), &interpreter).unwrap_err();
        assert_eq!(error.code(), "relocation", "{text}");
        assert!(error.to_string().contains("bin/tool"), "{error}");
    }
    for text in [
        "",
        "#!/bin/sh\nexec python\n",
        "#!/usr/bin/env bash\n",
        "#!/usr/bin/perl -w\n",
        "\x7fELF",
    ] {
        assert_eq!(wrong_interpreter(text.as_bytes(), PYTHON), None, "{text}");
    }
    let of_another = format!("#!{PYTHON}3\n");
    assert!(wrong_interpreter(of_another.as_bytes(), PYTHON).is_some());
}

#[test]
fn a_venv_is_the_same_as_if_it_was_made_for_its_place() {
    let files = [
        ("bin/nova", "#!/dev/shm/venvd/venv/bin/python -sE\n"),
        ("SITE/n-1.dist-info/METADATA", "Name: n\nVersion: 1\n"),
        (
            "SITE/n-1.dist-info/RECORD",
            "../../../bin/nova,,\nn-1.dist-info/RECORD,,\n",
        ),
    ];
    let make = |name: &str| {
        let (tree, interpreter) = tree(&files);
        let venv = local(name);
        let mut placed = relocate(tree.path(), &venv, &interpreter).unwrap();
        let installed = crate::record::update(tree.path(), &interpreter.site_packages(), &placed).unwrap();
        placed.extend(installed.placed.iter().cloned());
        placed.insert(write_own_files(tree.path(), &venv, &interpreter).unwrap());
        let contents = crate::seal::contents(tree.path(), &interpreter, &installed, &placed).unwrap();
        let manifest = crate::manifest::Manifest {
            app: venv.name().app().clone(),
            tag: venv.name().tag().clone(),
            files: contents.files,
            ..crate::manifest::tests::example()
        };
        (tree, venv, manifest)
    };
    let ((from, _, manifest), (other, venv, expected)) = (make("nova:1"), make("other:2.0"));
    let moved = move_to(&manifest, &venv, &mut |file| {
        Ok(fs::read(from.path().join(&file.path)).unwrap())
    })
    .unwrap();
    assert_eq!(moved.manifest, expected);
    assert_eq!(moved.contents.len(), 3);
    for (path, content) in moved.contents {
        assert_eq!(content, fs::read(other.path().join(path)).unwrap());
    }
}
