//! The lines of sudoers(5) that say something about `secure_path`: `Defaults`, and the aliases that they name.

/// Whom a `Defaults` line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding<'a> {
    Everybody,
    Users(&'a str),
    Hosts(&'a str),
}

/// What a line does to `secure_path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setting {
    Set(String),
    Unset,
    /// `+=` and `-=`: an error for most sudos, and for the others not ours to compute.
    Odd,
}

/// Reads a `Defaults` line; `None` when it says nothing of `secure_path`, or only for some commands or targets.
pub(crate) fn defaults(line: &str) -> Option<(Binding<'_>, Setting)> {
    let (binding, settings) = settings(line)?;
    let last = settings.iter().rev().find_map(|setting| one_setting(setting))?;
    Some((binding, last))
}

/// Reads a `Defaults` line: whom it is for, and its settings; `None` where it is for some commands or targets.
pub(crate) fn settings(line: &str) -> Option<(Binding<'_>, Vec<String>)> {
    let rest = line.trim_start().strip_prefix("Defaults")?;
    let (binding, settings) = match rest.chars().next()? {
        ':' => {
            let (list, settings) = list(&rest[1..]);
            (Binding::Users(list), settings)
        }
        '@' => {
            let (list, settings) = list(&rest[1..]);
            (Binding::Hosts(list), settings)
        }
        // `Defaults!command` and `Defaults>runas` are no business of a user's every command.
        ' ' | '\t' => (Binding::Everybody, rest),
        _ => return None,
    };
    Some((binding, split(settings, ',')))
}

/// Reads `User_Alias A = x, y : B = z`: kind, and each name with its members.
pub(crate) fn aliases(line: &str) -> Option<(&'static str, Vec<(String, String)>)> {
    let line = line.trim_start();
    let kind = ["User_Alias", "Host_Alias"].into_iter().find(|kind| {
        line.strip_prefix(*kind)
            .is_some_and(|rest| rest.starts_with([' ', '\t']))
    })?;
    let definitions = split(&line[kind.len()..], ':');
    let pairs = definitions.iter().filter_map(|definition| {
        let (name, members) = definition.split_once('=')?;
        Some((name.trim().to_owned(), members.trim().to_owned()))
    });
    Some((kind, pairs.collect()))
}

/// Returns the users that a rule is for; `None` for all other lines.
pub(crate) fn users_of_rule(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let word = line.split([' ', '\t']).next().unwrap_or_default();
    let is_other = word.starts_with("Defaults") || word.ends_with("_Alias") || word.starts_with('@');
    let is_comment = line.starts_with('#') && !begins_number("", &line[1..]);
    if is_other || is_comment || !line.contains('=') {
        return None;
    }
    Some(list(line).0)
}

/// Returns the members of a list, without quotes.
pub(crate) fn words(list: &str) -> Vec<String> {
    split(list, ',').iter().map(|word| word.replace('"', "")).collect()
}

/// Splits a list from what follows: blanks end it, unless a comma stands before or behind them.
fn list(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut after_comma = true;
    for (index, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted && !after_comma => {
                let rest = text[index..].trim_start();
                if !rest.starts_with(',') {
                    return (&text[..index], rest);
                }
            }
            _ => {}
        }
        if !matches!(c, ' ' | '\t') {
            after_comma = c == ',' || (c == '!' && after_comma);
        }
    }
    (text, "")
}

/// Splits at `separator` outside of quotes and escapes, up to a comment.
pub(crate) fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in text.char_indices() {
        let part = parts.last().map(String::as_str).unwrap_or_default();
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted && !begins_number(part, &text[index + 1..]) => break,
            _ if c == separator && !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// Returns whether a `#` is that of a user's or group's number, and no comment.
fn begins_number(before: &str, after: &str) -> bool {
    let word = before.rsplit([',', '=', ' ', '\t']).next().unwrap_or_default();
    word.chars().all(|c| c == '!' || c == '%') && after.starts_with(|c: char| c.is_ascii_digit())
}

fn one_setting(setting: &str) -> Option<Setting> {
    if let Some(name) = setting.strip_prefix('!') {
        return (name.trim() == "secure_path").then_some(Setting::Unset);
    }
    let (name, value) = setting.split_once('=')?;
    match name.trim() {
        "secure_path" => {
            let value = value.trim().trim_matches('"').replace("\\:", ":");
            Some(Setting::Set(value))
        }
        "secure_path+" | "secure_path-" | "secure_path +" | "secure_path -" => Some(Setting::Odd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whom_a_line_is_for() {
        let set = |value: &str| Setting::Set(value.to_owned());
        for (line, expected) in [
            ("Defaults secure_path=/a", Some((Binding::Everybody, set("/a")))),
            (
                "  Defaults\tenv_reset, secure_path = \"/a:/b\" # x",
                Some((Binding::Everybody, set("/a:/b"))),
            ),
            (
                "Defaults:nova secure_path=/a",
                Some((Binding::Users("nova"), set("/a"))),
            ),
            (
                "Defaults: a , b,c secure_path=/a",
                Some((Binding::Users(" a , b,c"), set("/a"))),
            ),
            (
                "Defaults:\"a b\",!c secure_path=/a",
                Some((Binding::Users("\"a b\",!c"), set("/a"))),
            ),
            (
                "Defaults@host !secure_path",
                Some((Binding::Hosts("host"), Setting::Unset)),
            ),
            (
                "Defaults secure_path=/a, secure_path+=/b",
                Some((Binding::Everybody, Setting::Odd)),
            ),
            ("Defaults!LIST secure_path=/a", None),
            ("Defaults>root secure_path=/a", None),
            ("Defaultsx secure_path=/a", None),
            ("Defaults env_reset # secure_path=/a", None),
            ("# Defaults secure_path=/a", None),
            ("Defaults", None),
        ] {
            assert_eq!(defaults(line), expected, "{line}");
        }
    }

    #[test]
    fn reads_aliases() {
        let (kind, pairs) = aliases("User_Alias A = x, %#5, #7 : B=y # z").unwrap();
        let pair = |name: &str, members: &str| (name.to_owned(), members.to_owned());
        assert_eq!(
            (kind, pairs),
            ("User_Alias", vec![pair("A", "x, %#5, #7"), pair("B", "y")])
        );
        assert_eq!(words("x, %#5,!#7,\"a b\""), ["x", "%#5", "!#7", "a b"]);
        assert_eq!(aliases("Cmnd_Alias A = /bin/x"), None);
    }
}
