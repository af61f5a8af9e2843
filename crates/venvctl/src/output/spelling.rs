//! How commands are spelled in what is said: those for a user's own venvs have `--user`.
//!
//! Advice comes from everywhere, libraries and venvd included, and all of it goes through [`super`]; so it is spelled
//! there, at the end, and by what was typed at the beginning.

use std::borrow::Cow;
use std::sync::OnceLock;

use venvd_app::Scope;

/// Whose venvs the command line is about; said once, before anything is printed.
static SCOPE: OnceLock<Scope> = OnceLock::new();

/// Says whose venvs the command line is about.
pub(crate) fn speak_of(scope: Scope) {
    // A second word changes nothing: there is one command line.
    SCOPE.get_or_init(|| scope);
}

/// Returns a text whose commands can be typed as they are.
pub(crate) fn spelled(text: &str) -> Cow<'_, str> {
    match SCOPE.get() {
        Some(Scope::User) => Cow::Owned(for_user(text)),
        _ => Cow::Borrowed(text),
    }
}

/// As [`spelled`], for what is there to be typed: commands in it need not stand in backquotes.
pub(crate) fn typed(text: String) -> String {
    match SCOPE.get() {
        Some(Scope::User) => with_user(&text, ""),
        _ => text,
    }
}

fn for_user(text: &str) -> String {
    with_user(text, "`").replace("; run it as root", "")
}

/// Puts `--user` behind the programs that come after `mark`.
fn with_user(text: &str, mark: &str) -> String {
    let mut text = text.to_owned();
    for program in ["venvctl", "systemctl", "journalctl"] {
        // Some are spelled so already, and a second time would be too often.
        let (plain, with) = (format!("{mark}{program} "), format!("{mark}{program} --user "));
        text = text.replace(&with, &plain).replace(&plain, &with);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_spelled_for_a_user() {
        for (text, want) in [
            ("no; `venvctl list` shows them", "no; `venvctl --user list` shows them"),
            ("`venvctl --user list`", "`venvctl --user list`"),
            ("`journalctl -e -u a.service`", "`journalctl --user -e -u a.service`"),
            ("venvctl: denied; run it as root", "venvctl: denied"),
        ] {
            assert_eq!(for_user(text), want);
        }
        let advice = "systemctl daemon-reload && systemctl --user start a; `journalctl -u a` says why";
        let want = "systemctl --user daemon-reload && systemctl --user start a; `journalctl --user -u a` says why";
        assert_eq!(with_user(advice, ""), want);
        assert_eq!(spelled("`venvctl list`"), "`venvctl list`", "nobody has said a word");
    }
}
