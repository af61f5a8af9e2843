//! Man pages in roff: clap_mangen's sections, and ours.

use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::verbs::{Example, Exit, VERBS, Verb};

/// The title of the manual, at the head of each page.
const MANUAL: &str = "venvd";

/// Returns all pages with the names of their files.
pub(super) fn all(mut command: Command, date: &str) -> Vec<(String, Vec<u8>)> {
    // Gives the verbs the options that hold for all of them.
    command.build();
    let mut pages = vec![("venvctl.1".to_owned(), main_page(&command, date))];
    for verb in VERBS {
        if let Some(subcommand) = command.find_subcommand(verb.name) {
            pages.push((format!("venvctl-{}.1", verb.name), verb_page(subcommand, verb, date)));
        }
    }
    pages
}

fn main_page(command: &Command, date: &str) -> Vec<u8> {
    // The verb `help` has no page, and the exit status gets a section.
    let command = command
        .clone()
        .mut_subcommand("help", |help| help.hide(true))
        .subcommand_value_name("COMMAND")
        .subcommand_help_heading("COMMANDS")
        .after_help(None::<&str>);
    let mut own = Roff::new();
    exit_status(&mut own, Exit::Activation, "Of activate, rollback, enable and disable:");
    paragraph(
        &mut own,
        "Of verify, doctor and policy: 0 nothing is wrong, 1 something is. Of all others: 0 done, 1 refused or failed. 2 is always \
         a wrong command line. With --json, `code` tells the cases apart.",
    );
    paragraph(
        &mut own,
        "With --user all of it is about your own venvs: /etc/venvd in these pages is ~/.config/venvd, /var/lib/venvd is \
         ~/.local/share/venvd, and /run is $XDG_RUNTIME_DIR.",
    );
    let first_steps = VERBS
        .iter()
        .filter(|verb| ["build", "activate", "status"].contains(&verb.name));
    examples(&mut own, first_steps.filter_map(|verb| verb.examples.first()));
    see_also(&mut own, VERBS.iter().map(|verb| verb.name));
    finished(&command, title("venvctl", date), own)
}

fn verb_page(command: &Command, verb: &Verb, date: &str) -> Vec<u8> {
    let name = format!("venvctl-{}", verb.name);
    let command = command
        .clone()
        .display_name(&name)
        .bin_name(format!("venvctl {}", verb.name))
        // The examples get a section.
        .after_long_help(None::<&str>);
    let mut own = Roff::new();
    commands(&mut own, &command);
    examples(&mut own, verb.examples);
    exit_status(&mut own, verb.exit, "");
    own.control("SH", ["FILES"]);
    for (path, what) in verb.files.iter().map(|file| file.says()) {
        own.control("TP", []);
        own.text([italic(path)]);
        own.text([roman(what)]);
    }
    see_also(&mut own, verb.see.iter().copied());
    finished(&command, title(&name, date), own)
}

/// Returns a page's head. Ours, since clap_mangen leaves an empty date out and moves what follows it to its place.
fn title(name: &str, date: &str) -> Roff {
    let source = format!("venvd {}", env!("CARGO_PKG_VERSION"));
    let mut title = Roff::new();
    title.control("TH", [name.to_uppercase().as_str(), "1", date, &source, MANUAL]);
    title
}

/// Returns the head and clap's sections, followed by our own.
fn finished(command: &Command, title: Roff, own: Roff) -> Vec<u8> {
    let mut page = Vec::new();
    let written = title
        .to_writer(&mut page)
        .and_then(|()| render(&Man::new(command.clone()), command, &mut page))
        .and_then(|()| own.to_writer(&mut page));
    // Writing into memory does not fail.
    debug_assert!(written.is_ok(), "{written:?}");
    page
}

fn render(man: &Man, command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    // Those of a verb have no pages, so they are explained on its own: see `commands`.
    if command.has_subcommands() && command.get_name() == "venvctl" {
        man.render_subcommands_section(page)?;
    }
    Ok(())
}

/// Explains the commands of a verb that has some.
fn commands(page: &mut Roff, verb: &Command) {
    if !verb.has_subcommands() {
        return;
    }
    page.control("SH", ["COMMANDS"]);
    for command in verb.get_subcommands() {
        let options = command
            .get_arguments()
            .filter(|argument| !argument.is_global_set() && !argument.is_hide_set());
        let options: Vec<_> = options.filter(|argument| argument.get_id() != "help").collect();
        let usage: Vec<String> = options
            .iter()
            .map(|argument| format!("[{}]", name_of(argument)))
            .collect();
        page.control("TP", []);
        page.text([bold(command.get_name()), roman(format!(" {}", usage.join(" ")))]);
        page.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
        for option in options.iter().filter(|argument| !argument.is_positional()) {
            page.control("RS", []);
            page.control("TP", []);
            page.text([bold(name_of(option))]);
            page.text([roman(option.get_help().map(ToString::to_string).unwrap_or_default())]);
            page.control("RE", []);
        }
    }
}

fn name_of(argument: &Arg) -> String {
    match argument.get_long() {
        Some(long) => format!("--{long}"),
        None => argument.get_id().as_str().to_uppercase(),
    }
}

fn paragraph(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.text([roman(text)]);
}

fn examples<'a>(page: &mut Roff, examples: impl IntoIterator<Item = &'a Example>) {
    page.control("SH", ["EXAMPLES"]);
    for (index, example) in examples.into_iter().enumerate() {
        // A paragraph right after a heading is one too many for mandoc.
        if index > 0 {
            page.control("PP", []);
        }
        page.text([roman(example.what)]);
        page.control("PP", []);
        page.control("RS", ["4"]);
        page.control("nf", []);
        page.text([bold(example.command)]);
        page.control("fi", []);
        page.control("RE", []);
    }
}

fn exit_status(page: &mut Roff, exit: Exit, of: &str) {
    page.control("SH", ["EXIT STATUS"]);
    if !of.is_empty() {
        page.text([roman(of)]);
    }
    for (status, meaning) in exit.table() {
        page.control("TP", []);
        page.text([bold(*status)]);
        page.text([roman(*meaning)]);
    }
}

fn see_also<'a>(page: &mut Roff, verbs: impl Iterator<Item = &'a str>) {
    page.control("SH", ["SEE ALSO"]);
    // Names of pages are not to be hyphenated, nor their line spread.
    page.control("nh", []);
    page.control("ad", ["l"]);
    let mut pages: Vec<(String, &str)> = verbs.map(|verb| (format!("venvctl-{verb}"), "1")).collect();
    pages.sort();
    if pages.len() < VERBS.len() {
        pages.insert(0, ("venvctl".to_owned(), "1"));
    }
    pages.extend([("venv-activate".to_owned(), "1"), ("venvd".to_owned(), "8")]);
    let mut line = Vec::new();
    for (name, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(name), roman(format!("({section})"))]);
    }
    page.text(line);
}
