//! The commands of a definition that an activation runs: hooks, and those that tell whether the app is healthy.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Contradiction, Unit, contradiction};
use crate::name::{ProgramName, UnitName};
use crate::value::{AbsolutePath, ValueError, refuse};

/// What is run around the restart of an app's units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Hooks {
    /// While the old venv still serves.
    pub before_stop: Vec<Hook>,
    /// While the app's units are stopped.
    pub while_stopped: Vec<Hook>,
    /// When the new venv's units have settled.
    pub after_start: Vec<Hook>,
}

/// When hooks run, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookStage {
    /// While the old venv still serves.
    BeforeStop,
    /// While the app's units are stopped.
    WhileStopped,
    /// When the new venv's units have settled.
    AfterStart,
}

/// A command that is run at one moment of an activation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// The command.
    pub run: CommandLine,
    /// It is run only on hosts where this unit is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unit: Option<UnitName>,
    /// Whether there is no automatic way back once it has done its work.
    #[serde(default)]
    pub one_way: bool,
}

impl Hooks {
    /// Returns the hooks of a stage, in the order in which they run.
    #[must_use]
    pub fn of(&self, stage: HookStage) -> &[Hook] {
        match stage {
            HookStage::BeforeStop => &self.before_stop,
            HookStage::WhileStopped => &self.while_stopped,
            HookStage::AfterStart => &self.after_start,
        }
    }

    /// Returns all of them.
    pub fn all(&self) -> impl Iterator<Item = &Hook> {
        self.before_stop
            .iter()
            .chain(&self.while_stopped)
            .chain(&self.after_start)
    }

    /// Refuses hooks that would never run: a misspelt `when-unit` would leave them out without a word.
    pub(super) fn fit(&self, units: &BTreeMap<UnitName, Unit>) -> Result<(), Contradiction> {
        for (key, hooks) in [
            ("before-stop", &self.before_stop),
            ("while-stopped", &self.while_stopped),
            ("after-start", &self.after_start),
        ] {
            for unit in hooks.iter().filter_map(|hook| hook.when_unit.as_ref()) {
                let declared =
                    units.contains_key(unit) || unit.template().is_some_and(|name| units.contains_key(&name));
                if unit.is_template() || !declared {
                    let message = format!(
                        "when-unit = \"{unit}\" is none of the app's units; name one that is declared under [units], or an \
                         instance of one"
                    );
                    return contradiction(&["hooks", key], &message);
                }
            }
        }
        Ok(())
    }
}

/// A command, split into words as a shell would, but by no shell: nothing is expanded or redirected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandLine {
    text: String,
    program: Program,
    arguments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Program {
    OfVenv(ProgramName),
    Elsewhere(PathBuf),
}

/// Words that stand for something in a shell, and would be an odd argument here.
const OPERATORS: [&str; 11] = ["|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "&>"];

impl CommandLine {
    /// Returns its program if that is the venv's.
    #[must_use]
    pub fn program_of_venv(&self) -> Option<&ProgramName> {
        match &self.program {
            Program::OfVenv(name) => Some(name),
            Program::Elsewhere(_) => None,
        }
    }

    /// Returns the words to execute with a venv; `{venv}` in an argument stands for its directory.
    #[must_use]
    pub fn words(&self, venv: &Path) -> Vec<String> {
        let program = match &self.program {
            Program::OfVenv(name) => venv.join("bin").join(name.as_str()),
            Program::Elsewhere(path) => path.clone(),
        };
        let venv = venv.display().to_string();
        let arguments = self.arguments.iter().map(|argument| argument.replace("{venv}", &venv));
        std::iter::once(program.display().to_string())
            .chain(arguments)
            .collect()
    }
}

impl TryFrom<String> for CommandLine {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if text.chars().any(char::is_control) {
            return refuse(format!("{text:?} must be one line without control characters"));
        }
        let words = shell_words::split(&text).map_err(|error| ValueError(format!("{text:?}: {error}")))?;
        if let Some(operator) = words.iter().find(|word| OPERATORS.contains(&word.as_str())) {
            return refuse(format!(
                "{text:?} has a {operator}, and there is no shell to understand it; write a script, or /bin/sh -c '…'"
            ));
        }
        let mut words = words.into_iter();
        let program = match words.next() {
            None => return refuse("the command is empty"),
            Some(path) if path.starts_with('/') => Program::Elsewhere(AbsolutePath::try_from(path)?.to_path_buf()),
            Some(name) => Program::OfVenv(name.parse().map_err(|error| {
                ValueError(format!(
                    "{error}; a command begins with a program of the venv, or an absolute path"
                ))
            })?),
        };
        Ok(Self {
            program,
            arguments: words.collect(),
            text,
        })
    }
}

impl From<CommandLine> for String {
    fn from(command: CommandLine) -> Self {
        command.text
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Result<CommandLine, ValueError> {
        CommandLine::try_from(text.to_owned())
    }

    #[test]
    fn words_are_split_but_nothing_is_expanded() {
        let venv = Path::new("/var/lib/venvd/venvs/nova/1");
        for (text, expected) in [
            (
                "nova-manage db sync",
                &["/var/lib/venvd/venvs/nova/1/bin/nova-manage", "db", "sync"][..],
            ),
            ("/bin/sh -c 'a | b; $c'", &["/bin/sh", "-c", "a | b; $c"]),
            (
                r#"/bin/echo "a b" c\ d '' %n $HOME *"#,
                &["/bin/echo", "a b", "c d", "", "%n", "$HOME", "*"],
            ),
            (
                "/usr/bin/uwsgi --virtualenv={venv}",
                &["/usr/bin/uwsgi", "--virtualenv=/var/lib/venvd/venvs/nova/1"],
            ),
        ] {
            let command = command(text).unwrap();
            assert_eq!(command.words(venv), expected, "{text}");
            assert_eq!(command.to_string(), text);
            let json = serde_json::to_string(&command).unwrap();
            assert_eq!(serde_json::from_str::<CommandLine>(&json).unwrap(), command);
        }
        assert_eq!(
            command("nova-manage x").unwrap().program_of_venv().unwrap().as_str(),
            "nova-manage"
        );
        assert_eq!(command("/bin/true").unwrap().program_of_venv(), None);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (text, reason) in [
            ("", "empty"),
            ("   ", "empty"),
            ("# later", "empty"),
            ("a\nb", "control characters"),
            ("a \u{1b}[2J", "control characters"),
            ("a 'b", "missing closing quote"),
            ("bin/a", "absolute path"),
            ("../a", "absolute path"),
            ("/bin/../a", "without `..`"),
            ("A=1 a", "absolute path"),
            ("a | b", "no shell"),
            ("a && b", "no shell"),
            ("a 2>&1", "no shell"),
        ] {
            let error = command(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
