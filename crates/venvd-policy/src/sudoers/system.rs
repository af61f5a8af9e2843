//! The `secure_path` that the system's own sudoers gives a user, without ours.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use venvd_app::{Layout, UserName};
use venvd_fs::IoContext;

use super::header;
use super::identity::{Aliases, Identity, Matches};
use super::lines::{self, Binding, Setting};
use super::model::PlainPath;
use crate::Refused;

/// The file to begin with, see sudoers(5).
pub(crate) const MAIN: &str = "/etc/sudoers";
/// Where this crate writes.
pub(crate) const DIRECTORY: &str = "/etc/sudoers.d";
/// What sudo is given as `secure_path` where no sudoers file sets one: the usual one of distributions.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Files of this name's beginning are ours.
const OURS: &str = "venvd_path-";
/// As in sudo: `MAX_SUDOERS_DEPTH` is 128; nobody nests that deep on purpose.
const MAX_DEPTH: usize = 16;

/// Why the system's `secure_path` is not known.
#[derive(Debug)]
pub(crate) enum Problem {
    Io(venvd_fs::Error),
    Refused(Refused),
}

/// The system's `secure_path` of a user.
#[derive(Debug)]
pub(crate) struct SystemPath {
    pub(crate) directories: Vec<PlainPath>,
    /// Lines that set one for some, and of which only sudo knows whether for this user; they are not followed.
    pub(crate) unclear: Vec<String>,
}

/// Returns the `secure_path` that holds for `user` by the files of others; the usual one where none is set.
pub(crate) fn secure_path(layout: &Layout, user: &UserName) -> Result<SystemPath, Problem> {
    let identity = Identity::of(layout, user);
    let reader = Reader {
        layout,
        identity: &identity,
    };
    let mut all = Vec::new();
    reader.file(Path::new(MAIN), MAX_DEPTH, &mut all).map_err(Problem::Io)?;
    let (found, unclear) = decide(
        &identity,
        &all.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
    );
    let text = found.unwrap_or_else(|| USUAL.to_owned());
    let directories = text.split(':').filter(|directory| !directory.is_empty());
    let directories = directories
        .map(|directory| PlainPath::new(Path::new(directory)))
        .collect::<Result<_, _>>()
        .map_err(Problem::Refused)?;
    Ok(SystemPath { directories, unclear })
}

/// Returns the rules of others that are for `user`, each with its file.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn rules_of_others(layout: &Layout, user: &UserName) -> Result<Vec<(PathBuf, String)>, venvd_fs::Error> {
    let identity = Identity::of(layout, user);
    let reader = Reader {
        layout,
        identity: &identity,
    };
    let mut all = Vec::new();
    reader.file(Path::new(MAIN), MAX_DEPTH, &mut all)?;
    let texts: Vec<&str> = all.iter().map(|line| line.text.as_str()).collect();
    let (users, _) = aliases(&texts);
    let for_user = |line: &&Logical| {
        lines::users_of_rule(&line.text).is_some_and(|list| identity.in_users(list, &users) != Matches::No)
    };
    let rules = all.iter().filter(for_user);
    Ok(rules
        .map(|line| (line.file.clone(), line.text.trim().to_owned()))
        .collect())
}

fn aliases(all: &[&str]) -> (Aliases, Aliases) {
    let (mut users, mut hosts) = (Aliases::new(), Aliases::new());
    for (kind, pairs) in all.iter().filter_map(|line| lines::aliases(line)) {
        let map = if kind == "User_Alias" { &mut users } else { &mut hosts };
        map.extend(pairs);
    }
    (users, hosts)
}

/// A line with its continuations, and its file.
#[derive(Debug)]
struct Logical {
    file: PathBuf,
    text: String,
}

/// As sudo: settings hold in the order of the lines, and an alias may be defined after its use.
fn decide(identity: &Identity, all: &[&str]) -> (Option<String>, Vec<String>) {
    let (users, hosts) = aliases(all);
    let (mut found, mut unclear) = (None, Vec::new());
    for line in all {
        let Some((binding, setting)) = lines::defaults(line) else {
            continue;
        };
        let applies = match binding {
            Binding::Everybody => Matches::Yes,
            Binding::Users(list) => identity.in_users(list, &users),
            Binding::Hosts(list) => identity.in_hosts(list, &hosts),
        };
        match (applies, setting) {
            (Matches::No, _) => {}
            (Matches::Yes, Setting::Set(value)) => found = Some(value),
            (Matches::Yes, Setting::Unset) => found = None,
            (Matches::Unknown, _) | (_, Setting::Odd) => unclear.push(line.trim().to_owned()),
        }
    }
    (found, unclear)
}

/// Reads what sudo reads, but our own files.
#[derive(Debug)]
struct Reader<'a> {
    layout: &'a Layout,
    identity: &'a Identity,
}

impl Reader<'_> {
    /// Reads a file and what it includes in sudo's order, line by logical line.
    ///
    /// What is missing is skipped, as sudo does since 1.9.13, and what sudo would not trust.
    fn file(&self, path: &Path, depth: usize, all: &mut Vec<Logical>) -> Result<(), venvd_fs::Error> {
        let on_disk = self.layout.on_disk(path);
        if depth == 0 || !on_disk.is_file() || !is_trusted(&on_disk) {
            return Ok(());
        }
        let text = fs::read(&on_disk).at("read", &on_disk)?;
        // What venvd wrote is not others'; what was edited since is.
        if !header::is_edited(&text) {
            return Ok(());
        }
        // A continued line ends in a backslash.
        let text = String::from_utf8_lossy(&text).replace("\\\n", "");
        for logical in text.lines() {
            match include_of(logical, self.identity.short_host()) {
                Some(Include::File(file)) => self.file(&beside(path, &file), depth - 1, all)?,
                Some(Include::Directory(directory)) => {
                    for file in files_of(self.layout, &beside(path, &directory))? {
                        self.file(&file, depth - 1, all)?;
                    }
                }
                None => all.push(Logical {
                    file: path.to_owned(),
                    text: logical.to_owned(),
                }),
            }
        }
        Ok(())
    }
}

/// As sudo: a file that is another's, or that anybody can write, is skipped.
fn is_trusted(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        (metadata.uid() == 0 || metadata.uid() == nix::unistd::geteuid().as_raw()) && metadata.mode() & 0o002 == 0
    })
}

enum Include {
    File(PathBuf),
    Directory(PathBuf),
}

fn include_of(line: &str, host: &str) -> Option<Include> {
    let directive = line.trim_start().strip_prefix(['@', '#'])?;
    let (word, rest) = directive.split_once([' ', '\t'])?;
    let path = PathBuf::from(rest.trim().trim_matches('"').replace("\\ ", " ").replace("%h", host));
    match word {
        "include" => Some(Include::File(path)),
        "includedir" => Some(Include::Directory(path)),
        _ => None,
    }
}

/// A relative path is one beside the including file.
fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(path)
}

/// Returns the files of a directory that sudo would read, in its order, but ours.
fn files_of(layout: &Layout, directory: &Path) -> Result<Vec<PathBuf>, venvd_fs::Error> {
    let on_disk = layout.on_disk(directory);
    if !on_disk.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&on_disk).at("list", &on_disk)? {
        let name = entry.at("list", &on_disk)?.file_name();
        let text = name.to_string_lossy();
        if !text.contains('.') && !text.ends_with('~') && !text.starts_with(OURS) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    fn of(files: &[(&str, &str)]) -> Result<String, Refused> {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let layout = Layout::new(Root::at(directory.path()));
        match secure_path(&layout, &"nova".parse().unwrap()) {
            Ok(path) => Ok(path
                .directories
                .iter()
                .map(PlainPath::as_str)
                .collect::<Vec<_>>()
                .join(":")),
            Err(Problem::Refused(refused)) => Err(refused),
            Err(Problem::Io(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn finds_what_holds_for_the_user() {
        let include = "@includedir /etc/sudoers.d\n";
        for (files, expected) in [
            (vec![], USUAL),
            (vec![("etc/sudoers", "root ALL=(ALL) ALL\n")], USUAL),
            (vec![("etc/sudoers", "Defaults secure_path=\"/a:/b\"\n")], "/a:/b"),
            (vec![("etc/sudoers", "Defaults\tsecure_path = /a:/b\n")], "/a:/b"),
            (
                vec![("etc/sudoers", "Defaults env_reset, secure_path=/a\\:/b, use_pty\n")],
                "/a:/b",
            ),
            (
                vec![(
                    "etc/sudoers",
                    "Defaults secure_path=\\\n\"/a\"\nDefaults secure_path=/b # last\n",
                )],
                "/b",
            ),
            (vec![("etc/sudoers", "# Defaults secure_path=\"/a\"\n")], USUAL),
            (
                vec![("etc/sudoers", "Defaults secure_path=\"/a\"\nDefaults !secure_path\n")],
                USUAL,
            ),
            (vec![("etc/sudoers", "Defaults:glance secure_path=\"/a\"\n")], USUAL),
            (vec![("etc/sudoers", "Defaults:glance,nova secure_path=\"/a\"\n")], "/a"),
            (
                vec![(
                    "etc/sudoers",
                    "Defaults@host secure_path=\"/a\"\nDefaultsx secure_path=\"/b\"\n",
                )],
                USUAL,
            ),
            (
                vec![
                    ("etc/sudoers", include),
                    ("etc/sudoers.d/x", "Defaults secure_path=/x\n"),
                ],
                "/x",
            ),
            (
                vec![
                    ("etc/sudoers", include),
                    ("etc/sudoers.d/x.y", "Defaults secure_path=/x\n"),
                ],
                USUAL,
            ),
            (
                vec![
                    ("etc/sudoers", include),
                    ("etc/sudoers.d/x~", "Defaults secure_path=/x\n"),
                ],
                USUAL,
            ),
            (
                vec![
                    ("etc/sudoers", include),
                    ("etc/sudoers.d/venvd_path-nova", "Defaults secure_path=/x\n"),
                ],
                USUAL,
            ),
            (
                vec![
                    ("etc/sudoers", "#includedir sudoers.d\n@include nowhere\n"),
                    ("etc/sudoers.d/b", "Defaults secure_path=/b\n"),
                    ("etc/sudoers.d/a", "Defaults secure_path=/a\n"),
                ],
                "/b",
            ),
            (
                vec![("etc/sudoers", "@include /etc/sudoers\nDefaults secure_path=/a\n")],
                "/a",
            ),
            (
                vec![("etc/sudoers", "Defaults: glance , nova secure_path=\"/a\"\n")],
                "/a",
            ),
            (vec![("etc/sudoers", "Defaults:!nova secure_path=\"/a\"\n")], USUAL),
            (vec![("etc/sudoers", "Defaults:ALL,!nova secure_path=\"/a\"\n")], USUAL),
            (
                vec![(
                    "etc/sudoers",
                    "Defaults:OPS secure_path=/a\nUser_Alias OPS = STACK, bob\nUser_Alias STACK = nova\n",
                )],
                "/a",
            ),
            (
                vec![
                    (
                        "etc/sudoers",
                        "Defaults:%stack secure_path=/a\nDefaults:#64060 secure_path=/b\n",
                    ),
                    ("etc/passwd", "nova:x:64060:5::/:/bin/sh\n"),
                    ("etc/group", "stack:x:77:glance,nova\n"),
                ],
                "/b",
            ),
            (
                vec![
                    (
                        "etc/sudoers",
                        "Defaults:%five secure_path=/a\nDefaults:%other secure_path=/b\n",
                    ),
                    ("etc/passwd", "nova:x:64060:5::/:/bin/sh\n"),
                    ("etc/group", "five:x:5:\nother:x:6:glance\n"),
                ],
                "/a",
            ),
            (
                vec![
                    (
                        "etc/sudoers",
                        "@include /etc/sudoers.%h\nDefaults@vm secure_path=/a\nDefaults@db secure_path=/b\n",
                    ),
                    ("etc/sudoers.vm", "Defaults:nova secure_path=/x\n"),
                    ("etc/hostname", "vm.example.org\n"),
                ],
                "/a",
            ),
        ] {
            assert_eq!(of(&files).unwrap(), expected, "{files:?}");
        }
    }

    #[test]
    fn refuses_what_could_not_be_repeated() {
        for value in ["\"/a b\"", "/a:relative", "\"/a:/b/../c\"", "/a*"] {
            of(&[("etc/sudoers", &format!("Defaults secure_path={value}\n"))]).unwrap_err();
        }
    }

    #[test]
    fn what_only_sudo_could_tell_is_said() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("etc")).unwrap();
        let text = "Defaults:+team secure_path=/a\nDefaults secure_path+=/b\nDefaults@192.0.2.1 secure_path=/c\n";
        fs::write(directory.path().join("etc/sudoers"), text).unwrap();
        let path = secure_path(&Layout::new(Root::at(directory.path())), &"nova".parse().unwrap()).unwrap();
        assert_eq!(path.unclear, text.lines().collect::<Vec<_>>());
        assert_eq!(path.directories.len(), 6);
    }

    #[test]
    fn what_sudo_would_not_trust_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("etc")).unwrap();
        let file = directory.path().join("etc/sudoers");
        fs::write(&file, "Defaults secure_path=/evil\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let path = secure_path(&Layout::new(Root::at(directory.path())), &"nova".parse().unwrap()).unwrap();
        assert_eq!(path.directories.len(), 6);
    }

    /// What `cvtsudoers` reads is what we read; only where it is installed (the machine tests have it).
    #[test]
    fn reads_as_cvtsudoers_does() {
        let program = Path::new("/usr/bin/cvtsudoers");
        if !program.exists() {
            eprintln!("SKIPPED: there is no /usr/bin/cvtsudoers");
            return;
        }
        for (line, expected) in [
            ("Defaults secure_path=\"/a:/b\"", Some("/a:/b")),
            ("Defaults secure_path=/a\\:/b", Some("/a:/b")),
            ("Defaults env_reset,secure_path = /a , use_pty", Some("/a")),
            ("Defaults env_reset # , secure_path=/a", None),
            ("Defaults secure_path=\"/a#b\"", Some("/a#b")),
            ("Defaults secure_path=/a#b", Some("/a")),
            ("Defaults !secure_path", None),
            ("Defaults:nova secure_path=/a", Some("/a")),
            ("Defaults: nova, glance secure_path=/a", Some("/a")),
            ("Defaults:#64060 ,nova secure_path=/a", Some("/a")),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("sudoers");
            fs::write(&file, format!("{line}\n")).unwrap();
            let asked = std::process::Command::new(program)
                .args(["-f", "json"])
                .arg(&file)
                .output()
                .unwrap();
            let json: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
            let theirs = json["Defaults"][0]["Options"]
                .as_array()
                .into_iter()
                .flatten()
                .find_map(|option| option["secure_path"].as_str());
            let ours = lines::defaults(line).and_then(|(_, setting)| match setting {
                Setting::Set(value) => Some(value),
                _ => None,
            });
            assert_eq!((theirs, ours.as_deref()), (expected, expected), "{line}: {json}");
        }
    }
}
