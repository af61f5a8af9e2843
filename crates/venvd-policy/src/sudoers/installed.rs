//! Which sudo is installed, and running its programs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
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

/// As long as one question may take. Sudo may ask a directory service or name servers, and while we wait for it the policies
/// are locked.
const LIMIT: Duration = Duration::from_secs(30);

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

/// Returns whose sudo this host has; `None` when it has none, or one that does not say.
pub(super) fn family() -> Option<Family> {
    ask_version(Path::new(SUDO)).ok().map(|(family, _)| family)
}

/// What a program says of its version, and which file it was that said so.
type Known = BTreeMap<PathBuf, (Identity, (Family, Version))>;

/// What is known already. An activation needs it three times, and each question takes as long as a rule's.
static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());

/// What no two files have alike, nor one before and after a change: device, inode, and time of the last change of either
/// contents or attributes, in seconds and nanoseconds.
type Identity = (u64, u64, (i64, i64));

fn identity(program: &Path) -> Option<Identity> {
    let file = fs::metadata(program).ok()?;
    Some((file.dev(), file.ino(), (file.ctime(), file.ctime_nsec())))
}

fn ask_version(program: &Path) -> Result<(Family, Version), Error> {
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let identity = identity(program);
    if let Some((was, version)) = known().get(program)
        && Some(*was) == identity
    {
        return Ok(*version);
    }
    let answer = run(program, &["--version"])?;
    let version = parse_version(&answer.output).ok_or_else(|| Error::UnknownSudo {
        program: program.to_owned(),
        output: answer.output,
    })?;
    known().extend(identity.map(|identity| (program.to_owned(), (identity, version))));
    Ok(version)
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

/// Runs a program of sudo's with nothing of our environment, and waits for it for a while.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Result<Answer, Error> {
    run_within(program, arguments, LIMIT)
}

fn run_within(program: &Path, arguments: &[&str], limit: Duration) -> Result<Answer, Error> {
    let failed = |source| Error::Run {
        program: program.to_owned(),
        source,
    };
    // Files, since nobody would read from pipes meanwhile.
    let file = || memfd_create(c"venvd-output", MemfdFlags::CLOEXEC).map(File::from);
    let mut outputs = [
        file().map_err(|errno| failed(errno.into()))?,
        file().map_err(|errno| failed(errno.into()))?,
    ];
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        // The messages are compared, so they must not be translated.
        .env("LC_ALL", "C")
        // Without a terminal, sudo breaks its lines at this width.
        .env("COLUMNS", "9999")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(outputs[0].try_clone().map_err(failed)?)
        .stderr(outputs[1].try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let ended = has_ended_within(&child, limit);
    if !matches!(ended, Ok(true)) {
        // One that has ended meanwhile is as good as killed.
        child.kill().map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if !ended.map_err(failed)? {
        return Err(Error::Hangs {
            command: [&[&*program.to_string_lossy()], arguments].concat().join(" "),
            seconds: limit.as_secs(),
        });
    }
    let mut bytes = Vec::new();
    for output in &mut outputs {
        output.rewind().map_err(failed)?;
        output.read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(Answer {
        success: status.success(),
        output: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

fn has_ended_within(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
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
    fn waits_for_an_answer_of_any_size_but_not_for_ever() {
        let shell = Path::new("/bin/sh");
        let long = "head -c 300000 /dev/zero; echo out; echo err >&2; exit 3";
        let answer = run(shell, &["-c", long]).unwrap();
        assert!(!answer.success && answer.output.ends_with("out\nerr\n"));
        assert_eq!(answer.output.len(), 300_008);
        let begun = std::time::Instant::now();
        let error = run_within(shell, &["-c", "exec sleep 60"], Duration::from_millis(20)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(50));
        assert_eq!(error.code(), "policy-hangs");
        assert!(error.to_string().contains("`/bin/sh -c exec sleep 60`"), "{error}");
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
