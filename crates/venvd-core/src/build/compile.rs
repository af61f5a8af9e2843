//! Compiling the sources of a venv, with the system's own Python and nothing of the venv's.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::confine::{SETPRIV, UNSHARE};
use super::log::Log;
use crate::error::{Error, Step};
use crate::interpreter::Interpreter;

/// Where bytecode says that its source lies, whatever the venv: so equal sources give equal bytes. Python puts it
/// right when it imports (`_fix_co_filename`).
const CANONICAL: &str = "/venv";

/// compileall ends with this when some file could not be compiled.
const SOME_FAILED: i32 = 1;

/// Compiles all sources below the venv's site-packages. Those that are no valid Python (templates) stay without
/// bytecode, and are only noted in the log.
///
/// Parsing runs no code of the sources; `-I -S` keeps out environment, working directory, `site` and every `.pth`.
pub(super) fn compile(tree: &Path, interpreter: &Interpreter, log: &mut Log) -> Result<(), Error> {
    log.heading("compile")?;
    let broken = |source| Error::Confine {
        step: Step::Compile,
        action: "run compileall".to_owned(),
        source,
    };
    // Both must be absolute, else nothing is stripped.
    let tree = tree.canonicalize().map_err(broken)?;
    // In a PID namespace, so that no worker of the compiler's outlives a killed build.
    let output = Command::new(SETPRIV)
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            UNSHARE,
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--",
        ])
        .arg(&interpreter.path)
        .args(["-I", "-S", "-m", "compileall", "-q", "-f", "-j0", "-s"])
        .arg(&tree)
        .args(["-p", CANONICAL, "--invalidation-mode", "unchecked-hash"])
        .arg(tree.join(interpreter.site_packages()))
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(broken)?;
    for line in String::from_utf8_lossy(&output.stdout)
        .lines()
        .chain(String::from_utf8_lossy(&output.stderr).lines())
    {
        log.line(line)?;
    }
    match output.status.code() {
        Some(0 | SOME_FAILED) if !log.says_full() => Ok(()),
        Some(0 | SOME_FAILED) => Err(crate::space::full(&tree)),
        _ => Err(Error::Step {
            step: Step::Compile,
            program: interpreter.path.display().to_string(),
            status: output.status.to_string(),
            tail: log.tail(),
            log: log.kept().to_owned(),
        }),
    }
}

/// Makes bytecode readable for all, whatever the umask was.
pub(super) fn normalise(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        if entry.file_name() == "__pycache__" {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
            for file in std::fs::read_dir(&path)? {
                std::fs::set_permissions(file?.path(), std::fs::Permissions::from_mode(0o644))?;
            }
        } else {
            normalise(&path)?;
        }
    }
    Ok(())
}
