//! `venvd.enabled=` on the kernel command line: on or off for one boot.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::{AppName, Layout};

const KEY: &str = "venvd.enabled";

/// What systemd takes for the kernel command line where it is set, see its ENVIRONMENT.md.
const OVERRIDE: &str = "SYSTEMD_PROC_CMDLINE";

/// Where the command line comes from; the same places that systemd's own generators look at (`proc_cmdline()`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The text itself, from `SYSTEMD_PROC_CMDLINE`.
    Given(String),
    /// A file on the host.
    File(PathBuf),
}

impl Source {
    /// Chooses by the environment that a generator gets, see systemd.generator(7): in a container it is the command line
    /// of its first process that counts.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let container = variable("SYSTEMD_VIRTUALIZATION")
            .is_some_and(|value| value.to_str().is_some_and(|value| value.starts_with("container:")));
        match variable(OVERRIDE).and_then(|text| text.into_string().ok()) {
            Some(text) => Self::Given(text),
            None if container => Self::File(PathBuf::from("/proc/1/cmdline")),
            None => Self::File(PathBuf::from("/proc/cmdline")),
        }
    }

    /// Chooses as [`Source::new`], for a program that no generator's environment was given to, so that it obeys the same
    /// words: what the first process was given is read from /proc, or from what systemd says of it in /run.
    #[must_use]
    pub fn of_this_boot(layout: &Layout) -> Self {
        let first = FirstProcess::read(layout);
        Self::new(|name| match name {
            OVERRIDE => env::var_os(name)
                .filter(|_| layout.root().is_host())
                .or_else(|| first.variable(name)),
            "SYSTEMD_VIRTUALIZATION" => first.in_container(layout).then(|| "container:".into()),
            _ => None,
        })
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

/// The environment that the first process was started with. Empty where that is not for us to read: then what everybody
/// may read has to do.
struct FirstProcess(Vec<u8>);

impl FirstProcess {
    fn read(layout: &Layout) -> Self {
        Self(fs::read(layout.on_disk("/proc/1/environ")).unwrap_or_default())
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        let words = self.0.split(|&byte| byte == 0);
        let mut values = words.filter_map(|word| word.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next().map(|value| OsStr::from_bytes(value).to_owned())
    }

    /// As `detect_container()` of systemd: what the container's manager says, or PID 1 wrote down for those who may not
    /// read its environment.
    fn in_container(&self, layout: &Layout) -> bool {
        let said = |path| fs::symlink_metadata(layout.on_disk(path)).is_ok();
        self.variable("container").is_some_and(|value| !value.is_empty())
            || said("/run/systemd/container")
            || said("/run/host/container-manager")
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
    /// Returns what the command line of this boot says, without what it can't mean: that, the generator has said in the
    /// kernel log.
    #[must_use]
    pub fn of_this_boot(layout: &Layout) -> Self {
        Source::of_this_boot(layout).switch(layout).0
    }

    /// Returns whether an enabled app stays on.
    #[must_use]
    pub fn admits(&self, app: &AppName) -> bool {
        match self {
            Self::Declared => true,
            Self::Nothing => false,
            Self::Only(apps) => apps.contains(app),
        }
    }

    /// Returns the apps it names.
    pub fn names(&self) -> impl Iterator<Item = &AppName> {
        let apps = match self {
            Self::Only(apps) => Some(apps),
            Self::Declared | Self::Nothing => None,
        };
        apps.into_iter().flatten()
    }
}

/// Writes the word on the kernel command line, as it would be typed.
impl std::fmt::Display for Switch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Declared => write!(formatter, "{KEY}=1"),
            Self::Nothing => write!(formatter, "{KEY}=0"),
            Self::Only(apps) => {
                let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
                write!(formatter, "{KEY}={}", names.join(","))
            }
        }
    }
}

/// Returns the words of a command line. Quotes keep blanks together wherever they stand in a word, and go
/// (`extract_first_word()` of systemd). Words of a process's command line end with NUL.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for character in text.chars() {
        match (character, quote) {
            ('\0', _) => {
                quote = None;
                words.push(std::mem::take(&mut word));
            }
            (blank, None) if blank.is_ascii_whitespace() => words.push(std::mem::take(&mut word)),
            ('"' | '\'', None) => quote = Some(character),
            (end, Some(begin)) if end == begin => quote = None,
            _ => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn parse(text: &str) -> (Switch, Vec<String>) {
    let mut switch = Switch::Declared;
    let mut problems = Vec::new();
    for word in words(text) {
        let (key, value) = word.split_once('=').unwrap_or((&word, "1"));
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

    fn only(names: &[&str]) -> Switch {
        Switch::Only(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn the_last_word_counts() {
        for (text, want) in [
            ("", Switch::Declared),
            ("quiet root=/dev/sda1\n", Switch::Declared),
            ("quiet venvd.enabled=0\n", Switch::Nothing),
            ("venvd.enabled=off quiet", Switch::Nothing),
            ("venvd.enabled=0 venvd.enabled", Switch::Declared),
            ("venvd.enabled=nova,glance", only(&["nova", "glance"])),
            ("venvd.enabled=nova,", only(&["nova"])),
            ("\"venvd.enabled=nova\"", only(&["nova"])),
            ("venvd.enabled=\"nova,glance\"", only(&["nova", "glance"])),
            ("dyndbg=\"file a.c venvd.enabled=0\" quiet", Switch::Declared),
            ("/sbin/init\0venvd.enabled=no\0", Switch::Nothing),
            ("init\0it's\0venvd.enabled=no\0", Switch::Nothing),
            ("xvenvd.enabled=0 venvd.enabledx=0 rd.venvd.enabled=0", Switch::Declared),
        ] {
            assert_eq!(parse(text), (want, Vec::new()), "{text:?}");
        }
        let (switch, problems) = parse("venvd.enabled=Nova!");
        assert_eq!(switch, Switch::Declared);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn what_is_admitted() {
        let (nova, glance) = ("nova".parse().unwrap(), "glance".parse().unwrap());
        for (switch, admitted, text) in [
            (Switch::Declared, [true, true], "venvd.enabled=1"),
            (Switch::Nothing, [false, false], "venvd.enabled=0"),
            (only(&["nova"]), [true, false], "venvd.enabled=nova"),
        ] {
            assert_eq!([switch.admits(&nova), switch.admits(&glance)], admitted);
            assert_eq!(switch.to_string(), text);
        }
        assert!(only(&["nova"]).names().eq([&nova]));
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
        assert_eq!(source(&[container, (OVERRIDE, "a")]), Source::Given("a".to_owned()));
        let layout = Layout::new(Root::at("/nonexistent"));
        assert_eq!(source(&[]).switch(&layout).0, Switch::Declared);
    }

    #[test]
    fn every_program_finds_what_the_generator_was_told() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        let write = |path: &str, text: &str| {
            let path = layout.on_disk(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Switch::of_this_boot(&layout), Switch::Declared);
        write("/proc/cmdline", "venvd.enabled=nova");
        assert_eq!(Switch::of_this_boot(&layout), only(&["nova"]));
        write("/proc/1/cmdline", "/sbin/init\0venvd.enabled=0\0");
        assert_eq!(Switch::of_this_boot(&layout), only(&["nova"]));
        write("/run/systemd/container", "systemd-nspawn");
        assert_eq!(Switch::of_this_boot(&layout), Switch::Nothing);
        fs::remove_file(layout.on_disk("/run/systemd/container")).unwrap();
        write("/proc/1/environ", "A=1\0container=lxc\0");
        assert_eq!(Switch::of_this_boot(&layout), Switch::Nothing);
        write(
            "/proc/1/environ",
            "container=lxc\0SYSTEMD_PROC_CMDLINE=venvd.enabled=glance\0",
        );
        assert_eq!(Switch::of_this_boot(&layout), only(&["glance"]));
    }
}
