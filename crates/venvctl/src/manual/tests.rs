//! Every verb is explained, and what the manual says works.

use std::process::{Command as Process, Stdio};

use clap::Parser;

use super::*;

/// The words of a shell's command line, as far as the examples need one.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn every_verb_has_help_and_examples_and_every_option_is_explained() {
    let command = command();
    let mut verbs: Vec<&str> = Vec::new();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name();
        verbs.push(name);
        assert!(verb.get_about().is_some(), "{name} has no help");
        assert!(verb.get_long_about().is_some(), "{name} has no long help");
        assert!(verb.get_after_long_help().is_some(), "{name} has no examples");
        for argument in verb.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
        }
    }
    assert_eq!(verbs, VERBS.iter().map(|verb| verb.name).collect::<Vec<_>>());
}

#[test]
fn every_example_is_a_command_line_of_its_verb() {
    for verb in VERBS {
        assert!(!verb.examples.is_empty(), "{}", verb.name);
        for example in verb.examples {
            let words = words(example.command);
            assert!(words.contains(&verb.name.to_owned()), "{}", example.command);
            Args::try_parse_from(&words).unwrap_or_else(|error| panic!("{}: {error}", example.command));
        }
        for other in verb.see {
            assert!(VERBS.iter().any(|known| known.name == *other), "{}: {other}", verb.name);
        }
    }
}

#[test]
fn every_verb_has_a_page_with_all_sections_that_the_formatters_like() {
    let directory = tempfile::tempdir().unwrap();
    write_pages(directory.path(), "2026-01-31").unwrap();
    let pages: Vec<_> = ["venvctl.1".to_owned()]
        .into_iter()
        .chain(VERBS.iter().map(|verb| format!("venvctl-{}.1", verb.name)))
        .map(|name| directory.path().join(name))
        .collect();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), pages.len());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ] {
            assert!(text.contains(&format!(".SH {section}\n")), "{page:?} has no {section}");
        }
        well_formed(page);
    }
}

#[test]
fn the_pages_of_the_other_programs_are_well_formed_and_of_this_version() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/man"));
    let version = concat!("\"venvd ", env!("CARGO_PKG_VERSION"), "\"");
    for name in ["venv-activate.1", "venvd.8", "venvd-generator.8"] {
        let page = directory.join(name);
        assert!(fs::read_to_string(&page).unwrap().contains(version), "{name}");
        well_formed(&page);
    }
}

fn well_formed(page: &Path) {
    quiet(
        Process::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8"])
            .arg(page),
    );
    quiet(Process::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(page));
}

/// Runs a formatter, where it is installed, and expects it to have nothing to say.
fn quiet(formatter: &mut Process) {
    let formatter = formatter.env("MANWIDTH", "100").stdin(Stdio::null());
    let Ok(output) = formatter.output() else { return };
    let lint = formatter.get_program() == "mandoc";
    let said = String::from_utf8_lossy(if lint { &output.stdout } else { &output.stderr });
    assert!(output.status.success() && said.is_empty(), "{formatter:?}: {said}");
}

#[test]
fn completions_know_every_verb() {
    let directory = tempfile::tempdir().unwrap();
    write_completions(directory.path()).unwrap();
    for name in ["venvctl.bash", "_venvctl", "venvctl.fish"] {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        for verb in VERBS {
            assert!(text.contains(verb.name), "{name}: {}", verb.name);
        }
    }
}
