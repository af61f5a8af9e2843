//! The interactive shell: prompt, job control, Ctrl-C, resize, and root's terminal as it was afterwards.

use anyhow::Result;
use venvd_tests::{Machine, Os};

use crate::nova;
use venvd_tests::terminal::{PATIENCE, Terminal};

const ROOTS_SHELL: &str = "env PS1='root: ' SHELL=/bin/bash bash --norc";

/// A way to start a shell.
struct Case {
    name: &'static str,
    command: &'static str,
    /// The last part of the prompt is the service user's own, where his file says so.
    prompt: &'static str,
    status: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        name: "bash",
        command: "venv-activate nova",
        prompt: "(nova:2) nova>",
        status: "$?",
    },
    Case {
        name: "zsh",
        command: "venv-activate --shell zsh nova",
        prompt: "(nova:2) nova>",
        status: "$?",
    },
    Case {
        name: "fish",
        command: "venv-activate --shell fish nova:1",
        prompt: "(nova:1) nova>",
        status: "$status",
    },
    Case {
        name: "sh",
        command: "SHELL=/bin/zsh venv-activate --shell=sh nova",
        prompt: "(nova:2) $",
        status: "$?",
    },
    // Where no filter can be loaded.
    Case {
        name: "own",
        command: "setpriv --bounding-set=-sys_admin venv-activate nova",
        prompt: "(nova:2) nova>",
        status: "$?",
    },
];

fn works(machine: &Machine, case: &Case) {
    let terminal = Terminal::open(machine, case.name, ROOTS_SHELL);
    terminal.wait_for("root:");
    terminal.enter(case.command);
    terminal.wait_for_last(case.prompt);

    // What is typed is not what is printed, so that neither is taken for the other.
    let tag = &case.prompt[6..7];
    terminal.enter("nova-manage; id -un | sed s/^/I-am-/; stty size | sed s/^/size-/");
    terminal.wait_for(&format!("nova-manage of {tag} as nova"));
    terminal.wait_for("I-am-nova");
    terminal.wait_for("size-24 120");
    terminal.resize(90, 30);
    terminal.enter("stty size | sed s/^/now-/");
    terminal.wait_for("now-30 90");
    terminal.enter(&format!("sh -c 'exit 7'; echo status-{}", case.status));
    terminal.wait_for("status-7");

    let sleeping = |what: &str, states: &str| {
        machine.wait_until(PATIENCE, what, |machine| {
            machine.run(&["pgrep", "-r", states, "-u", "nova", "sleep"]).success()
        });
    };
    terminal.enter("sleep 1000");
    sleeping("sleep runs", "S");
    terminal.press("C-z");
    terminal.wait_for_last(case.prompt);
    sleeping("sleep is stopped", "T");
    terminal.enter("fg");
    sleeping("sleep runs again", "S");
    terminal.press("C-c");
    terminal.wait_for_last(case.prompt);
    terminal.enter("sleep 1000");
    sleeping("another one runs", "S");
    terminal.press("C-c");
    terminal.wait_for_last(case.prompt);
    terminal.enter(&format!("echo status-{}", case.status));
    terminal.wait_for("status-130");

    terminal.enter("exit 3");
    terminal.wait_for_last("root:");
    terminal.enter("echo status-$?; stty -a | grep -o -w -e icanon -e echo -e isig");
    terminal.wait_for("status-3");
    for mode in ["isig", "icanon", "echo"] {
        terminal.wait_for(mode);
    }
    let left = machine.run(&["pgrep", "-a", "-u", "nova", "sleep"]).stdout;
    assert_eq!(left, "", "{}", case.name);
    terminal.enter("exit");
}

fn each_works(os: Os) -> Result<()> {
    let machine = nova::machine(os)?;
    for case in &CASES {
        works(&machine, case);
    }
    // Somebody's own shell, with zsh and fish too.
    let script = "PS1='$ '; old=$PATH; eval \"$(venv-activate --print nova)\"; eval \"$(venv-activate --print nova:1)\"; \
                  echo $VENVD_TAG $PS1; [[ ${PATH#/var/lib/venvd/venvs/nova/1/bin:} == $old ]] && deactivate && \
                  [[ $PATH == $old ]] && echo \"$PS1${VIRTUAL_ENV-left}\"";
    let said = machine.user_run("olga", &["zsh", "-fc", script]);
    assert_eq!(said.stdout, "1 (nova:1) $ \n$ left\n", "{said}");
    let script = "set old $PATH; venv-activate --print nova | source; eval \"$(venv-activate --print nova:1)\"; \
                  echo $VENVD_TAG $VIRTUAL_ENV; nova-manage; deactivate; test (string join : $PATH) = (string join : $old); and echo same; \
                  set --query VIRTUAL_ENV; or echo left; functions --query deactivate; or echo gone";
    let said = machine.user_run("olga", &["fish", "--no-config", "-c", script]);
    assert_eq!(
        said.stdout, "1 /var/lib/venvd/venvs/nova/1\nnova-manage of 1 as olga\nsame\nleft\ngone\n",
        "{said}"
    );
    Ok(())
}

#[test]
fn shells_show_the_venv_on_debian_12() -> Result<()> {
    each_works(Os::Debian12)
}

#[test]
fn shells_show_the_venv_on_debian_13() -> Result<()> {
    each_works(Os::Debian13)
}
