//! Asking sudo itself whether it follows what was written.

use std::thread;

use venvd_app::UserName;

use super::installed::{Family, Sudo, Version, run};
use super::listing::{Call, Listing};
use super::model::{Rule, SecurePath};
use crate::Error;

/// The first sudo-rs that was seen to answer `sudo -l -U USER COMMAND`.
const RUST_ANSWERS: Version = Version([0, 2, 5]);

/// Stands for the further arguments of an open-ended rule.
const PROBE: &str = "venvd-probe";

/// What sudo is to follow.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// Whose rules they are.
    pub(crate) user: &'a UserName,
    /// All of them.
    pub(crate) rules: &'a [Rule],
    /// Those that it is asked for one by one.
    pub(crate) new: Vec<&'a Rule>,
    /// What is to hold for the user, where venvd sets it.
    pub(crate) secure_path: Option<&'a SecurePath>,
}

/// Returns why sudo does not follow what is claimed; `None` when it does, or when it can't be asked.
///
/// Nothing is run as root: `sudo -l COMMAND` only answers. It matches as a real call does, so a later file that takes
/// the right away again is found here; but it answers yes also where the call would need a password or a terminal, which
/// only the whole listing shows (tried with 1.9.13). sudo-rs answers both from 0.2.5 on, but prints no Defaults.
pub(crate) fn objection(sudo: &Sudo, claim: &Claim<'_>) -> Result<Option<String>, Error> {
    if sudo.family == Family::Rust && sudo.version < RUST_ANSWERS {
        return Ok(None);
    }
    // Units wait for the answers, and most of the time sudo waits for others. Where no thread is to be had, one comes after
    // the other.
    let list = || run(&sudo.sudo, &["-n", "-ll", "-U", claim.user.as_str()]);
    let (refused, listed) = thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, list);
        let refused = refusal(sudo, claim);
        let listed = match other {
            Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => list(),
        };
        (refused, listed)
    });
    if let Some(refused) = refused? {
        return Ok(Some(refused));
    }
    let listing = Listing::parse(&listed?.output);
    let hindrance = claim.rules.iter().find_map(|rule| {
        listing.hindrance(Call {
            program: rule.program(),
            arguments: &called(rule).join(" "),
        })
    });
    let path = claim.secure_path.filter(|_| sudo.family == Family::C);
    let (None, Some(path)) = (&hindrance, path) else {
        return Ok(hindrance);
    };
    let expected = path.to_string();
    Ok(match listing.secure_path() {
        Some(found) if found == expected => None,
        found => Some(format!(
            "its secure_path is {}, not {expected}",
            found.as_deref().unwrap_or("not set")
        )),
    })
}

/// Returns the first question that is answered with no.
fn refusal(sudo: &Sudo, claim: &Claim<'_>) -> Result<Option<String>, Error> {
    for rule in &claim.new {
        let mut question = vec!["-n", "-l", "-U", claim.user.as_str(), "--", rule.program()];
        question.extend(called(rule));
        let answer = run(&sudo.sudo, &question)?;
        if !answer.success {
            let said = format!("`sudo {}` is refused {}", question.join(" "), answer.output.trim());
            return Ok(Some(said.trim_end().to_owned()));
        }
    }
    Ok(None)
}

/// Returns arguments that a rule admits.
fn called(rule: &Rule) -> Vec<&str> {
    let pinned = rule.arguments().iter().map(String::as_str);
    pinned.chain(rule.is_open_ended().then_some(PROBE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sudo of our own that admits what its script says.
    fn sudo(directory: &std::path::Path, script: &str, family: Family, version: [u32; 3]) -> Sudo {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join("sudo");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Sudo {
            visudo: "/bin/true".into(),
            sudo: path,
            family,
            version: Version(version),
        }
    }

    #[test]
    fn asks_each_family_what_it_can_answer() {
        let directory = tempfile::tempdir().unwrap();
        let user: UserName = "nova".parse().unwrap();
        let command = "x /etc/x *".to_owned().try_into().unwrap();
        let rules = [Rule::new(&user, std::path::Path::new("/v/bin/x"), &command).unwrap()];
        let path = SecurePath::new(
            [],
            &[super::super::model::PlainPath::new(std::path::Path::new("/v/bin")).unwrap()],
        );
        const ALL: &str = "Sudoers entry:\n    RunAsUsers: ALL\n    Commands:\n\tALL\n";
        let listing = |defaults: &str, rule: &str| {
            format!(
                "cat <<E\nMatching Defaults entries for nova on vm:\n    {defaults}\n\nUser nova may run the following \
                 commands on vm:\n\n{rule}\nE"
            )
        };
        let asked = "[ $2 = -ll ] || [ \"$*\" = '-n -l -U nova -- /v/bin/x /etc/x venvd-probe' ]";
        for (script, family, version, objects) in [
            (asked, Family::Rust, [0, 2, 5], false),
            (asked, Family::Rust, [0, 2, 15], false),
            ("exit 1", Family::Rust, [0, 2, 15], true),
            ("exit 1", Family::Rust, [0, 2, 4], false),
            ("exit 1", Family::C, [1, 9, 13], true),
            (&listing("secure_path=/v/bin", ""), Family::C, [1, 9, 13], false),
            (&listing("secure_path=/bin", ""), Family::C, [1, 9, 13], true),
            (
                &listing("secure_path=/v/bin, requiretty", ""),
                Family::C,
                [1, 9, 13],
                true,
            ),
            (&listing("secure_path=/v/bin", ALL), Family::C, [1, 9, 13], true),
            (&listing("", ALL), Family::Rust, [0, 2, 15], true),
            (&listing("", ""), Family::Rust, [0, 2, 15], false),
            ("exit 0", Family::C, [1, 9, 13], true),
        ] {
            let sudo = sudo(directory.path(), script, family, version);
            let claim = Claim {
                user: &user,
                rules: &rules,
                new: rules.iter().collect(),
                secure_path: Some(&path),
            };
            let objection = objection(&sudo, &claim).unwrap();
            assert_eq!(
                objection.is_some(),
                objects,
                "{script} {family:?} {version:?}: {objection:?}"
            );
        }
    }
}
