//! `--print`, in the shells that every host has.

use crate::chroot::Host;

const OPERATOR: &str = "setpriv --reuid 1000 --regid 1000 --clear-groups";

/// Runs a script in each shell, as somebody without any right; returns what one says, since all say the same.
fn in_each_shell(host: &Host, script: &str) -> String {
    host.write("/script", script);
    let said = ["bash", "dash"].map(|shell| host.ok(&format!("{OPERATOR} {shell} -eu /script")));
    assert_eq!(said[0], said[1]);
    said[0].clone()
}

#[test]
fn one_leaves_the_venv_as_one_came() {
    let Some(host) = Host::new() else { return };
    let said = in_each_shell(
        &host,
        r#"
        PS1='it'\''s "$" '; PYTHONPATH='/own dir'; PATH="/a b'\$c:$PATH"; export PYTHONPATH
        unset VIRTUAL_ENV
        old=$PATH
        tell() { echo "<$PS1> ${VIRTUAL_ENV-} ${VENVD_TAG-} ${PYTHONPATH-}"; }
        eval "$(/venv-activate --print nova)"; tell
        [ "$PATH" = "/var/lib/venvd/venvs/nova/2/bin:$old" ]
        command -v report
        sh -c 'echo $VIRTUAL_ENV $VENVD_APP $VENVD_TAG'
        eval "$(/venv-activate --print nova:1)"; tell
        [ "$PATH" = "/var/lib/venvd/venvs/nova/1/bin:$old" ]
        eval "$(/venv-activate --print nova:1)"; tell
        deactivate; tell
        [ "$PATH" = "$old" ]
        sh -c 'echo $PYTHONPATH'
        command -v deactivate || echo gone
        set | grep -e ^VENVD_APP= -e ^VENVD_TAG= -e ^VIRTUAL -e ^_OLD || echo clean
        "#,
    );
    let expected = "<(nova:2) it's \"$\" > /var/lib/venvd/venvs/nova/2 2 \n\
                    /var/lib/venvd/venvs/nova/2/bin/report\n\
                    /var/lib/venvd/venvs/nova/2 nova 2\n\
                    <(nova:1) it's \"$\" > /var/lib/venvd/venvs/nova/1 1 \n\
                    <(nova:1) it's \"$\" > /var/lib/venvd/venvs/nova/1 1 \n\
                    <it's \"$\" >   /own dir\n\
                    /own dir\n\
                    gone\n\
                    clean\n";
    assert_eq!(said, expected);
}

#[test]
fn it_goes_together_with_pythons_own() {
    let Some(host) = Host::new() else { return };
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    host.ok("python3 -m venv --without-pip /plain");
    let said = in_each_shell(
        &host,
        r#"
        PS1='$ '; old=$PATH
        tell() { echo "<$PS1> ${VIRTUAL_ENV-} ${PATH%"$old"}"; }
        . /plain/bin/activate; tell
        eval "$(/venv-activate --print nova)"; tell
        . /plain/bin/activate; tell
        deactivate; tell
        "#,
    );
    let expected = "<(plain) $ > /plain /plain/bin:\n\
                    <(nova:2) $ > /var/lib/venvd/venvs/nova/2 /var/lib/venvd/venvs/nova/2/bin:\n\
                    <(plain) $ > /plain /plain/bin:\n\
                    <$ >  \n";
    assert_eq!(said, expected);
}

#[test]
fn a_script_has_no_prompt_and_root_no_venv() {
    let Some(host) = Host::new() else { return };
    let said = in_each_shell(
        &host,
        "unset PS1; eval \"$(/venv-activate --print nova)\"; echo ${PS1-none}; deactivate; echo ${PS1-none}",
    );
    assert_eq!(said, "none\nnone\n");
    let (status, said) = host.fails("/venv-activate --print nova");
    assert_eq!(status, 125);
    assert!(said.contains("`venv-activate nova` starts a shell"), "{said}");
    // What is on standard output would be run.
    let output = host.shell(&format!("{OPERATOR} /venv-activate --print glance"));
    assert_eq!((output.status.code(), output.stdout), (Some(127), Vec::new()));
}
