//! Which sudo is installed, and running its programs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use venvd_app::AppName;

use crate::Error;

const SUDO: &str = "/usr/bin/sudo";
/// Where a `visudo` may be. With both families installed, the one that is not the host's has another name.
const VISUDOS: [&str; 4] = [
    "/usr/sbin/visudo",
    "/usr/bin/visudo",
    "/usr/bin/visudo-rs",
    "/usr/sbin/visudo-rs",
];

/// The first sudo-rs that takes a final `*` for further arguments; before, it was a literal one (tried by running).
const RUST_HONOURS_STAR: Version = Version([0, 2, 13]);

/// The installed sudo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sudo {
    pub(crate) visudo: PathBuf,
    pub(crate) sudo: PathBuf,
    pub(crate) family: Family,
    pub(crate) version: Version,
}

/// Who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// The original.
    C,
    /// sudo-rs.
    Rust,
}

/// The numbers of a version; what follows them (`p3`) means nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) [u32; 3]);

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::C => "sudo",
            Self::Rust => "sudo-rs",
        })
    }
}

impl fmt::Display for Sudo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.family, self.version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) output: String,
}

impl Sudo {
    /// Looks for the sudo of the host that this runs on, which `app` needs.
    pub(crate) fn installed(app: &AppName) -> Result<Self, Error> {
        Self::among(app, Path::new(SUDO), &VISUDOS.map(Path::new))
    }

    /// Takes a sudo, and the first `visudo` of its family: the other one would check for what is not read.
    fn among(app: &AppName, sudo: &Path, visudos: &[&Path]) -> Result<Self, Error> {
        let no_sudo = |missing: &Path| Error::NoSudo {
            app: app.clone(),
            missing: missing.to_owned(),
        };
        if !sudo.exists() {
            return Err(no_sudo(sudo));
        }
        let (family, version) = ask_version(sudo)?;
        let mut others = Vec::new();
        for visudo in visudos.iter().filter(|visudo| visudo.exists()) {
            let found = ask_version(visudo)?;
            if found.0 == family {
                return Ok(Self {
                    visudo: (*visudo).to_owned(),
                    sudo: sudo.to_owned(),
                    family,
                    version,
                });
            }
            others.push(format!("{} is of {} {}", visudo.display(), found.0, found.1));
        }
        match others.is_empty() {
            true => Err(no_sudo(visudos.first().copied().unwrap_or(sudo))),
            false => Err(Error::NoVisudo {
                sudo: format!("{family} {version}"),
                found: others.join(", "),
            }),
        }
    }

    /// Returns whether a final `*` stands for further arguments, as sudoers(5) has it.
    pub(crate) fn honours_star(&self) -> bool {
        self.family == Family::C || self.version >= RUST_HONOURS_STAR
    }
}

fn ask_version(program: &Path) -> Result<(Family, Version), Error> {
    let answer = run(program, &["--version"])?;
    parse_version(&answer.output).ok_or_else(|| Error::UnknownSudo {
        program: program.to_owned(),
        output: answer.output,
    })
}

/// Reads `visudo version 1.9.13p3` and the like.
///
/// sudo-rs's visudo says the same as the original, but sudo-rs has never had a version from 1 on, nor the original one
/// below; where it names itself, that decides.
fn parse_version(output: &str) -> Option<(Family, Version)> {
    let line = output.lines().next()?;
    let word = line
        .split(' ')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.splitn(3, '.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse::<u32>().ok()
    });
    let version = Version([numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?]);
    let family = if line.contains("sudo-rs") || version < Version([1, 0, 0]) {
        Family::Rust
    } else {
        Family::C
    };
    Some((family, version))
}

/// Runs a program of sudo's with nothing of our environment, and waits for it.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Result<Answer, Error> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        // The messages are compared, so they must not be translated.
        .env("LC_ALL", "C")
        // Without a terminal, sudo breaks its lines at this width.
        .env("COLUMNS", "9999")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Run {
            program: program.to_owned(),
            source,
        })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Answer {
        success: output.status.success(),
        output: text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_sudo_from_sudo_rs() {
        for (output, family, version) in [
            (
                "visudo version 1.9.13p3\nvisudo grammar version 50\n",
                Family::C,
                [1, 9, 13],
            ),
            (
                "Sudo version 1.9.13p3\nConfigure options: --x 0.2.5\n",
                Family::C,
                [1, 9, 13],
            ),
            ("visudo version 1.9.16p2\n", Family::C, [1, 9, 16]),
            ("visudo version 1.10\n", Family::C, [1, 10, 0]),
            ("visudo version 0.2.5\n", Family::Rust, [0, 2, 5]),
            ("visudo-rs 0.2.13\n", Family::Rust, [0, 2, 13]),
            ("sudo-rs 0.2.15-0ubuntu1\n", Family::Rust, [0, 2, 15]),
        ] {
            assert_eq!(parse_version(output), Some((family, Version(version))), "{output}");
        }
        for bad in [
            "",
            "visudo",
            "visudo version x.y",
            "visudo version 1",
            "1.x.3",
            "visudo version 99999999999.1.1",
        ] {
            assert_eq!(parse_version(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn knows_who_honours_a_star() {
        for (family, version, honours) in [
            (Family::C, [1, 9, 5], true),
            (Family::Rust, [0, 2, 5], false),
            (Family::Rust, [0, 2, 12], false),
            (Family::Rust, [0, 2, 13], true),
            (Family::Rust, [0, 3, 0], true),
        ] {
            let sudo = Sudo {
                visudo: VISUDOS[0].into(),
                sudo: SUDO.into(),
                family,
                version: Version(version),
            };
            assert_eq!(sudo.honours_star(), honours, "{sudo:?}");
        }
    }

    #[test]
    fn takes_the_visudo_of_the_same_family() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let program = |name: &str, says: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (c, rust) = (
            program("c", "visudo version 1.9.16p2"),
            program("rs", "visudo version 0.2.5"),
        );
        let app = "nova".parse().unwrap();
        let sudo = program("sudo-c", "Sudo version 1.9.16p2");
        assert_eq!(Sudo::among(&app, &sudo, &[&rust, &c]).unwrap().visudo, c);
        let sudo = program("sudo-rs", "sudo-rs 0.2.5");
        assert_eq!(Sudo::among(&app, &sudo, &[&c, &rust]).unwrap().visudo, rust);
        let error = Sudo::among(&app, &sudo, &[&c]).unwrap_err();
        assert!(error.to_string().contains("c is of sudo 1.9.16"), "{error}");
        assert!(matches!(Sudo::among(&app, &sudo, &[]), Err(Error::NoSudo { .. })));
        assert!(matches!(
            Sudo::among(&app, &directory.path().join("no"), &[&c]),
            Err(Error::NoSudo { .. })
        ));
    }
}
