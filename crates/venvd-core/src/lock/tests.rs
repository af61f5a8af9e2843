use super::*;

const H1: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const H2: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn requirements(text: &str) -> Result<Lock, LockError> {
    Lock::parse(Path::new("/lock.txt"), Format::Requirements, text.to_owned())
}

fn pylock(text: &str) -> Result<Lock, LockError> {
    Lock::parse(Path::new("/pylock.toml"), Format::Pylock, text.to_owned())
}

#[test]
fn requirements_in_all_their_spellings_mean_the_same() {
    let lock = requirements(&format!(
        "# made by uv\n\nOslo.Config[x]==1.0 ; python_version  >= '3.9' \\\n    --hash=sha256:{H2} \\\n    \
         --hash=sha256:{H1}\n    # via nova\nnova == 2!1.0+local --hash=sha256:{H1} # comment\n"
    ))
    .unwrap();
    let expected = format!(
        "nova==2!1.0+local \\\n    --hash=sha256:{H1}\noslo-config==1.0 ; python_version >= '3.9' \\\n    \
         --hash=sha256:{H1} \\\n    --hash=sha256:{H2}\n"
    );
    assert_eq!(lock.render(), expected);
    assert_eq!(
        requirements(&expected).unwrap().render(),
        expected,
        "what is rendered reads back"
    );
    assert_eq!(lock.version_of("oslo_config"), Some("1.0"));
}

#[test]
fn requirements_that_are_no_lock_are_refused_with_their_line() {
    for (text, code) in [
        ("nova==1".to_owned(), "lock-not-hashed"),
        (format!("nova>=1 --hash=sha256:{H1}"), "lock-invalid"),
        (format!("nova==1.* --hash=sha256:{H1}"), "lock-invalid"),
        (format!("nova==1,!=2 --hash=sha256:{H1}"), "lock-invalid"),
        ("-r other.txt".to_owned(), "lock-invalid"),
        ("-e .".to_owned(), "lock-invalid"),
        ("--index-url https://index.example.org".to_owned(), "lock-invalid"),
        (
            format!("nova @ https://x.example.org/nova.whl --hash=sha256:{H1}"),
            "lock-invalid",
        ),
        (format!("./nova.whl --hash=sha256:{H1}"), "lock-invalid"),
        (format!("nova==1 --hash=sha256:{H1} --no-binary=nova"), "lock-invalid"),
        (format!("nova==1 --hash=md5:{H1}"), "lock-invalid"),
        ("nova==1 --hash=sha256:aa".to_owned(), "lock-invalid"),
        (format!("nova==1 ; $(id) --hash=sha256:{H1}"), "lock-invalid"),
        (format!("nova==1 ; -x --hash=sha256:{H1}"), "lock-invalid"),
    ] {
        let error = requirements(&format!("# one\n{text}\n")).unwrap_err();
        assert_eq!(error.code(), code, "{text}: {error}");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
    let twice = format!("a==1 --hash=sha256:{H1}\nA==2 --hash=sha256:{H1}\n");
    assert!(matches!(requirements(&twice), Err(LockError::Twice { .. })));
    assert!(matches!(requirements("# nothing\n"), Err(LockError::Empty { .. })));
}

#[test]
fn a_pylock_means_the_same_as_requirements() {
    let lock = pylock(&format!(
        "lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = 'Nova'\nversion = '1'\nmarker = \"os_name=='posix'\"\n\
         wheels = [{{ name = 'n.whl', url = 'https://x', hashes = {{ sha256 = '{H1}' }} }}]\n"
    ))
    .unwrap();
    let same = requirements(&format!("nova==1 ; os_name=='posix' --hash=sha256:{H1}")).unwrap();
    assert_eq!(lock.requirements, same.requirements);
    let with_source = pylock(&format!(
        "lock-version = '1.0'\n[[packages]]\nname = 'ovs'\nversion = '3'\nsdist = {{ hashes = {{ sha256 = '{H2}' }} }}\n"
    ));
    assert!(with_source.unwrap().requirements[0].hashes.contains(H2));
}

#[test]
fn a_pylock_without_wheels_and_hashes_is_refused() {
    let package = |rest: &str| format!("lock-version = '1.0'\n[[packages]]\nname = 'nova'\n{rest}");
    for text in [
        "lock-version = '2.0'".to_owned(),
        "packages = 3".to_owned(),
        package("version = '1'"),
        package("vcs = { type = 'git' }"),
        package("version = '1'\nwheels = [{ name = 'a.whl' }]"),
        package(&format!(
            "version = '1'\nmarker = \"'x' in extras\"\nwheels = [{{ hashes = {{ sha256 = '{H1}' }} }}]"
        )),
    ] {
        assert!(matches!(pylock(&text), Err(LockError::Pylock { .. })), "{text}");
    }
}

#[test]
fn the_digest_covers_what_decides_the_content() {
    let python: Interpreter = serde_json::from_str(
        r#"{"version":"3.11.2","minor":"3.11","implementation":"cpython","cache_tag":"cpython-311",
        "soabi":"cpython-311-x86_64-linux-gnu","magic":"a7","platform":"linux-x86_64","arch":"x86_64","libc":"","stdlib":"/"}"#,
    )
    .unwrap();
    let lock = |text: &str| requirements(text).unwrap();
    let line = format!("nova==1 --hash=sha256:{H1}\n");
    let digest = lock(&line).digest(&python, &[]);
    assert_eq!(lock(&format!("# other comment\n{line}\n")).digest(&python, &[]), digest);
    let patched = Interpreter {
        version: "3.11.9".to_owned(),
        ..python.clone()
    };
    assert_eq!(lock(&line).digest(&patched, &[]), digest);
    let minor = Interpreter {
        minor: "3.12".to_owned(),
        ..python.clone()
    };
    assert_ne!(lock(&line).digest(&minor, &[]), digest);
    assert_ne!(lock(&line.replace("==1", "==2")).digest(&python, &[]), digest);
}

#[test]
fn differences_are_named() {
    let lock = |text: &str| requirements(&text.replace('|', &format!(" --hash=sha256:{H1}\n"))).unwrap();
    let differences = lock("a==2|c==1|d==1|").differences(&lock("a==1|b==1|d==1|"));
    assert_eq!(
        differences,
        [
            "a was 1 and is 2 now",
            "b 1 was in it and is not now",
            "c 1 was not in it and is now"
        ]
    );
    let other = requirements(&format!("a==1 --hash=sha256:{H2}")).unwrap();
    assert_eq!(
        other.differences(&lock("a==1|")),
        ["a 1 has other hashes or another marker"]
    );
}
