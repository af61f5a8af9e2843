//! Completion as it is used: the tabulator key, pressed by somebody without any right.

use anyhow::Result;
use venvd_tests::{Machine, Os};

use crate::nova;
use venvd_tests::terminal::Terminal;

/// How to start each shell, and how it is made ready.
const SHELLS: [(&str, &str, &str); 3] = [
    (
        "bash",
        "runuser -u olga -- env HOME=/tmp bash --norc",
        "PS1=': '; . /usr/share/bash-completion/bash_completion",
    ),
    (
        "zsh",
        "runuser -u olga -- env HOME=/tmp zsh -f",
        "PS1=': '; autoload -Uz compinit; compinit -D",
    ),
    (
        "fish",
        "runuser -u olga -- env HOME=/tmp fish",
        "set fish_autosuggestion_enabled 0; function fish_prompt; echo ': '; end",
    ),
];

/// What is typed before the key is pressed, and what then stands there.
const LINES: [(&str, &str); 8] = [
    ("venv-activate gla", "venv-activate glance"),
    ("venv-activate glance:9", "venv-activate glance:9.8.7"),
    ("venv-activate nova nova-m", "venv-activate nova nova-manage"),
    (
        "venv-activate glance:9.8.7 gl",
        "venv-activate glance:9.8.7 glance-manage",
    ),
    (
        "venv-activate --as-self nova -- nova-m",
        "venv-activate --as-self nova -- nova-manage",
    ),
    ("venv-activate --as", "venv-activate --as-self"),
    (
        "venv-activate --unit systemd-journald.s",
        "venv-activate --unit systemd-journald.service",
    ),
    (
        "venv-activate nova:1 ls /etc/machine-i",
        "venv-activate nova:1 ls /etc/machine-id",
    ),
];

fn completes(machine: &Machine, (name, shell, ready): (&'static str, &str, &str)) {
    let terminal = Terminal::open(machine, name, shell);
    terminal.enter(ready);
    terminal.wait_for_last(":");
    for (typed, completed) in LINES {
        terminal.press("C-c");
        terminal.wait_for_last(":");
        terminal.type_text(typed);
        terminal.press("Tab");
        terminal.wait_for_last(&format!(": {completed}"));
    }
}

fn each_completes(os: Os) -> Result<()> {
    let machine = nova::machine(os)?;
    for shell in SHELLS {
        completes(&machine, shell);
    }
    Ok(())
}

#[test]
fn names_are_completed_on_debian_12() -> Result<()> {
    each_completes(Os::Debian12)
}

#[test]
fn names_are_completed_on_debian_13() -> Result<()> {
    each_completes(Os::Debian13)
}
