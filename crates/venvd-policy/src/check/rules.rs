//! What else sudo lets the same user do: rules that venvd did not write, and variables that reach what root runs.

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
    let kept = match system::kept_environment(subject.layout, user) {
        Ok(kept) => kept,
        Err(error) => return vec![Finding::unreadable(&error)],
    };
    // NOSETENV is about what the caller asks sudo for, not about what is kept anyway.
    let kept = kept.into_iter().map(|(file, line)| {
        let message = format!(
            "{}: `{line}` lets {user} choose what Python imports as root, in spite of NOSETENV; take it out, or bind \
             it to other users (`Defaults:USER`)",
            file.display()
        );
        Finding::error("environment-kept", message)
    });
    let others = rules.into_iter().map(|(file, rule)| {
        let close = if rule.contains("privsep-helper") {
            "; privsep-helper runs what its caller names, as root"
        } else {
            ""
        };
        let message = format!("{}: {user} also has `{rule}`{close}", file.display());
        Finding::warning("other-rule", message)
    });
    kept.chain(others).collect()
}
