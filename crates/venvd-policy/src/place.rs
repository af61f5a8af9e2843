//! Where in a definition something stands.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use venvd_app::value::SudoCommand;
use venvd_app::{App, Layout};

/// A place in an app's definition: file, line where it can be told, and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as a path of the host.
    pub file: PathBuf,
    /// Line, from 1; `None` when what is meant stands there in other words (another quoting).
    pub line: Option<usize>,
    /// The key: `sudo.commands[0]`.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, " ({})", self.key)
    }
}

impl Place {
    /// Returns each sudo command, and where it stands: of several files that have its text, the last one merged.
    pub(crate) fn of_commands<'a>(layout: &Layout, app: &'a App) -> Vec<(Box<Self>, &'a SudoCommand)> {
        let pinned = app.sudo.commands.len();
        let with_place = |(index, command)| {
            let key = match usize::checked_sub(index, pinned) {
                None => format!("sudo.commands[{index}]"),
                Some(index) => format!("sudo.unsafe[{index}]"),
            };
            (Box::new(Self::find(layout, app, key, &text_of(command))), command)
        };
        app.sudo.all().enumerate().map(with_place).collect()
    }

    /// Returns where the user is named.
    pub(crate) fn of_user(layout: &Layout, app: &App) -> Box<Self> {
        let name = app.user.as_ref().map(ToString::to_string).unwrap_or_default();
        Box::new(Self::find(layout, app, "user".to_owned(), &name))
    }

    fn find(layout: &Layout, app: &App, key: String, text: &str) -> Self {
        let quoted = [format!("\"{text}\""), format!("'{text}'")];
        let line_in = |file: &Path| {
            let contents = fs::read_to_string(layout.on_disk(file)).ok()?;
            let at = contents
                .lines()
                .position(|line| quoted.iter().any(|quoted| line.contains(quoted)))?;
            Some(at + 1)
        };
        let mut files = fragments(layout, app);
        files.insert(0, app.source.clone());
        let found = files.into_iter().rev().find_map(|file| Some((line_in(&file)?, file)));
        match found {
            Some((line, file)) => Self {
                file,
                line: Some(line),
                key,
            },
            None => Self {
                file: app.source.clone(),
                line: None,
                key,
            },
        }
    }
}

/// Returns a command as a definition writes it.
pub(crate) fn text_of(command: &SudoCommand) -> String {
    let star = if command.open_ended { " *" } else { "" };
    format!("{} {}{star}", command.program, command.arguments.join(" "))
}

/// Returns the fragments that may be merged over a definition. What can't be listed has been read before, or reported.
fn fragments(layout: &Layout, app: &App) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in layout.definition_directories() {
        let directory = directory.join(format!("{}.toml.d", app.name));
        let entries = fs::read_dir(layout.on_disk(&directory)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        found.extend(names.into_iter().map(|name| directory.join(name)));
    }
    found
}
