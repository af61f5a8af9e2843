//! The programs of a phase as one shell script, which is all that a backend has to start.
//!
//! A file that root wrote and only the phase can see: so nothing of it (the address of an index may have a password in it)
//! is in a command line, a unit file or a D-Bus property, where all users could read it, and nobody's rules of quoting
//! but the shell's matter.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{INSIDE, Job};

/// What the script is shown as, and where a phase finds it.
pub(super) const NAME: &str = "job";
pub(super) const PLACE: &str = "/dev/shm/job";

/// What the script leaves in the phase's directory when it is really confined, and the first program may start.
pub(super) const STARTED: &str = ".started";

/// How the script begins. Its standard input is a pipe that the build holds open: when that ends, however it does, so does
/// all that the script has started.
const LIFE_LINE: &str = "exec 3<&0 </dev/null\n{ read -r _ <&3 || :; kill -KILL -1; } &\nexec 3<&-\n";

/// What a phase must be out of, as `/proc/self/ns` names it: `mnt:[4026531841]`.
#[derive(Debug, Default)]
pub(super) struct Outside(pub(super) Vec<String>);

/// Returns the script.
///
/// Before anything else it makes sure that it is confined: systemd leaves out what a kernel or container can't do
/// (`PrivateNetwork=` in systemd.exec(5): "might be impossible"), with no more than a line in the journal.
pub(super) fn render(jobs: &[Job], outside: &Outside) -> Vec<u8> {
    let mut script = b"set -eu\nrefuse() { echo \"venvd: $1\"; exit 99; }\n".to_vec();
    // All of it before the life line, which as root would end all of the system, and outside of a namespace all that is
    // the user's.
    script.extend_from_slice(b"[ \"$(id -u)\" != 0 ] || refuse 'this runs as root'\n");
    script
        .extend_from_slice(b"grep -q '^CapPrm:[[:space:]]*0*$' /proc/self/status || refuse 'this has capabilities'\n");
    for namespace in &outside.0 {
        let kind = namespace.split_once(':').map_or("mnt", |(kind, _)| kind);
        let line = format!(
            "[ \"$(readlink /proc/self/ns/{kind})\" != '{namespace}' ] || refuse 'this is in the {kind} namespace of the host'\n"
        );
        script.extend_from_slice(line.as_bytes());
    }
    script.extend_from_slice(LIFE_LINE.as_bytes());
    script.extend_from_slice(format!("cd {INSIDE}\nunset OLDPWD\n: >{STARTED}\n").as_bytes());
    for job in jobs {
        script.extend_from_slice(b"(\n");
        for (name, value) in base_environment().iter().chain(&job.environment) {
            // The shell can't export another, and no client has one.
            if is_identifier(name) {
                script.extend_from_slice(b"export ");
                script.extend_from_slice(name.as_bytes());
                script.push(b'=');
                script.extend_from_slice(quoted(value).as_bytes());
                script.push(b'\n');
            }
        }
        script.extend_from_slice(b"exec ");
        for word in std::iter::once(job.program.as_os_str()).chain(job.arguments.iter().map(OsString::as_os_str)) {
            script.extend_from_slice(quoted(word).as_bytes());
            script.push(b' ');
        }
        script.extend_from_slice(b"\n) </dev/null || exit\n");
    }
    script
}

fn base_environment() -> [(OsString, OsString); 6] {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", format!("{INSIDE}/home")),
        ("TMPDIR", format!("{INSIDE}/tmp")),
        ("LANG", "C.UTF-8".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
}

fn is_identifier(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|first| !first.is_ascii_digit())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Returns a word in single quotes, in which only such a quote means anything: sh(1).
pub(super) fn quoted(word: &OsStr) -> OsString {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_program_as_they_are() {
        let words = ["a b", "it's", "$HOME `id` \\ \" *", "%n\nnext", "", "-n"];
        let said = std::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(format!(
                "for word in {}; do printf '<%s>' \"$word\"; done",
                words.map(|word| quoted(word.as_ref()).into_string().unwrap()).join(" ")
            ))
            .output()
            .unwrap();
        let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
    }

    #[test]
    fn root_is_refused_before_anything_is_started() {
        let script = String::from_utf8(render(&[], &Outside::default())).unwrap();
        let at = |text: &str| script.find(text).unwrap();
        assert!(at("refuse 'this runs as root'") < at("kill -KILL -1"), "{script}");
    }

    #[test]
    fn only_names_that_a_shell_knows_are_exported() {
        for (name, is) in [
            ("UV_INDEX_CORP_PASSWORD", true),
            ("a-b", false),
            ("1A", false),
            ("", false),
            ("A;id", false),
        ] {
            assert_eq!(is_identifier(name.as_ref()), is, "{name}");
        }
    }
}
