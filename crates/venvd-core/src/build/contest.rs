//! Files that several distributions install with other content each.
//!
//! An installer leaves that of whichever came last, and uv installs them side by side: the content would be a matter of
//! chance. So the distribution whose name is the last has it, out of its own wheel where another was faster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use venvd_fs::IoContext;

use super::local::sha256;
use super::log::Log;
use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::lock::normalise;
use crate::record::{Contest, Installed};

/// What reads a wheel.
const SCRIPT: &str = include_str!("contest.py");

/// Gives every contested file of the tree to the distribution that is to have it, and names it in the log.
///
/// # Errors
/// When that one's content is nowhere to be had: a program whose first line an installer wrote.
pub(super) fn settle(
    tree: &Path,
    wheels: &Path,
    (installed, interpreter): (&Installed, &Interpreter),
    log: &mut Log,
) -> Result<(), Error> {
    if installed.contested.is_empty() {
        return Ok(());
    }
    log.heading("files of several distributions, each with other content; the last one's is taken")?;
    for contest in &installed.contested {
        let names = contest.distributions.join(", ");
        log.line(&format!("{}: {names}", contest.path.display()))?;
        let on_disk = tree.join(&contest.path);
        let refused = |reason: &str| Error::Relocation {
            path: contest.path.clone(),
            reason: format!("is of several distributions ({names}), each with other content, and {reason}"),
        };
        let Some(hash) = hex(&contest.hash) else {
            return Err(refused("has no hash in a RECORD"));
        };
        if sha256(&on_disk)? == hash {
            continue;
        }
        let wheel =
            wheel_of(contest, installed, wheels)?.ok_or_else(|| refused("the wheel of the last one is gone"))?;
        let output = Command::new(&interpreter.path)
            .args(["-I", "-S", "-c", SCRIPT])
            .arg(&wheel)
            .arg(&hash)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .at("run", &interpreter.path)?;
        if !output.status.success() {
            return Err(refused("that of the last one is not in its wheel"));
        }
        fs::write(&on_disk, &output.stdout).at("write", &on_disk)?;
        if sha256(&on_disk)? != hash {
            return Err(io::Error::other("it is not what was written"))
                .at("read", &on_disk)
                .map_err(Error::Io);
        }
    }
    Ok(())
}

/// Returns a hash of a `RECORD` (urlsafe base64) in hex; none for one of another kind than sha256.
fn hex(recorded: &str) -> Option<String> {
    let (mut bits, mut count, mut text) = (0_u32, 0, String::new());
    for character in recorded.strip_prefix("sha256=")?.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            text.push_str(&format!("{:02x}", bits >> count & 0xff));
        }
    }
    (text.len() == 64).then_some(text)
}

/// Returns the wheel of the distribution that is to have the file.
fn wheel_of(contest: &Contest, installed: &Installed, wheels: &Path) -> Result<Option<PathBuf>, Error> {
    let Some(name) = contest.distributions.last() else {
        return Ok(None);
    };
    let distribution = installed
        .distributions
        .iter()
        .find(|distribution| distribution.name == *name);
    let version = distribution.map(|distribution| distribution.version.as_str());
    for entry in fs::read_dir(wheels).at("list", wheels)? {
        let path = entry.at("list", wheels)?.path();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut parts = file_name.split('-');
        if parts.next().is_some_and(|part| normalise(part) == *name) && parts.next() == version {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_records_are_read() {
        assert_eq!(
            hex("sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU").as_deref(),
            Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        );
        for other in ["", "md5=47DE", "sha256=", "sha256=47DE", "sha256=!"] {
            assert_eq!(hex(other), None, "{other}");
        }
    }
}
