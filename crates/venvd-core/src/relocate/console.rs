//! The programs that distributions declare as entry points: written by us, so that the installer has no say in them.
//!
//! See the packaging specification "Entry points". pip and uv write different texts for the same declaration, and either
//! changes its own between versions; one text of ours, with as few imports as can be, is the same for all builders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use venvd_fs::IoContext;

use crate::error::Error;

/// Where a distribution declares entry points, in its metadata directory.
const FILE: &str = "entry_points.txt";

/// The groups whose entries are programs. On Linux those with and without a window are alike.
const GROUPS: [&str; 2] = ["console_scripts", "gui_scripts"];

/// A program that a distribution declares: a function to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    name: String,
    module: String,
    function: String,
}

impl Program {
    /// Returns the file's content.
    pub(super) fn script(&self, python: &str) -> String {
        let Self { module, function, .. } = self;
        // `Class.method` is imported by its first part.
        let imported = function.split('.').next().unwrap_or(function);
        format!(
            "#!{python}\nimport sys\n\nfrom {module} import {imported}\n\n\
             if __name__ == \"__main__\":\n    sys.exit({function}())\n"
        )
    }
}

/// The programs of all distributions, by their path relative to the tree.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) programs: BTreeMap<PathBuf, Program>,
    /// Files in `bin` that pip makes for itself and declares nowhere.
    pub(super) undeclared: Vec<PathBuf>,
}

/// Reads what the distributions below `site` (relative to the tree) declare.
///
/// Of two that declare a program of the same name, the one whose directory sorts last has it, whoever was installed first.
///
/// # Errors
/// When a declaration is none, or would write outside of `bin` or over the venv's own Python.
pub(super) fn declared(tree: &Path, site: &Path) -> Result<Declared, Error> {
    let directory = tree.join(site);
    let mut infos = Vec::new();
    for entry in fs::read_dir(&directory).at("list", &directory)? {
        let path = entry.at("list", &directory)?.path();
        if path.extension().is_some_and(|extension| extension == "dist-info") {
            infos.push(path);
        }
    }
    infos.sort();
    let mut declared = Declared::default();
    for info in infos {
        let path = info.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).at("read", &path).map_err(Error::Io),
        };
        let programs = parse(&String::from_utf8_lossy(&text)).map_err(|reason| Error::Relocation {
            path: path.strip_prefix(tree).unwrap_or(&path).to_owned(),
            reason,
        })?;
        let is_pip = info
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("pip-"));
        for program in programs {
            declared.programs.insert(Path::new("bin").join(&program.name), program);
        }
        if is_pip {
            declared.undeclared = versioned_pips(tree, &declared)?;
        }
    }
    Ok(declared)
}

/// Both installers add `pip3.11` and the like for pip itself, each as it thinks best.
fn versioned_pips(tree: &Path, declared: &Declared) -> Result<Vec<PathBuf>, Error> {
    let bin = tree.join("bin");
    let mut found = Vec::new();
    for entry in fs::read_dir(&bin).at("list", &bin)? {
        let name = entry.at("list", &bin)?.file_name();
        let path = Path::new("bin").join(&name);
        let version = name.to_str().and_then(|name| name.strip_prefix("pip"));
        let is_version = |text: &str| {
            text.chars()
                .all(|character| character.is_ascii_digit() || character == '.')
        };
        if version.is_some_and(is_version) && !declared.programs.contains_key(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Reads the programs out of an `entry_points.txt`, as `importlib.metadata` does.
fn parse(text: &str) -> Result<Vec<Program>, String> {
    let mut group = "";
    let mut programs = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            group = name.trim();
        } else if GROUPS.contains(&group) {
            programs.push(program(line).ok_or_else(|| format!("declares {line:?}, which is no program"))?);
        }
    }
    Ok(programs)
}

/// Reads `name = module:function [extras]`; none if that is not what it is.
fn program(line: &str) -> Option<Program> {
    let (name, reference) = line.split_once('=')?;
    // Extras say what else to install; whoever made the lock has decided that.
    let reference = reference.split('[').next().unwrap_or_default();
    let (module, function) = reference.split_once(':')?;
    let (name, module, function) = (name.trim(), module.trim(), function.trim());
    let safe = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control)
        && !super::is_own_program(name);
    // It becomes code: nothing but dotted names.
    let dotted = |text: &str| text.split('.').all(is_identifier);
    (safe && dotted(module) && dotted(function)).then(|| Program {
        name: name.to_owned(),
        module: module.to_owned(),
        function: function.to_owned(),
    })
}

fn is_identifier(text: &str) -> bool {
    let begins = |character: char| character.is_alphabetic() || character == '_';
    text.starts_with(begins)
        && text
            .chars()
            .all(|character| character.is_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_as_python_does() {
        let text = "# ours\n[console_scripts]\nnova-manage = nova.cmd.manage:main\n\n a=b:C.run [extra] \n\
                    [oslo.config.opts]\nno:thing\n[ gui_scripts ]\nwindow = w : main\n";
        let programs = parse(text).unwrap();
        let read: Vec<_> = programs
            .iter()
            .map(|program| (&*program.name, &*program.module, &*program.function))
            .collect();
        assert_eq!(
            read,
            [
                ("nova-manage", "nova.cmd.manage", "main"),
                ("a", "b", "C.run"),
                ("window", "w", "main")
            ]
        );
        assert_eq!(
            programs[1].script("/v/bin/python"),
            "#!/v/bin/python\nimport sys\n\nfrom b import C\n\nif __name__ == \"__main__\":\n    sys.exit(C.run())\n"
        );
    }

    #[test]
    fn what_would_be_code_or_lie_elsewhere_is_refused() {
        for line in [
            "x = module",
            "x",
            "= a:b",
            "../x = a:b",
            ".x = a:b",
            "x = a;import os:b",
            "x = a:b()",
            "x = a:b\u{b}c",
            "x = a b:c",
            "x = 1a:b",
            "python = a:b",
            "python3 = a:b",
            "python3.11 = a:b",
            "activate = a:b",
        ] {
            let error = parse(&format!("[console_scripts]\n{line}\n")).unwrap_err();
            assert!(error.contains("no program"), "{line}");
        }
    }
}
