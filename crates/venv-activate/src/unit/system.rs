//! The specifiers that depend on the system and not on the unit: the system manager's, see systemd.unit(5).

use std::fs;

use nix::sys::utsname::uname;
use nix::unistd::gethostname;

/// Returns what a letter stands for. Of the others nothing outside of systemd knows for sure what they are.
pub(crate) fn specifier(letter: char) -> Option<String> {
    match letter {
        't' => Some("/run".to_owned()),
        'S' => Some("/var/lib".to_owned()),
        'C' => Some("/var/cache".to_owned()),
        'L' => Some("/var/log".to_owned()),
        'E' => Some("/etc".to_owned()),
        'T' => Some("/tmp".to_owned()),
        'V' => Some("/var/tmp".to_owned()),
        // The manager's user, not the unit's.
        'h' => Some("/root".to_owned()),
        'u' | 'g' => Some("root".to_owned()),
        'U' | 'G' => Some("0".to_owned()),
        'H' => host_name(),
        'l' => host_name().map(|name| name.split('.').next().unwrap_or_default().to_owned()),
        'v' => Some(uname().ok()?.release().to_str()?.to_owned()),
        'm' => id("/etc/machine-id"),
        'b' => id("/proc/sys/kernel/random/boot_id"),
        _ => None,
    }
}

fn host_name() -> Option<String> {
    gethostname().ok()?.into_string().ok()
}

fn id(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().replace('-', ""))
}
