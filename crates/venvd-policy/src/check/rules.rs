//! What else sudo lets the same user do: rules that venvd did not write.

use super::{Finding, Subject};
use crate::sudoers::system;

pub(super) fn check(subject: Subject<'_>) -> Vec<Finding> {
    let Some(user) = &subject.app.user else {
        return Vec::new();
    };
    let rules = match system::rules_of_others(subject.layout, user) {
        Ok(rules) => rules,
        Err(error) => return vec![Finding::unreadable(&error)],
    };
    rules
        .into_iter()
        .map(|(file, rule)| {
            let close = if rule.contains("privsep-helper") {
                "; privsep-helper runs what its caller names, as root"
            } else {
                ""
            };
            let message = format!("{}: {user} also has `{rule}`{close}", file.display());
            Finding::warning("other-rule", message)
        })
        .collect()
}
