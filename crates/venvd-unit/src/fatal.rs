//! Settings besides command lines that end the reading of a file when systemd does not like their value (`ENOEXEC` in
//! its `load-fragment.c`): a unit file is then not loaded, of a drop-in the rest is lost.

use crate::lexer::Assignment;
use crate::name::UnitId;
use crate::specifier::{self, BadSpecifier};

/// What systemd has against a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dislike {
    #[error("{0}")]
    Specifier(#[from] BadSpecifier),
    #[error("invalid user or group: {0:?}")]
    User(String),
    #[error("not an absolute, normalised path: {0:?}")]
    Path(String),
    #[error("not a boolean: {0:?}")]
    Boolean(String),
}

/// Returns what is fatal about an assignment of `[Service]` in the unit `id`.
pub(crate) fn check(assignment: &Assignment, id: &UnitId) -> Result<(), Dislike> {
    let value = assignment.value.as_str();
    // Empty resets, a `-` lets go; where systemd does not have it so, the value would not be valid either.
    if assignment.section != "Service" || value.is_empty() && assignment.key != "DynamicUser" {
        return Ok(());
    }
    match assignment.key.as_str() {
        "User" | "Group" => user(value, id),
        "SupplementaryGroups" => value.split_ascii_whitespace().try_for_each(|word| user(word, id)),
        "WorkingDirectory" if value == "~" || value.starts_with('-') => Ok(()),
        "WorkingDirectory" | "RootDirectory" | "RootImage" | "RootVerity" => path(value, id),
        "SELinuxContext" | "AppArmorProfile" | "SmackProcessLabel" if !value.starts_with('-') => {
            Ok(specifier::expand(value, id).map(drop)?)
        }
        "DynamicUser" if !is_boolean(value) => Err(Dislike::Boolean(value.to_owned())),
        _ => Ok(()),
    }
}

/// `valid_user_group_name()` with numbers, relaxed.
fn user(name: &str, id: &UnitId) -> Result<(), Dislike> {
    let Some(name) = specifier::expand(name, id)? else {
        return Ok(());
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // 0xffff and 0xffffffff are no users: -1 in 16 and 32 bits.
    let number = name
        .parse::<u32>()
        .is_ok_and(|number| number != u32::MAX && number != 0xffff);
    let leading_zero = name.len() > 1 && name.starts_with('0');
    let valid = if digits(&name) {
        number && !leading_zero
    } else {
        !name.is_empty()
            && !name.starts_with(' ')
            && !name.ends_with(' ')
            && !name.chars().any(|c| c.is_ascii_control() || c == ':' || c == '/')
            && !name
                .strip_prefix('-')
                .is_some_and(|rest| rest.is_empty() || digits(rest))
            && name != "."
            && name != ".."
    };
    if valid { Ok(()) } else { Err(Dislike::User(name)) }
}

fn path(path: &str, id: &UnitId) -> Result<(), Dislike> {
    let Some(path) = specifier::expand(path, id)? else {
        return Ok(());
    };
    if path.starts_with('/') && path.split('/').all(|part| part != "..") {
        Ok(())
    } else {
        Err(Dislike::Path(path))
    }
}

/// `parse_boolean()`
fn is_boolean(text: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on", "0", "no", "n", "false", "f", "off"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_values() {
        let id = UnitId::parse("a@b.service").unwrap();
        for (line, fatal) in [
            ("User=nova", false),
            ("User=", false),
            ("User=no:va", true),
            ("User=0", false),
            ("User=65535", true),
            ("User=%i", false),
            ("User=%H", false),
            ("User=%Q", true),
            ("Group=-1", true),
            ("SupplementaryGroups=a b", false),
            ("SupplementaryGroups=a /b", true),
            ("WorkingDirectory=~", false),
            ("WorkingDirectory=-rel", false),
            ("WorkingDirectory=rel", true),
            ("WorkingDirectory=%h/x", false),
            ("WorkingDirectory=/a/../b", true),
            ("RootDirectory=rel", true),
            ("DynamicUser=maybe", true),
            ("DynamicUser=Yes", false),
            ("SELinuxContext=-%Q", false),
            ("SELinuxContext=%Q", true),
            ("PIDFile=rel", false),
        ] {
            let text = format!("[Service]\n{line}\n");
            let assignment = &crate::lexer::parse(text.as_bytes()).assignments[0];
            assert_eq!(check(assignment, &id).is_err(), fatal, "{line}");
        }
    }
}
