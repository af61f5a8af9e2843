use super::*;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn nova() -> Account {
    Account {
        name: "nova".parse().unwrap(),
        uid: 64060.into(),
        gid: 64060.into(),
        groups: vec![64060.into()],
        home: "/var/lib/nova".into(),
        shell: "/bin/sh".into(),
    }
}

fn venv() -> VenvPath {
    VenvPath::local(&layout(), "nova:29.2.0".parse().unwrap())
}

fn layout() -> Layout {
    Layout::new(venvd_fs::Root::host())
}

/// What root's shell may have, and what must not arrive.
fn hostile() -> Variables {
    let mut all = variables(&[
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/usr/bin/zsh"),
        ("PATH", "/root/bin:.::relative:/usr/bin"),
        ("LANG", "C.UTF-8"),
        ("TERM", "xterm"),
        ("OS_CLOUD", "prod"),
        ("https_proxy", "http://proxy:3128"),
        ("VENVD_TAG", "other"),
        ("shellshock", "() { :;}; echo no"),
        ("BASH_FUNC_ls%%", "() {  id; }"),
    ]);
    for name in [
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "PYTHONINSPECT",
        "PYTHONBREAKPOINT",
        "PYTHONPYCACHEPREFIX",
        "PYTHONPLATLIBDIR",
        "PYTHONUSERBASE",
        "PYTHONWARNINGS",
        "PYTHON_NEW_IN_3_99",
        "VIRTUAL_ENV",
        "VIRTUAL_ENV_PROMPT",
        "__PYVENV_LAUNCHER__",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "BASH_ENV",
        "ENV",
        "IFS",
        "PS4",
        "SHELLOPTS",
        "CDPATH",
        "PERL5LIB",
        "PERL5OPT",
        "RUBYOPT",
        "NODE_OPTIONS",
        "JAVA_TOOL_OPTIONS",
        "OPENSSL_CONF",
        "HOSTALIASES",
        "ZDOTDIR",
        "PROMPT_COMMAND",
    ] {
        all.insert(name.into(), "/tmp/trap".into());
    }
    for name in [
        "SUDO_USER",
        "SUDO_COMMAND",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "MAIL",
        "SSH_AUTH_SOCK",
        "KRB5CCNAME",
        "DBUS_SESSION_BUS_ADDRESS",
        "TMPDIR",
        "LISTEN_FDS",
        "LISTEN_PID",
        "OLDPWD",
        "XAUTHORITY",
        "_",
    ] {
        all.insert(name.into(), "of-root".into());
    }
    all
}

#[test]
fn a_service_user_gets_exactly_this() {
    let mut result = clean(hostile());
    become_user(&mut result, &nova());
    enter_venv(&layout(), &mut result, &venv());
    let golden = variables(&[
        ("HOME", "/var/lib/nova"),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", "nova"),
        ("OS_CLOUD", "prod"),
        (
            "PATH",
            "/var/lib/venvd/venvs/nova/29.2.0/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("SHELL", "/bin/sh"),
        ("TERM", "xterm"),
        ("USER", "nova"),
        ("VENVD_APP", "nova"),
        ("VENVD_TAG", "29.2.0"),
        ("VIRTUAL_ENV", "/var/lib/venvd/venvs/nova/29.2.0"),
        ("https_proxy", "http://proxy:3128"),
    ]);
    assert_eq!(result, golden);
}

#[test]
fn a_caller_keeps_its_session_but_no_hook() {
    let mut result = clean(hostile());
    enter_venv(&layout(), &mut result, &venv());
    for (name, value) in [
        ("HOME", "/root"),
        ("XDG_RUNTIME_DIR", "of-root"),
        ("SSH_AUTH_SOCK", "of-root"),
        ("PATH", "/var/lib/venvd/venvs/nova/29.2.0/bin:/root/bin:/usr/bin"),
        ("VIRTUAL_ENV", "/var/lib/venvd/venvs/nova/29.2.0"),
    ] {
        assert_eq!(&result[OsStr::new(name)], value, "{name}");
    }
    let traps: Vec<_> = result.iter().filter(|(_, value)| *value == "/tmp/trap").collect();
    assert!(traps.is_empty(), "{traps:?}");
}

#[test]
fn entering_twice_is_entering_once() {
    let mut once = variables(&[("PATH", "/var/lib/venvd/venvs/glance/1/bin:/usr/bin:/bin")]);
    enter_venv(&layout(), &mut once, &venv());
    assert_eq!(
        &once[OsStr::new(PATH)],
        "/var/lib/venvd/venvs/nova/29.2.0/bin:/usr/bin:/bin"
    );
    let mut twice = once.clone();
    enter_venv(&layout(), &mut twice, &venv());
    assert_eq!(once, twice);
}

#[test]
fn without_a_path_there_is_a_safe_one() {
    for pairs in [[].as_slice(), &[("PATH", "")]] {
        let mut result = variables(pairs);
        enter_venv(&layout(), &mut result, &venv());
        let path = result[OsStr::new(PATH)].to_str().unwrap();
        assert!(path.ends_with(SAFE_PATH), "{path}");
    }
}
