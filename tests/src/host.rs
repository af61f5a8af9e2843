//! What this host must have to make and boot machines, and what to do when it has not.

use std::{collections::BTreeSet, env, ffi::OsStr, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

/// What the host is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Boot machines from roots that are there.
    Boot,
    /// Make roots and fetch packages too.
    Prepare,
}

/// The programs that a purpose needs, each with the Debian package that has it.
fn needs(purpose: Purpose) -> &'static [(&'static str, &'static str)] {
    const ALL: [(&str, &str); 9] = [
        ("mmdebstrap", "mmdebstrap"),
        ("apt-get", "apt"),
        ("python3", "python3-venv"),
        ("setpriv", "util-linux"),
        ("tar", "tar"),
        ("systemd-nspawn", "systemd-container"),
        ("journalctl", "systemd"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
    ];
    match purpose {
        Purpose::Prepare => &ALL,
        Purpose::Boot => ALL.split_at(4).1,
    }
}

/// Checks that this host can do what is asked.
///
/// # Errors
/// Everything that is missing, in one message, with the command that installs it.
pub fn check(purpose: Purpose) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("machines need root: systemd-nspawn and overlay mounts are not for others; run this as root");
    }
    let missing: Vec<_> = needs(purpose)
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .collect();
    if !missing.is_empty() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let packages: BTreeSet<_> = missing.iter().map(|(_, package)| *package).collect();
        let packages: Vec<_> = packages.into_iter().collect();
        bail!(
            "this host lacks {} (Debian: {}); tests/bin/host-setup installs them",
            programs.join(", "),
            packages.join(", ")
        );
    }
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "true"])
        .output()
        .context("can't run unshare")?;
    if !output.status.success() {
        bail!(
            "this host lets us make no mount and pid namespaces (in a container, it must be a privileged one): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(
        env::var_os("PATH")
            .as_deref()
            .unwrap_or(OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin")),
    )
    .map(|dir| dir.join(program))
    .find(|path| path.is_file())
}

/// Runs a program of the host to its end and gives its standard output.
///
/// # Errors
/// When it can't be started or fails: with its last lines of standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("can't run {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().collect();
    let last = lines.split_at(lines.len().saturating_sub(15)).1.join("\n");
    bail!("{name} failed ({}):\n{last}", output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("why") && error.contains("exit status: 3"), "{error}");
        assert_eq!(run(Command::new("echo").arg("yes")).unwrap(), "yes\n");
        assert!(
            run(&mut Command::new("/nonexistent"))
                .unwrap_err()
                .to_string()
                .contains("/nonexistent")
        );
    }

    #[test]
    fn booting_needs_less_than_preparing() {
        let boot = needs(Purpose::Boot);
        assert!(boot.iter().any(|(program, _)| *program == "systemd-nspawn"));
        assert!(!boot.iter().any(|(program, _)| *program == "mmdebstrap"));
        assert!(boot.iter().all(|need| needs(Purpose::Prepare).contains(need)));
    }
}
