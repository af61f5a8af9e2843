//! The `secure_path` that the system's own sudoers gives a user, without ours.

use std::fs;
use std::path::{Path, PathBuf};

use venvd_app::{Layout, UserName};
use venvd_fs::IoContext;

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

/// Returns the `secure_path` that holds for `user` by the files of others; the usual one where none is set.
pub(crate) fn secure_path(layout: &Layout, user: &UserName) -> Result<Vec<PlainPath>, Problem> {
    let mut found = None;
    read_file(layout, Path::new(MAIN), MAX_DEPTH, &mut |line| {
        if let Some(setting) = secure_path_of(line, user) {
            found = Some(setting);
        }
    })
    .map_err(Problem::Io)?;
    let text = found.flatten().unwrap_or_else(|| USUAL.to_owned());
    let directories = text.split(':').filter(|directory| !directory.is_empty());
    directories
        .map(|directory| PlainPath::new(Path::new(directory)))
        .collect::<Result<_, _>>()
        .map_err(Problem::Refused)
}

/// Reads a file and what it includes in sudo's order, line by logical line.
///
/// What is missing is skipped, as sudo does since 1.9.13.
fn read_file(layout: &Layout, path: &Path, depth: usize, line: &mut dyn FnMut(&str)) -> Result<(), venvd_fs::Error> {
    let on_disk = layout.on_disk(path);
    if depth == 0 || !on_disk.is_file() {
        return Ok(());
    }
    let text = fs::read(&on_disk).at("read", &on_disk)?;
    // A continued line ends in a backslash.
    let text = String::from_utf8_lossy(&text).replace("\\\n", "");
    for logical in text.lines() {
        match include_of(logical) {
            Some(Include::File(file)) => read_file(layout, &beside(path, &file), depth - 1, line)?,
            Some(Include::Directory(directory)) => {
                for file in files_of(layout, &beside(path, &directory))? {
                    read_file(layout, &file, depth - 1, line)?;
                }
            }
            None => line(logical),
        }
    }
    Ok(())
}

enum Include {
    File(PathBuf),
    Directory(PathBuf),
}

fn include_of(line: &str) -> Option<Include> {
    let directive = line.trim_start().strip_prefix(['@', '#'])?;
    let (word, rest) = directive.split_once([' ', '\t'])?;
    let path = PathBuf::from(rest.trim().trim_matches('"').replace("\\ ", " "));
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

/// Returns what a line says about the user's `secure_path`: nothing, that there is none, or its value.
fn secure_path_of(line: &str, user: &UserName) -> Option<Option<String>> {
    let rest = line.trim_start().strip_prefix("Defaults")?;
    let settings = match rest.strip_prefix(':') {
        Some(bound) => {
            let (users, settings) = bound.trim_start().split_once([' ', '\t'])?;
            users.split(',').any(|name| name == user.as_str()).then_some(settings)?
        }
        // `Defaults@host`, `Defaults!command` and `Defaults>runas` are no business of a user's every command.
        None => rest.strip_prefix([' ', '\t'])?,
    };
    split_settings(settings)
        .iter()
        .filter_map(|setting| one_setting(setting))
        .next_back()
}

fn one_setting(setting: &str) -> Option<Option<String>> {
    if let Some(name) = setting.strip_prefix('!') {
        return (name.trim() == "secure_path").then_some(None);
    }
    let (name, value) = setting.split_once('=')?;
    let value = value.trim().trim_matches('"').replace("\\:", ":");
    (name.trim() == "secure_path").then_some(Some(value))
}

/// Splits at commas outside of quotes, up to a comment.
fn split_settings(text: &str) -> Vec<String> {
    let mut settings = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => break,
            ',' if !quoted => {
                settings.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = settings.last_mut() {
            last.push(c);
        }
    }
    settings.iter().map(|setting| setting.trim().to_owned()).collect()
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
            Ok(path) => Ok(path.iter().map(PlainPath::as_str).collect::<Vec<_>>().join(":")),
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
}
