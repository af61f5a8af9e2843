//! `--print`: what somebody's own shell must evaluate to have the venv, and to get rid of it by `deactivate`.
//!
//! Nothing of the venv is run or read for that. Saved variables have the names of Python's own `activate`, so that either
//! undoes the other: entering a second venv, made by whomever, leaves the first one.

use std::fs;
use std::path::Path;

use nix::unistd::getppid;
use venvd_app::links::VenvPath;

use crate::shell::Kind;

/// What is set, and to what.
type Setting = (&'static str, String);

/// What would put other code into the venv's python, as Python's own `activate` has it for the first.
const UNSET: [&str; 2] = ["PYTHONHOME", "PYTHONPATH"];

/// Tells what kind of shell asks: `$(…)` and pipes are made by the shell itself.
pub(crate) fn asking() -> Kind {
    // Its name is cut off at 15 letters, which is no matter here; see proc_pid_comm(5).
    let name = fs::read_to_string(format!("/proc/{}/comm", getppid())).unwrap_or_default();
    Kind::of(Path::new(name.trim_end())).unwrap_or(Kind::Sh)
}

/// Returns the text for a kind of shell.
pub(crate) fn text(kind: Kind, venv: &VenvPath) -> String {
    let name = venv.name();
    let settings = [
        ("VIRTUAL_ENV", venv.path().display().to_string()),
        ("VIRTUAL_ENV_PROMPT", name.to_string()),
        ("VENVD_APP", name.app().to_string()),
        ("VENVD_TAG", name.tag().to_string()),
    ];
    let bin = venv.bin().display().to_string();
    match kind {
        Kind::Bash | Kind::Zsh | Kind::Sh => posix(&bin, &settings),
        Kind::Fish => fish(&bin, &settings),
    }
}

fn posix(bin: &str, settings: &[Setting]) -> String {
    let mut save = String::new();
    let mut restore = String::new();
    let mut set = String::new();
    let names = settings.iter().map(|(name, _)| *name).chain(["PATH"]).chain(UNSET);
    for name in names {
        let old = format!("_OLD_VIRTUAL_{name}");
        save += &format!("if [ -n \"${{{name}+x}}\" ]; then {old}=${name}; else unset -v {old}; fi\n");
        restore += &format!(
            "    if [ -n \"${{{old}+x}}\" ]; then {name}=${old}; export {name}; unset -v {old}; else unset -v {name}; fi\n"
        );
    }
    for (name, value) in settings {
        set += &format!("{name}={}; export {name}\n", quoted(value));
    }
    include_str!("print/posix.sh")
        .replace("@SAVE@\n", &save)
        .replace("    @RESTORE@\n", &restore)
        .replace("@SET@\n", &set)
        .replace("@UNSET@", &UNSET.join(" "))
        .replace("@BIN@", &quoted(bin))
}

fn fish(bin: &str, settings: &[Setting]) -> String {
    let mut save = String::new();
    let mut restore = String::new();
    let mut set = String::new();
    let names = settings.iter().map(|(name, _)| *name).chain(["PATH"]).chain(UNSET);
    for name in names {
        let old = format!("_OLD_VIRTUAL_{name}");
        save += &format!("if set --query {name}; set --global {old} ${name}; else; set --erase {old}; end\n");
        restore += &format!(
            "    if set --query {old}; set --global --export {name} ${old}; set --erase --global {old}; \
             else; set --erase --global {name}; end\n"
        );
    }
    for (name, value) in settings {
        set += &format!("set --global --export {name} {}\n", fish_quoted(value));
    }
    include_str!("print/fish.fish")
        .replace("@SAVE@\n", &save)
        .replace("    @RESTORE@\n", &restore)
        .replace("@SET@\n", &set)
        .replace("@UNSET@", &UNSET.join(" "))
        .replace("@BIN@", &fish_quoted(bin))
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// For fish, where a backslash means something between single quotes too.
fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
