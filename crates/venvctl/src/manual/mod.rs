//! Help and man pages: one text for both.
//!
//! Options and descriptions are clap's; examples, exit status and files are in [`verbs`]. Pages are made when the
//! package is (`venvctl generate man DIR`), so none can differ from the program beside it.

mod page;
mod verbs;

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Args;
use crate::failure::Failure;
use verbs::{VERBS, Verb};

/// Returns the command line with each verb's examples in its long help.
pub(crate) fn command() -> Command {
    VERBS.iter().fold(Args::command(), |command, verb| {
        command.mut_subcommand(verb.name, |subcommand| subcommand.after_long_help(examples(verb)))
    })
}

/// Writes a page for `venvctl` and one for each verb into a directory; `date` stands at the foot of each.
pub(crate) fn write_pages(directory: &Path, date: &str) -> Result<(), Failure> {
    for (name, text) in page::all(command(), date) {
        write(&directory.join(name), &text)?;
    }
    Ok(())
}

/// Writes completions for the shells that most hosts have, each by the name that its shell looks for.
pub(crate) fn write_completions(directory: &Path) -> Result<(), Failure> {
    for (shell, name) in [
        (Shell::Bash, "venvctl.bash"),
        (Shell::Zsh, "_venvctl"),
        (Shell::Fish, "venvctl.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "venvctl", &mut text);
        write(&directory.join(name), &text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| Failure::refused("io", format!("can't write {path:?}: {error}")))
}

/// Returns the examples as the end of a long help.
fn examples(verb: &Verb) -> String {
    let mut text = "Examples:".to_owned();
    for example in verb.examples {
        text.push_str(&format!("\n  {}\n      {}", example.what, example.command));
    }
    text
}

#[cfg(test)]
mod tests;
