//! diff: two venvs side by side.

use std::process::ExitCode;

use venvd_app::{Layout, VenvName};
use venvd_core::diff::{Amount, Change, Diff, DistributionChange, Names, diff};
use venvd_core::{Error, Manifest, list};

use crate::failure::Failure;
use crate::output::{
    self,
    table::{size, table},
};

/// Compares two venvs.
pub(super) fn run(layout: &Layout, before: &VenvName, after: &VenvName, json: bool) -> Result<ExitCode, Failure> {
    let (old, new) = (load(layout, before)?, load(layout, after)?);
    output::show(&diff((before, &old), (after, &new)), json, text)?;
    Ok(ExitCode::SUCCESS)
}

fn load(layout: &Layout, venv: &VenvName) -> Result<Manifest, Failure> {
    let directory = layout.on_disk(list::find(layout, venv)?.path());
    Manifest::load(&directory).map_err(|error| {
        Failure::from(Error::NotSealed {
            path: directory,
            reason: error.to_string(),
        })
    })
}

fn text(diff: &Diff) -> String {
    let mut text = format!("{} -> {}\n", diff.before, diff.after);
    if diff.identical {
        text.push_str("the same distributions, programs and host modules for the same Python\n");
    }
    let rows: Vec<Vec<String>> = diff.distributions.iter().map(row).collect();
    section(&mut text, &table(&["DISTRIBUTION", "CHANGE", "BEFORE", "AFTER"], &rows));
    let mut other = names("programs", &diff.programs);
    other.extend(names("host modules", &diff.host_modules));
    for change in &diff.python {
        other.push(vec![
            change.what.to_owned(),
            format!("{} -> {}", change.before, change.after),
        ]);
    }
    section(&mut text, &table(&["ALSO", ""], &other));
    let amount = |name: &str, amount: Amount| vec![name.to_owned(), amount.files.to_string(), size(amount.bytes)];
    let rows = [
        amount("new", diff.content.new),
        amount("shared", diff.content.shared),
        amount("gone", diff.content.gone),
    ];
    section(&mut text, &table(&["CONTENT", "FILES", "SIZE"], &rows));
    text
}

fn section(text: &mut String, table: &str) {
    if !table.is_empty() {
        text.push('\n');
        text.push_str(table);
    }
}

fn row(one: &DistributionChange) -> Vec<String> {
    let change = match one.change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Upgraded => "upgraded",
        Change::Downgraded => "downgraded",
        Change::Other => "other version",
        Change::Content => "other files",
    };
    let version = |version: &Option<String>| version.clone().unwrap_or_default();
    vec![
        one.name.clone(),
        change.to_owned(),
        version(&one.before),
        version(&one.after),
    ]
}

fn names(what: &str, names: &Names) -> Vec<Vec<String>> {
    [("+", &names.added), ("-", &names.removed), ("!", &names.changed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(sign, names)| {
            let signed: Vec<String> = names.iter().map(|name| format!("{sign}{name}")).collect();
            vec![what.to_owned(), signed.join(" ")]
        })
        .collect()
}
