//! Finding and reading definitions and settings: search path, replacement by name, fragments merged over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Table;
use venvd_fs::diagnose::Diagnostic;
use venvd_fs::{IoContext, atomic, chain};

use crate::definition::{App, RawApp};
use crate::layout::Layout;
use crate::name::AppName;
use crate::parallel;
use crate::scope::Scope;
use crate::settings::{RawSettings, Settings};

/// How many definitions make a batch for [`parallel::map`].
const BATCH: usize = 5;

/// All that is declared on a host, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Declared {
    /// The settings; the defaults where their file is broken.
    pub settings: Settings,
    /// The apps whose definitions are sound.
    pub apps: BTreeMap<AppName, App>,
    /// The apps whose definitions are not, with the first reason.
    pub broken: BTreeMap<AppName, LoadError>,
    /// What is wrong elsewhere: the settings, or a definition with an impossible name.
    pub problems: Vec<LoadError>,
}

/// Why a definition or the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something in the file is wrong.
    #[error(transparent)]
    Invalid(#[from] Diagnostic),
    /// A file can't be read.
    #[error(transparent)]
    Io(#[from] venvd_fs::Error),
    /// Somebody who is not root could change the file.
    #[error(transparent)]
    Unsafe(#[from] chain::Error),
    /// There is no such definition.
    #[error("no app {app} is defined; a definition is a file {app}.toml in {}", directory.display())]
    Unknown {
        /// The app asked for.
        app: AppName,
        /// Where a definition would be.
        directory: PathBuf,
    },
}

/// Reads everything, keeping what is sound.
#[must_use]
pub fn load(layout: &Layout) -> Declared {
    let mut declared = Declared::default();
    match load_settings(layout) {
        Ok(settings) => declared.settings = settings,
        Err(error) => {
            declared.settings.enabled = enabled_of_broken(layout);
            declared.problems.push(error);
        }
    }
    let files = match definition_files(layout) {
        Ok(files) => files,
        Err(error) => {
            declared.problems.push(error.into());
            return declared;
        }
    };
    let files: Vec<_> = files.into_iter().collect();
    let read = |(stem, path): &(String, PathBuf)| {
        let app = stem
            .parse::<AppName>()
            .map_err(|error| Diagnostic::of_file(path, error.to_string()))?;
        let definition = read_app(layout, &app, path).map(|(definition, _)| definition);
        Ok::<_, Diagnostic>((app, definition))
    };
    let read_all = |files: &[_]| files.iter().map(read).collect::<Vec<_>>();
    for result in parallel::map(&files, BATCH, read_all).into_iter().flatten() {
        match result {
            Ok((app, Ok(definition))) => drop(declared.apps.insert(app, definition)),
            Ok((app, Err(error))) => drop(declared.broken.insert(app, error)),
            Err(error) => declared.problems.push(error.into()),
        }
    }
    declared
}

/// Reads the definition of one app.
///
/// # Errors
/// When there is none, or it is broken.
pub fn load_app(layout: &Layout, app: &AppName) -> Result<App, LoadError> {
    match definition_files(layout)?.get(app.as_str()) {
        Some(path) => read_app(layout, app, path).map(|(definition, _)| definition),
        None => Err(unknown(layout, app)),
    }
}

fn unknown(layout: &Layout, app: &AppName) -> LoadError {
    LoadError::Unknown {
        app: app.clone(),
        directory: layout.definition_directories().last().cloned().unwrap_or_default(),
    }
}

/// Reads the settings.
///
/// # Errors
/// When a file of theirs is broken.
pub fn load_settings(layout: &Layout) -> Result<Settings, LoadError> {
    let main = layout.settings();
    let (raw, texts) = read_merged::<RawSettings>(layout, &settings_files(layout)?, &main)?;
    if raw.commands_directory.is_some() && layout.scope() == Scope::User {
        let key = ["commands-directory".to_owned()];
        let message = "no app of a user exposes commands: take it out";
        return Err(point_at(&texts, &main, &key, message).into());
    }
    Ok(raw.into())
}

/// Returns the settings' files in the order in which they are merged, as paths of the host.
fn settings_files(layout: &Layout) -> Result<Vec<PathBuf>, venvd_fs::Error> {
    let main = layout.settings();
    let mut files = fragments(layout, &[main.with_extension("toml.d")])?;
    if layout.on_disk(&main).exists() {
        files.insert(0, main);
    }
    Ok(files)
}

/// Returns what broken settings say of `enabled`: a typo elsewhere in them must not turn on, at the next boot, what an
/// administrator has turned off.
fn enabled_of_broken(layout: &Layout) -> bool {
    let files = settings_files(layout).unwrap_or_default();
    let texts: Vec<String> = files.iter().filter_map(|path| read_text(layout, path).ok()).collect();
    let mut words = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let (key, value) = line.split('#').next()?.split_once('=')?;
        (key.trim() == "enabled").then(|| value.trim())
    });
    words.next_back() != Some("false")
}

/// Returns the main file of each definition, as a path of the host; a masked one (empty, or `/dev/null`) is left out.
fn definition_files(layout: &Layout) -> Result<BTreeMap<String, PathBuf>, venvd_fs::Error> {
    let mut files = BTreeMap::new();
    for directory in layout.definition_directories() {
        for name in toml_files(&layout.on_disk(directory))? {
            let stem = name.trim_end_matches(".toml").to_owned();
            files.insert(stem, directory.join(name));
        }
    }
    files.retain(|_, path| !is_masked(&layout.on_disk(&*path)));
    Ok(files)
}

/// Keeps a copy of an app's definition, all files merged, for [`load_accepted`].
///
/// # Errors
/// When there is no definition, it is broken, or the copy can't be written.
pub fn accept(layout: &Layout, app: &AppName) -> Result<(), LoadError> {
    let files = definition_files(layout)?;
    let main = files.get(app.as_str()).ok_or_else(|| unknown(layout, app))?;
    // What is kept is what was found sound: the files are read once.
    let (_, texts) = read_app(layout, app, main)?;
    write_accepted(layout, app, &merged(&texts)?)
}

/// Reads the definition that was accepted last, if any: what goes on while the files themselves are broken.
///
/// # Errors
/// When the copy can't be read either.
pub fn load_accepted(layout: &Layout, app: &AppName) -> Result<Option<App>, LoadError> {
    let Some((copy, merged)) = read_accepted(layout, app)? else {
        return Ok(None);
    };
    let wrong = |message: String| LoadError::from(Diagnostic::of_file(&copy, message));
    let raw: RawApp = merged
        .try_into()
        .map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    // Where an administrator goes to mend it.
    let source = definition_files(layout)?
        .remove(app.as_str())
        .unwrap_or_else(|| copy.clone());
    raw.resolve(app.clone(), source)
        .and_then(|definition| definition.fit(layout.scope()))
        .map(Some)
        .map_err(|error| wrong(error.message))
}

/// Returns the text of the fragment ([`Layout::enabled_fragment`]) that turns an app on or off.
#[must_use]
pub fn switch_text(enabled: bool) -> String {
    format!("# Written by `venvctl enable` and `venvctl disable`\nenabled = {enabled}\n")
}

/// Turns the accepted copy on or off, so that an app can be switched off while its files are broken.
///
/// # Errors
/// When the copy is there and can't be rewritten.
pub fn switch_accepted(layout: &Layout, app: &AppName, enabled: bool) -> Result<(), LoadError> {
    match read_accepted(layout, app)? {
        Some((_, mut merged)) => {
            merged.insert("enabled".to_owned(), toml::Value::Boolean(enabled));
            write_accepted(layout, app, &merged)
        }
        None => Ok(()),
    }
}

/// Returns the path of the copy on the host, and what is in it.
fn read_accepted(layout: &Layout, app: &AppName) -> Result<Option<(PathBuf, Table)>, LoadError> {
    let on_disk = layout.accepted_definition(app);
    let path = layout.root().on_host(&on_disk);
    if fs::symlink_metadata(&on_disk).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let text = read_text(layout, &path)?;
    let table = parse(&path, &text)?;
    Ok(Some((path, table)))
}

fn write_accepted(layout: &Layout, app: &AppName, merged: &Table) -> Result<(), LoadError> {
    let text =
        format!("# The definition of {app} as venvd last accepted it; a copy, written at each activation.\n{merged}");
    atomic::write(&layout.accepted_definition(app), text.as_bytes(), 0o644)?;
    Ok(())
}

/// Returns what a definition means, and its files.
fn read_app(layout: &Layout, app: &AppName, main: &Path) -> Result<(App, Vec<Source>), LoadError> {
    let fragment = |directory: &PathBuf| directory.join(format!("{app}.toml.d"));
    let directories: Vec<_> = layout.definition_directories().iter().map(fragment).collect();
    let mut files = vec![main.to_owned()];
    files.extend(fragments(layout, &directories)?);
    let (raw, texts) = read_merged::<RawApp>(layout, &files, main)?;
    match raw
        .resolve(app.clone(), main.to_owned())
        .and_then(|definition| definition.fit(layout.scope()))
    {
        Ok(definition) => Ok((definition, texts)),
        Err(wrong) => Err(point_at(&texts, main, &wrong.key, &wrong.message).into()),
    }
}

/// Returns the fragments of several directories: sorted by name, the later directory's file of a name wins.
fn fragments(layout: &Layout, directories: &[PathBuf]) -> Result<Vec<PathBuf>, venvd_fs::Error> {
    let mut files = BTreeMap::new();
    for directory in directories {
        for name in toml_files(&layout.on_disk(directory))? {
            files.insert(name.clone(), directory.join(name));
        }
    }
    Ok(files
        .into_values()
        .filter(|path| !is_masked(&layout.on_disk(path)))
        .collect())
}

fn toml_files(directory: &Path) -> Result<Vec<String>, venvd_fs::Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("list", directory),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.at("list", directory)?.file_name();
        // Hidden names are temporary files of an editor, or ours.
        if let Some(name) = name
            .to_str()
            .filter(|name| name.ends_with(".toml") && !name.starts_with('.'))
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// As for units: a link to `/dev/null` or an empty file takes a name out, see systemd.unit(5).
fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
        || fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// The path of a file on the host, and its text.
type Source = (PathBuf, String);

/// Reads files that each are a valid `T`, and returns what they mean together, later ones over earlier ones; `main` is
/// named when they contradict each other.
fn read_merged<T: DeserializeOwned>(
    layout: &Layout,
    files: &[PathBuf],
    main: &Path,
) -> Result<(T, Vec<Source>), LoadError> {
    let mut texts = Vec::new();
    let mut last = None;
    for path in files {
        let text = read_text(layout, path)?;
        // Each by itself, so that an error has a line of this file.
        last = Some(parse::<T>(path, &text)?);
        texts.push((path.clone(), text));
    }
    match last {
        // Most often there is but one, and generators delay the boot.
        Some(only) if texts.len() == 1 => Ok((only, texts)),
        _ => {
            let together = merged(&texts)?.try_into().map_err(|error: toml::de::Error| {
                Diagnostic::of_file(main, format!("merged with its fragments: {}", error.message()))
            })?;
            Ok((together, texts))
        }
    }
}

/// Merges files, later ones over earlier ones, as they were written.
fn merged(texts: &[Source]) -> Result<Table, LoadError> {
    let mut merged = Table::new();
    for (path, text) in texts {
        merge(&mut merged, parse(path, text)?);
    }
    Ok(merged)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, LoadError> {
    toml::from_str(text).map_err(|error| Diagnostic::at(path, text, error.span(), error.message()).into())
}

pub(crate) fn read_text(layout: &Layout, path: &Path) -> Result<String, LoadError> {
    let real = layout.trusted(path)?;
    let on_disk = layout.on_disk(real);
    let bytes = atomic::read(&on_disk)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        .at("read", &on_disk)?;
    String::from_utf8(bytes).map_err(|_| Diagnostic::of_file(path, "the file is not UTF-8").into())
}

/// Tables merge key by key; anything else is replaced.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Points at the last file that has the key.
fn point_at(texts: &[Source], main: &Path, key: &[String], message: &str) -> Diagnostic {
    texts
        .iter()
        .rev()
        .find_map(|(path, text)| Some(Diagnostic::at(path, text, Some(span_of(text, key)?), message)))
        .unwrap_or_else(|| Diagnostic::of_file(main, message))
}

fn span_of(text: &str, key: &[String]) -> Option<std::ops::Range<usize>> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let (last, path) = key.split_last()?;
    for part in path {
        table = table.get(part.as_str())?.get_ref().as_table()?;
    }
    let (found, _) = table.get_key_value(last.as_str())?;
    Some(found.span())
}

#[cfg(test)]
mod tests;
