//! The interactive shell that stands in for a command, with the venv in its prompt.
//!
//! A shell's own files set the prompt, so what changes it must come after them: a file of venvd's that the shell is told
//! to read (in `shell/` of this crate), which for bash and zsh reads the user's first. All of it happens as the user.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use venvd_app::Layout;
use venvd_app::links::VenvPath;

use crate::environment::Variables;
use crate::error::Error;

/// Where packages put those files.
const FILES: &str = match option_env!("VENVD_SHARE") {
    Some(directory) => directory,
    None => "/usr/share/venvd",
};

/// The shells that may be somebody's, see shells(5).
const SHELLS: &str = "/etc/shells";

/// What there is on every system.
const FALLBACK: &str = "/bin/sh";

/// The shells that are known well enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bash,
    Zsh,
    Fish,
    /// Any shell that is what POSIX says and not more.
    Sh,
}

impl Kind {
    /// Tells a shell by the name of its program.
    pub(crate) fn of(program: &Path) -> Option<Self> {
        match program.file_name()?.to_str()? {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            "sh" | "dash" | "ash" | "ksh" | "mksh" => Some(Self::Sh),
            _ => None,
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            "sh" => Ok(Self::Sh),
            _ => Err(format!("{name:?} is none of the shells bash, zsh, fish, sh")),
        }
    }
}

/// A shell to be started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shell {
    kind: Kind,
    pub(crate) program: PathBuf,
}

/// Refuses to start a shell that nobody types into: a script whose command is an empty variable.
pub(crate) fn refuse_without_terminal() -> Result<(), Error> {
    if io::stdin().is_terminal() {
        Ok(())
    } else {
        Err(Error::Usage(
            "no command is given, and for a shell standard input is no terminal".to_owned(),
        ))
    }
}

/// Chooses the shell: the kind that is asked for, else the caller's own, `preferred`, else bash.
///
/// Not the user's: a service user's is `nologin`. Only what root has listed as shells is one.
pub(crate) fn choose(layout: &Layout, wanted: Option<Kind>, preferred: Option<&OsStr>) -> Result<Shell, Error> {
    // Without that file there is only the fallback.
    let listed = fs::read_to_string(layout.on_disk(SHELLS)).unwrap_or_default();
    let known: Vec<Shell> = listed
        .lines()
        .chain([FALLBACK])
        .map(|line| Path::new(line.trim()))
        .filter(|program| program.is_absolute() && layout.on_disk(program).is_file())
        .filter_map(|program| {
            Some(Shell {
                kind: Kind::of(program)?,
                program: program.to_owned(),
            })
        })
        .collect();
    let of_kind = |kind| known.iter().find(|shell| shell.kind == kind);
    let found = match wanted {
        Some(kind) => of_kind(kind).ok_or(Error::NoShell { kind })?,
        None => known
            .iter()
            .find(|shell| Some(shell.program.as_os_str()) == preferred)
            .or_else(|| of_kind(Kind::Bash))
            .or_else(|| of_kind(Kind::Sh))
            .ok_or(Error::NoShell { kind: Kind::Sh })?,
    };
    Ok(Shell {
        kind: found.kind,
        program: found.program.clone(),
    })
}

impl Shell {
    /// Makes the shell show the venv; returns its arguments.
    pub(crate) fn show(&self, venv: &VenvPath, variables: &mut Variables) -> Result<Vec<OsString>, Error> {
        variables.insert("SHELL".into(), self.program.clone().into());
        let (arguments, file): (Vec<OsString>, _) = match self.kind {
            Kind::Bash => {
                let file = files("bashrc");
                (vec!["--rcfile".into(), file.clone().into(), "-i".into()], file)
            }
            Kind::Zsh => {
                let file = files("zsh/.zshrc");
                variables.insert("ZDOTDIR".into(), files("zsh").into());
                (vec!["-i".into()], file)
            }
            Kind::Fish => {
                let file = files("config.fish");
                let command = format!("source {}", file.display());
                (vec!["-i".into(), "--init-command".into(), command.into()], file)
            }
            Kind::Sh => {
                // It reads no file but the one in ENV, which is not passed on: so its prompt stays as it is here.
                variables.insert("PS1".into(), format!("({}) $ ", venv.name()).into());
                return Ok(vec!["-i".into()]);
            }
        };
        match fs::metadata(&file) {
            Ok(_) => Ok(arguments),
            Err(source) => Err(Error::ShellFile { file, source }),
        }
    }
}

fn files(name: &str) -> PathBuf {
    Path::new(FILES).join("shell").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_fs::Root;

    #[test]
    fn whose_shell_it_is() {
        let host = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(host.path()));
        let chosen = |wanted, preferred: &str| {
            choose(&layout, wanted, Some(preferred.as_ref())).map(|shell| shell.program.display().to_string())
        };
        assert!(chosen(None, "/bin/bash").is_err());
        for program in ["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/opt/bash"] {
            let program = layout.on_disk(program);
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            fs::write(program, "").unwrap();
        }
        assert_eq!(chosen(None, "/bin/bash").unwrap(), "/bin/sh", "it is not listed");
        fs::create_dir(layout.on_disk("/etc")).unwrap();
        fs::write(
            layout.on_disk("/etc/shells"),
            "# shells\n/bin/dash\n/bin/bash\n/usr/bin/zsh\n/usr/sbin/nologin\n",
        )
        .unwrap();
        for (wanted, preferred, program) in [
            (None, "/usr/bin/zsh", "/usr/bin/zsh"),
            (None, "/opt/bash", "/bin/bash"),
            (None, "/usr/sbin/nologin", "/bin/bash"),
            (None, "zsh", "/bin/bash"),
            (Some(Kind::Zsh), "/bin/bash", "/usr/bin/zsh"),
            (Some(Kind::Sh), "/bin/bash", "/bin/sh"),
        ] {
            assert_eq!(chosen(wanted, preferred).unwrap(), program, "{wanted:?} {preferred}");
        }
        let error = chosen(Some(Kind::Fish), "/bin/bash").unwrap_err();
        assert_eq!(error.exit_code(), 127, "{error}");
    }
}
