//! `venvd.enabled=` on the kernel command line: on or off for one boot.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use venvd_app::{AppName, Layout};

const KEY: &str = "venvd.enabled";

/// Where the command line comes from; the same places that systemd's own generators look at (`proc_cmdline()`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The text itself, from `SYSTEMD_PROC_CMDLINE`.
    Given(String),
    /// A file on the host.
    File(PathBuf),
}

impl Source {
    /// Chooses by the environment: in a container it is the command line of its first process that counts.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let container = variable("SYSTEMD_VIRTUALIZATION")
            .is_some_and(|value| value.to_str().is_some_and(|value| value.starts_with("container:")));
        match variable("SYSTEMD_PROC_CMDLINE").and_then(|text| text.into_string().ok()) {
            Some(text) => Self::Given(text),
            None if container => Self::File(PathBuf::from("/proc/1/cmdline")),
            None => Self::File(PathBuf::from("/proc/cmdline")),
        }
    }

    /// Reads the command line and what it says of us; the second is what it says and can't mean.
    #[must_use]
    pub fn switch(&self, layout: &Layout) -> (Switch, Vec<String>) {
        let text = match self {
            Self::Given(text) => text.clone(),
            // Without /proc there is nothing to obey.
            Self::File(path) => {
                String::from_utf8_lossy(&fs::read(layout.on_disk(path)).unwrap_or_default()).into_owned()
            }
        };
        parse(&text)
    }
}

/// Which apps the command line leaves on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Switch {
    /// Those that are enabled.
    #[default]
    Declared,
    /// None.
    Nothing,
    /// Of those that are enabled, these.
    Only(BTreeSet<AppName>),
}

impl Switch {
    /// Returns whether an enabled app stays on.
    #[must_use]
    pub fn admits(&self, app: &AppName) -> bool {
        match self {
            Self::Declared => true,
            Self::Nothing => false,
            Self::Only(apps) => apps.contains(app),
        }
    }
}

fn parse(text: &str) -> (Switch, Vec<String>) {
    let mut switch = Switch::Declared;
    let mut problems = Vec::new();
    // Words of a process's command line end with NUL.
    for word in text.split(|c: char| c.is_ascii_whitespace() || c == '\0') {
        let word = word.trim_matches(['"', '\'']);
        let (key, value) = word.split_once('=').unwrap_or((word, "1"));
        // The kernel takes `-` and `_` for the same, but our key has neither.
        if key != KEY {
            continue;
        }
        match value {
            "0" | "no" | "n" | "false" | "f" | "off" => switch = Switch::Nothing,
            "1" | "yes" | "y" | "true" | "t" | "on" => switch = Switch::Declared,
            list => match list
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::parse)
                .collect()
            {
                Ok(apps) => switch = Switch::Only(apps),
                Err(error) => problems.push(format!("kernel command line: {word} is ignored: {error}")),
            },
        }
    }
    (switch, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn the_last_word_counts() {
        let only = |names: &[&str]| Switch::Only(names.iter().map(|name| name.parse().unwrap()).collect());
        for (text, want) in [
            ("", Switch::Declared),
            ("quiet root=/dev/sda1\n", Switch::Declared),
            ("quiet venvd.enabled=0\n", Switch::Nothing),
            ("venvd.enabled=off quiet", Switch::Nothing),
            ("venvd.enabled=0 venvd.enabled", Switch::Declared),
            ("venvd.enabled=nova,glance", only(&["nova", "glance"])),
            ("venvd.enabled=nova,", only(&["nova"])),
            ("\"venvd.enabled=nova\"", only(&["nova"])),
            ("/sbin/init\0venvd.enabled=no\0", Switch::Nothing),
            ("xvenvd.enabled=0 venvd.enabledx=0 rd.venvd.enabled=0", Switch::Declared),
        ] {
            assert_eq!(parse(text), (want, Vec::new()), "{text:?}");
        }
        let (switch, problems) = parse("venvd.enabled=Nova!");
        assert_eq!(switch, Switch::Declared);
        assert_eq!(problems.len(), 1);
        assert!(only(&["nova"]).admits(&"nova".parse().unwrap()));
        assert!(!only(&["nova"]).admits(&"glance".parse().unwrap()));
    }

    #[test]
    fn sources() {
        let source = |pairs: &[(&str, &str)]| {
            Source::new(|name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            })
        };
        assert_eq!(source(&[]), Source::File("/proc/cmdline".into()));
        assert_eq!(
            source(&[("SYSTEMD_VIRTUALIZATION", "vm:kvm")]),
            Source::File("/proc/cmdline".into())
        );
        let container = ("SYSTEMD_VIRTUALIZATION", "container:systemd-nspawn");
        assert_eq!(source(&[container]), Source::File("/proc/1/cmdline".into()));
        assert_eq!(
            source(&[container, ("SYSTEMD_PROC_CMDLINE", "a")]),
            Source::Given("a".to_owned())
        );
        let layout = Layout::new(Root::at("/nonexistent"));
        assert_eq!(source(&[]).switch(&layout).0, Switch::Declared);
    }
}
