//! What the system's own sudoers gives a user, without ours: a `secure_path`, rules, and variables.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use venvd_app::{AppName, Layout, UserName};
use venvd_fs::IoContext;

use super::header;
use super::identity::{Aliases, Identity, Matches};
use super::installed::{self, Family};
use super::lines::{self, Binding, Setting};
use super::model::PlainPath;
use crate::Refused;
use crate::listing::names;

/// The file to begin with, see sudoers(5).
const MAIN: &str = "/etc/sudoers";
/// What sudo-rs begins with where it exists, see its README.
const MAIN_RUST: &str = "/etc/sudoers-rs";
/// Where this crate writes.
pub(crate) const DIRECTORY: &str = "/etc/sudoers.d";
/// What sudo is given as `secure_path` where no sudoers file sets one: the usual one of distributions.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A file of this name's beginning is ours, and has a user's `secure_path`.
const OURS: &str = "venvd_path-";
/// One of this is ours, and has an app's rules.
const RULES: &str = "venvd-";
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

/// Returns the file that a family begins with.
pub(crate) fn main_of(layout: &Layout, family: Family) -> &'static Path {
    let is_rust = family == Family::Rust && layout.on_disk(MAIN_RUST).exists();
    Path::new(if is_rust { MAIN_RUST } else { MAIN })
}

/// Returns the file that the installed sudo begins with. Below another root nothing is run to know: nobody has a file for
/// sudo-rs without it.
fn main(layout: &Layout) -> &'static Path {
    let exists = layout.on_disk(MAIN_RUST).exists();
    let is_rust = exists && (!layout.root().is_host() || installed::family() == Some(Family::Rust));
    main_of(layout, if is_rust { Family::Rust } else { Family::C })
}

/// Returns the `secure_path` that holds for `user` by the files of others; the usual one where none is set.
pub(crate) fn secure_path(layout: &Layout, user: &UserName) -> Result<SystemPath, Problem> {
    let identity = Identity::of(layout, user);
    let all = lines_for(layout, &identity).map_err(Problem::Io)?;
    let (found, unclear) = decide(
        &identity,
        &all.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
    );
    let text = found.unwrap_or_else(|| USUAL.to_owned());
    let directories = text.split(':').filter(|directory| !directory.is_empty());
    let directories = directories
        .map(|directory| PlainPath::new(Path::new(without_slash(directory))))
        .collect::<Result<_, _>>()
        .map_err(Problem::Refused)?;
    Ok(SystemPath { directories, unclear })
}

/// `/usr/bin/` is the same directory, and sudo takes it.
fn without_slash(directory: &str) -> &str {
    match directory.trim_end_matches('/') {
        "" => directory,
        trimmed => trimmed,
    }
}

/// Returns the users for whom there is a file of ours with a `secure_path`.
pub(crate) fn users_with_path(layout: &Layout) -> Result<Vec<UserName>, venvd_fs::Error> {
    ours(layout, OURS)
}

/// Returns the apps for which there is a file of ours with rules.
pub(crate) fn apps_with_rules(layout: &Layout) -> Result<Vec<AppName>, venvd_fs::Error> {
    ours(layout, RULES)
}

fn ours<T: FromStr>(layout: &Layout, prefix: &str) -> Result<Vec<T>, venvd_fs::Error> {
    let names = names(&layout.on_disk(DIRECTORY))?;
    let parsed = |name: &OsString| name.to_str()?.strip_prefix(prefix)?.parse().ok();
    Ok(names.iter().filter_map(parsed).collect())
}

/// Returns the rules of others that are for `user`, each with its file.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn rules_of_others(layout: &Layout, user: &UserName) -> Result<Vec<(PathBuf, String)>, venvd_fs::Error> {
    let identity = Identity::of(layout, user);
    let all = lines_for(layout, &identity)?;
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

/// Returns the lines that let variables of the caller's through which Python obeys, each with its file.
///
/// By default sudo lets none of them through, and with `!env_reset` only some: sudoers(5), `sudo -V` as root.
///
/// # Errors
/// When a file can't be read.
pub(crate) fn kept_environment(layout: &Layout, user: &UserName) -> Result<Vec<(PathBuf, String)>, venvd_fs::Error> {
    let identity = Identity::of(layout, user);
    let all = lines_for(layout, &identity)?;
    let texts: Vec<&str> = all.iter().map(|line| line.text.as_str()).collect();
    let (users, hosts) = aliases(&texts);
    let keeps = |line: &&Logical| {
        lines::settings(&line.text).is_some_and(|(binding, settings)| {
            binding_matches(&identity, binding, (&users, &hosts)) != Matches::No
                && settings.iter().any(|setting| lets_python_variables_through(setting))
        })
    };
    Ok(all
        .iter()
        .filter(keeps)
        .map(|line| (line.file.clone(), line.text.trim().to_owned()))
        .collect())
}

fn lets_python_variables_through(setting: &str) -> bool {
    if setting.strip_prefix('!').is_some_and(|name| name.trim() == "env_reset") {
        return true;
    }
    let Some((name, value)) = setting.split_once('=') else {
        return false;
    };
    // `-=` takes some away.
    let name = name.trim_end_matches('+').trim_end();
    let mut variables = value.split([' ', '\t', '"']).filter(|word| !word.is_empty());
    ["env_keep", "env_check"].contains(&name)
        && variables.any(|variable| match variable.split_once('*') {
            Some((beginning, _)) => "PYTHON".starts_with(beginning) || beginning.starts_with("PYTHON"),
            None => variable.starts_with("PYTHON"),
        })
}

fn binding_matches(identity: &Identity, binding: Binding<'_>, (users, hosts): (&Aliases, &Aliases)) -> Matches {
    match binding {
        Binding::Everybody => Matches::Yes,
        Binding::Users(list) => identity.in_users(list, users),
        Binding::Hosts(list) => identity.in_hosts(list, hosts),
    }
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
        match (binding_matches(identity, binding, (&users, &hosts)), setting) {
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

/// Returns all logical lines that sudo reads for somebody, in its order.
fn lines_for(layout: &Layout, identity: &Identity) -> Result<Vec<Logical>, venvd_fs::Error> {
    let mut all = Vec::new();
    Reader { layout, identity }.file(main(layout), MAX_DEPTH, &mut all)?;
    Ok(all)
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
    let is_read = |name: &OsString| {
        let text = name.to_string_lossy();
        !text.contains('.') && !text.ends_with('~') && !text.starts_with(OURS)
    };
    let read = names(&on_disk)?.into_iter().filter(is_read);
    Ok(read.map(|name| directory.join(name)).collect())
}

#[cfg(test)]
mod tests;
