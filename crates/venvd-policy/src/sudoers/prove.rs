//! Asking sudo itself whether it follows what was written.

use venvd_app::UserName;

use super::installed::{Family, Sudo, run};
use super::model::{Rule, SecurePath};
use crate::Error;

/// Stands for the further arguments of an open-ended rule.
const PROBE: &str = "venvd-probe";

/// Returns why sudo does not follow these rules; `None` when it does, or when it can't be asked.
///
/// Nothing is run as root: `sudo -l COMMAND` only answers. It matches as a real call does, so a later file that takes
/// the right away again is found here. sudo-rs before 0.2.6 does not know the question, and later ones print no
/// Defaults, so there the machine tests have to do.
pub(crate) fn objection(
    sudo: &Sudo,
    user: &UserName,
    rules: &[Rule],
    path: Option<&SecurePath>,
) -> Result<Option<String>, Error> {
    if sudo.family == Family::Rust {
        return Ok(None);
    }
    for rule in rules {
        let mut question = vec!["-n", "-l", "-U", user.as_str(), "--", rule.program()];
        question.extend(rule.arguments().iter().map(String::as_str));
        if rule.is_open_ended() {
            question.push(PROBE);
        }
        let answer = run(&sudo.sudo, &question)?;
        if !answer.success {
            let said = answer.output.trim();
            return Ok(Some(
                format!("`sudo {}` is refused {said}", question.join(" "))
                    .trim_end()
                    .to_owned(),
            ));
        }
    }
    let Some(path) = path else { return Ok(None) };
    let answer = run(&sudo.sudo, &["-n", "-l", "-U", user.as_str()])?;
    let expected = path.to_string();
    Ok(match effective_secure_path(&answer.output) {
        Some(found) if found == expected => None,
        found => Some(format!(
            "its secure_path is {}, not {expected}",
            found.as_deref().unwrap_or("not set")
        )),
    })
}

/// Reads the last `secure_path` of "Matching Defaults entries": sudo applies them in order.
fn effective_secure_path(listing: &str) -> Option<String> {
    let (_, rest) = listing.rsplit_once("secure_path=")?;
    let value = rest.split([',', '\n']).next()?;
    Some(value.trim().trim_matches('"').replace("\\:", ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_listing_of_sudo() {
        let listing = "Matching Defaults entries for nova on vm:\n    env_reset, secure_path=/usr/sbin\\:/sbin, use_pty, \
                       secure_path=/v/bin\\:/sbin\n\nUser nova may run the following commands on vm:\n    (root) \
                       NOSETENV: NOPASSWD: /v/bin/nova-rootwrap /etc/nova/rootwrap.conf *\n";
        assert_eq!(effective_secure_path(listing).as_deref(), Some("/v/bin:/sbin"));
        assert_eq!(effective_secure_path("User nova may not run sudo on vm.\n"), None);
    }
}
