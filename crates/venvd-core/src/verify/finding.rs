//! What verify can find, and in which order it is told.

use serde::Serialize;

/// What sort of thing is wrong; the worst come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// There is no manifest that could be believed.
    NotSealed,
    /// The manifest contradicts itself, or names another venv than the one in this place.
    Manifest,
    /// Somebody other than root could change a directory above.
    Chain,
    /// A file or directory belongs to somebody other than root.
    Owner,
    /// A file or directory can be written by group or others.
    Writable,
    /// A file or directory is setuid, setgid or sticky.
    Setuid,
    /// A file has capabilities, or a file or directory has an access list.
    Attribute,
    /// A file, link or directory that the venv was sealed without.
    Extra,
    /// A file has other content.
    Changed,
    /// A file or link is not there.
    Missing,
    /// A symbolic link leads elsewhere.
    Link,
    /// What must be a directory is none.
    Directory,
    /// Something is mounted inside of the venv.
    Mount,
    /// Other permissions than when it was sealed, none of them dangerous by itself.
    Mode,
    /// It could not be looked at.
    Unreadable,
    /// The interpreter is not there any more.
    PythonGone,
    /// The interpreter is of another minor version.
    PythonMinor,
    /// The interpreter takes other extension modules or other bytecode.
    PythonAbi,
    /// The interpreter can't be used for another reason.
    PythonBroken,
    /// The host's machine or C library is not what the venv needs.
    Platform,
    /// A script does not start this venv's Python.
    Prefix,
    /// A module of the host's Python is not as it was linked.
    HostModule,
    /// A distribution misses another one, or does not fit it.
    Requirement,
    /// Bytecode is not what its source compiles to.
    Bytecode,
}

/// How something that was found can be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// Put back what the manifest has at this path.
    PutBack,
    /// Take away what lies at this path.
    Remove,
    /// Set owner, mode and attributes of what lies at this path.
    Attributes,
    /// Not within the venv: it needs the administrator, another Python, or another venv.
    Elsewhere,
}

impl Code {
    /// Returns the word by which programs tell findings apart.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSealed => "not-sealed",
            Self::Manifest => "manifest",
            Self::Chain => "chain",
            Self::Owner => "owner",
            Self::Writable => "writable",
            Self::Setuid => "setuid",
            Self::Attribute => "attribute",
            Self::Extra => "extra",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Link => "link",
            Self::Directory => "directory",
            Self::Mount => "mount",
            Self::Mode => "mode",
            Self::Unreadable => "unreadable",
            Self::PythonGone => "python-gone",
            Self::PythonMinor => "python-minor",
            Self::PythonAbi => "python-abi",
            Self::PythonBroken => "python-broken",
            Self::Platform => "platform",
            Self::Prefix => "prefix",
            Self::HostModule => "host-module",
            Self::Requirement => "requirement",
            Self::Bytecode => "bytecode",
        }
    }

    /// Returns how it can be put right. What can't be read may be a damaged disk: the bytes are put back elsewhere on it.
    #[must_use]
    pub fn cure(self) -> Cure {
        match self {
            Self::Changed | Self::Missing | Self::Link | Self::Directory | Self::Unreadable | Self::Bytecode => {
                Cure::PutBack
            }
            Self::Extra => Cure::Remove,
            Self::Owner | Self::Writable | Self::Setuid | Self::Attribute | Self::Mode => Cure::Attributes,
            Self::NotSealed
            | Self::Manifest
            | Self::Chain
            | Self::Mount
            | Self::PythonGone
            | Self::PythonMinor
            | Self::PythonAbi
            | Self::PythonBroken
            | Self::Platform
            | Self::Prefix
            | Self::HostModule
            | Self::Requirement => Cure::Elsewhere,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Something that is not as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What sort of thing is wrong.
    pub code: Code,
    /// Where, relative to the venv; `.` is its own directory; none when it is not about one file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong, as it reads after the path (or alone, where there is none).
    pub message: String,
}

impl Finding {
    /// Returns a finding about the whole venv.
    pub(crate) fn general(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            path: None,
            message: message.into(),
        }
    }

    /// Returns a finding about one path; an empty one is the venv's own directory.
    pub(crate) fn of(code: Code, path: &str, message: impl Into<String>) -> Self {
        let path = if path.is_empty() { "." } else { path };
        Self {
            code,
            path: Some(path.to_owned()),
            message: message.into(),
        }
    }

    /// Sorts the worst first: within a sort what every Python runs at its start, then by path.
    pub(crate) fn sort(findings: &mut [Self]) {
        findings.sort_by(|one, other| one.rank().cmp(&other.rank()));
    }

    fn rank(&self) -> (Code, bool, Option<&str>, &str) {
        let path = self.path.as_deref();
        let hook = path.is_some_and(|path| runs_at_start(path).is_some());
        (self.code, !hook, path, &self.message)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(path) = &self.path {
            write!(formatter, "{path}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

/// Says why Python runs the file at a path whenever it starts, if it does: `site`, in "The Python Standard Library".
pub(crate) fn runs_at_start(path: &str) -> Option<&'static str> {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let directory = parts.next().unwrap_or_default();
    if name.ends_with(".pth") && directory == "site-packages" {
        return Some("every start of this venv's python reads it, and runs its lines that begin with `import`");
    }
    ["sitecustomize", "usercustomize"]
        .iter()
        .any(|hook| name == *hook || name.strip_prefix(hook).is_some_and(|rest| rest.starts_with('.')))
        .then_some("every start of this venv's python imports it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_programs_are_those_of_the_json() {
        for code in [
            Code::NotSealed,
            Code::PythonGone,
            Code::HostModule,
            Code::Setuid,
            Code::Platform,
        ] {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("{:?}", code.as_str()));
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let site = "lib/python3.11/site-packages";
        let mut findings = vec![
            Finding::of(Code::Mode, "a", "m"),
            Finding::of(Code::Extra, "a", "e"),
            Finding::of(Code::Extra, &format!("{site}/x.pth"), "e"),
            Finding::general(Code::Requirement, "r"),
            Finding::of(Code::Setuid, "z", "s"),
        ];
        Finding::sort(&mut findings);
        let paths: Vec<&str> = findings.iter().filter_map(|finding| finding.path.as_deref()).collect();
        assert_eq!(paths, ["z", &format!("{site}/x.pth"), "a", "a"]);
        assert_eq!(findings.last().unwrap().to_string(), "r");
    }

    #[test]
    fn knows_what_python_runs_at_start() {
        for path in [
            "lib/python3.11/site-packages/evil.pth",
            "lib/python3.11/site-packages/sitecustomize.py",
            "lib/python3.11/site-packages/usercustomize.cpython-311-x86_64-linux-gnu.so",
            "lib/python3.11/site-packages/__pycache__/sitecustomize.cpython-311.pyc",
            "lib/python3.11/site-packages/sitecustomize",
        ] {
            assert!(runs_at_start(path).is_some(), "{path}");
        }
        for path in ["lib/python3.11/site-packages/a/x.pth", "bin/x.py", "sitecustomizer.py"] {
            assert!(runs_at_start(path).is_none(), "{path}");
        }
    }
}
