//! policy diff: what `policy apply` would change.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use similar::TextDiff;
use venvd_app::{AppName, Layout};
use venvd_policy::{Edit, Edited};

use super::{Trouble, status, subjects};
use crate::failure::Failure;
use crate::output;

const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const CYAN: &str = "\u{1b}[36m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// What would change.
#[derive(Debug, Serialize)]
struct Diffs {
    changed: bool,
    files: Vec<FileDiff>,
    refused: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
struct FileDiff {
    app: AppName,
    path: PathBuf,
    edited: bool,
    diff: String,
}

/// Shows what would change, in colour on a terminal unless `NO_COLOR` is set.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let (subjects, mut refused) = subjects(layout, app)?;
    let mut files = Vec::new();
    for subject in &subjects {
        match subject.plan(layout, Edited::SetAside) {
            Ok(plan) => files.extend(plan.edits().iter().map(|edit| FileDiff {
                app: subject.app.name.clone(),
                path: edit.path.clone(),
                edited: edit.is_over_edited(),
                diff: unified(edit),
            })),
            Err(error) => refused.push(Trouble::new(&subject.app.name, error.into())),
        }
    }
    // Apps of one user share a file, and each of them would put it right.
    files.sort_by(|a: &FileDiff, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path && a.diff == b.diff);
    let diffs = Diffs {
        changed: !files.is_empty(),
        files,
        refused,
    };
    let well = diffs.refused.is_empty();
    for trouble in diffs.refused.iter().filter(|_| !json) {
        output::say(&format!("venvctl: {}: {}", trouble.app, trouble.message));
    }
    if json {
        output::show(&diffs, true, |_| String::new())?;
    } else {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let text: String = diffs.files.iter().map(|file| file.diff.as_str()).collect();
        let text = output::printable(&text);
        output::print(&if colour { coloured(&text) } else { text })?;
    }
    Ok(status(well))
}

fn unified(edit: &Edit) -> String {
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    let (before, after) = (text(&edit.before), text(&edit.after));
    let name = |present: bool| {
        let path = if present { &edit.path } else { Path::new("/dev/null") };
        path.display().to_string()
    };
    if before == after && edit.before.is_some() == edit.after.is_some() {
        return format!("{}: owner or mode is put right\n", edit.path.display());
    }
    TextDiff::from_lines(&before, &after)
        .unified_diff()
        .header(&name(edit.before.is_some()), &name(edit.after.is_some()))
        .to_string()
}

fn coloured(diff: &str) -> String {
    let mut text = String::new();
    for line in diff.lines() {
        let colour = match line.as_bytes() {
            [b'-', b'-', b'-', b' ', ..] | [b'+', b'+', b'+', b' ', ..] => BOLD,
            [b'-', ..] => RED,
            [b'+', ..] => GREEN,
            [b'@', ..] => CYAN,
            _ => "",
        };
        if colour.is_empty() {
            text.push_str(line);
        } else {
            text.push_str(&format!("{colour}{line}{PLAIN}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_policy::Kind;

    fn edit(before: Option<&str>, after: Option<&str>) -> Edit {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        Edit {
            kind: Kind::Rules,
            path: "/etc/sudoers.d/venvd-nova".into(),
            before: bytes(before),
            link: None,
            after: bytes(after),
            in_force: true,
        }
    }

    #[test]
    fn says_what_comes_and_goes() {
        assert_eq!(
            unified(&edit(None, Some("a\n"))),
            "--- /dev/null\n+++ /etc/sudoers.d/venvd-nova\n@@ -0,0 +1 @@\n+a\n"
        );
        assert_eq!(
            unified(&edit(Some("a\n"), None)),
            "--- /etc/sudoers.d/venvd-nova\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
        );
        let changed = unified(&edit(Some("a\nb\n"), Some("a\nc\n")));
        assert!(changed.ends_with("@@ -1,2 +1,2 @@\n a\n-b\n+c\n"), "{changed}");
        assert!(unified(&edit(Some("a\n"), Some("a\n"))).contains("mode"));
    }

    #[test]
    fn colours_lines_by_what_they_are() {
        assert_eq!(
            coloured("--- x\n+++ x\n@@ -1 +1 @@\n a\n-b\n+c\n"),
            format!(
                "{BOLD}--- x{PLAIN}\n{BOLD}+++ x{PLAIN}\n{CYAN}@@ -1 +1 @@{PLAIN}\n a\n{RED}-b{PLAIN}\n{GREEN}+c{PLAIN}\n"
            )
        );
    }
}
