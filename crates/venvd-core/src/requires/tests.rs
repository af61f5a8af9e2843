use std::fs;

use super::*;

const SITE: &str = "lib/python3.11/site-packages";

fn interpreter() -> Interpreter {
    let text = |text: &str| text.to_owned();
    Interpreter {
        path: "/usr/bin/python3.11".into(),
        version: text("3.11.2"),
        minor: text("3.11"),
        implementation: text("cpython"),
        cache_tag: text("cpython-311"),
        soabi: text("cpython-311-x86_64-linux-gnu"),
        magic: text("a70d0d0a"),
        platform: text("linux-x86_64"),
        arch: text("x86_64"),
        libc: text("glibc 2.36"),
        stdlib: "/usr/lib/python3.11".into(),
    }
}

/// Returns what does not fit among distributions given as `name version` and further lines of metadata.
fn misfits(distributions: &[(&str, &str)]) -> Vec<String> {
    let tree = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (distribution, lines) in distributions {
        let (name, version) = distribution.split_once(' ').unwrap();
        let path = format!("{SITE}/{name}-{version}.dist-info/METADATA");
        let on_disk = tree.path().join(&path);
        fs::create_dir_all(on_disk.parent().unwrap()).unwrap();
        let text = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}\n\nRequires-Dist: text\n");
        fs::write(on_disk, text).unwrap();
        files.push(path);
    }
    let paths = files.iter().map(String::as_str);
    check(tree.path(), paths, &interpreter())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn what_fits_is_not_told() {
    let lines = [
        "Requires-Dist: Oslo_Config",
        "Requires-Dist: oslo.config (>=1.0)",
        "Requires-Dist: oslo-config[extra]>=1.0,!=1.1,<3",
        "Requires-Dist: oslo.config ~=1.2",
        "Requires-Dist: oslo.config==1.2.*",
        "Requires-Dist: oslo.config @ file:///${HOME}/x y",
        "Requires-Dist: nothing ; extra == 'test'",
        "Requires-Dist: nothing; python_version < '3.9'",
        "Requires-Dist: nothing; sys_platform == 'win32' or\n\tplatform_system=='Windows'",
        "Requires-Python: >=3.9",
    ];
    assert_eq!(
        misfits(&[("a 1", &lines.join("\n")), ("oslo.config 1.2.post1", "")]),
        Vec::<String>::new()
    );
    // A version before a release, and one with a local part: both are what is there.
    assert_eq!(
        misfits(&[
            (
                "a 1",
                "Requires-Dist: b>=2.0rc1\nRequires-Dist: b<3\nRequires-Dist: c==1.0"
            ),
            ("b 2.0rc2", ""),
            ("c 1.0+deb1", ""),
        ]),
        Vec::<String>::new()
    );
}

#[test]
fn what_does_not_fit_is_told_in_plain_words() {
    for (lines, told) in [
        ("Requires-Dist: c", "a 1 requires c, which is not installed"),
        (
            "Requires-Dist: b>=2; python_version >= '3.11'",
            "a 1 requires b>=2; python_version >= '3.11', but b 1.5 is installed",
        ),
        (
            "Requires-Dist: b (!=1.5)",
            "a 1 requires b (!=1.5), but b 1.5 is installed",
        ),
        (
            "Requires-Python: >=3.12",
            "a 1 requires python >=3.12, but this is 3.11.2",
        ),
        (
            "Requires-Dist: b >> 1",
            "lib/python3.11/site-packages/a-1.dist-info/METADATA says Requires-Dist: b >> 1, which can't be understood",
        ),
        (
            "Version: one",
            "lib/python3.11/site-packages/a-1.dist-info/METADATA says Version: one, which is no version",
        ),
    ] {
        assert_eq!(misfits(&[("a 1", lines), ("b 1.5", "")]), [told]);
    }
}
