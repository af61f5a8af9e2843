//! Specifiers (`%i`) as far as a unit's name says what they stand for (systemd.unit(5), "Specifiers").
//!
//! The others depend on the running system (`%H`) or on whose manager it is (`%h`): for a generator they stay as they
//! are. A letter that is no specifier makes systemd refuse the whole line, so that is known too.

use crate::name::UnitId;

/// The letters of `unit_full_printf()` that a unit's name does not decide. 252 does not know `%D`.
const OF_THE_SYSTEM: &str = "yYcrRCdDELSthsaAbBHlqmMovwWgGuUTV";

/// What can't be expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the specifier `%{0}` is unknown, or can't be made of this unit's name")]
pub struct BadSpecifier(pub char);

/// Expands the specifiers in `text` for the unit `id`.
///
/// Returns `None` when one of them is not a matter of the name, or of an instance when `id` is a template.
///
/// # Errors
/// When systemd refuses one of them.
pub fn expand(text: &str, id: &UnitId) -> Result<Option<String>, BadSpecifier> {
    expand_with(text, id, |_| None)
}

/// Like [`expand`], with `system` for the letters that are not a matter of the name.
///
/// # Errors
/// When systemd refuses one of them.
pub fn expand_with(
    text: &str,
    id: &UnitId,
    system: impl Fn(char) -> Option<String>,
) -> Result<Option<String>, BadSpecifier> {
    let mut expanded = Some(String::with_capacity(text.len()));
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let mut add = |part: Option<&str>| match (&mut expanded, part) {
            (Some(text), Some(part)) => text.push_str(part),
            _ => expanded = None,
        };
        if character != '%' {
            add(Some(character.encode_utf8(&mut [0; 4])));
            continue;
        }
        match characters.next() {
            // A stray one at the end stays.
            Some('%') | None => add(Some("%")),
            Some(letter) if OF_THE_SYSTEM.contains(letter) => add(system(letter).as_deref()),
            Some(letter) if letter.is_ascii_alphanumeric() => add(of_name(letter, id)?.as_deref()),
            Some(other) => {
                add(Some("%"));
                add(Some(other.encode_utf8(&mut [0; 4])));
            }
        }
    }
    Ok(expanded)
}

/// Checks the specifiers of a text without expanding them.
///
/// # Errors
/// When systemd does not know one.
pub fn check(text: &str) -> Result<(), BadSpecifier> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '%'
            && let Some(letter) = characters.next().filter(char::is_ascii_alphanumeric)
            && !OF_THE_SYSTEM.contains(letter)
            && !"nNpPiIjJf".contains(letter)
        {
            return Err(BadSpecifier(letter));
        }
    }
    Ok(())
}

/// Returns what a letter stands for; `None` for the instance of a template.
fn of_name(letter: char, id: &UnitId) -> Result<Option<String>, BadSpecifier> {
    let bad = BadSpecifier(letter);
    let last = id.prefix().rsplit('-').next().unwrap_or_default();
    let instance = id.instance().unwrap_or_default();
    let text = match letter {
        'n' | 'N' | 'i' | 'I' | 'f' if id.is_template() => return Ok(None),
        'n' => id.as_str().to_owned(),
        'N' => id.stem().to_owned(),
        'p' => id.prefix().to_owned(),
        'P' => unescape(id.prefix()).ok_or(bad)?,
        'i' => instance.to_owned(),
        'I' => unescape(instance).ok_or(bad)?,
        'j' => last.to_owned(),
        'J' => unescape(last).ok_or(bad)?,
        'f' => path(id.instance().unwrap_or(id.prefix())).ok_or(bad)?,
        _ => return Err(bad),
    };
    Ok(Some(text))
}

/// `unit_name_unescape()`: dashes are slashes, `\xNN` bytes.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'-' => bytes.push(b'/'),
            b'\\' => {
                let (code, after) = after.strip_prefix(b"x")?.split_at_checked(2)?;
                let digits = std::str::from_utf8(code).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?);
                rest = after;
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// `unit_name_path_unescape()`
fn path(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if text == "-" {
        return Some("/".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return None;
    }
    let path = format!("/{}", unescape(text)?);
    let normal = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').skip(1).all(normal).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, name: &str) -> Result<Option<String>, BadSpecifier> {
        expand(text, &UnitId::parse(name).unwrap())
    }

    #[test]
    fn names_decide() {
        let name = r"a-b\x2dc@x-y\x2e.service";
        for (text, want) in [
            ("%n", name),
            ("%N", r"a-b\x2dc@x-y\x2e"),
            ("%p", r"a-b\x2dc"),
            ("%P", "a/b-c"),
            ("%i", r"x-y\x2e"),
            ("%I", "x/y."),
            ("%j", r"b\x2dc"),
            ("%J", "b-c"),
            ("%f", "/x/y."),
            ("%%i %", "%i %"),
            ("%-%ä", "%-%ä"),
        ] {
            assert_eq!(of(text, name), Ok(Some(want.to_owned())), "{text}");
        }
        assert_eq!(of("[%i]%f", "a-b.service"), Ok(Some("[]/a/b".to_owned())));
        assert_eq!(of("%p", "a@.service"), Ok(Some("a".to_owned())));
        assert_eq!(of("%i", "a@.service"), Ok(None));
        assert_eq!(of("%p %H", "a@b.service"), Ok(None));
        let system = |letter| (letter == 't').then(|| "/run".to_owned());
        let id = UnitId::parse("a.service").unwrap();
        assert_eq!(expand_with("%t/%p", &id, system), Ok(Some("/run/a".to_owned())));
    }

    #[test]
    fn refuses_what_systemd_refuses() {
        for (text, name, letter) in [
            ("%Q", "a.service", 'Q'),
            ("%H%k", "a.service", 'k'),
            ("%1", "a.service", '1'),
            ("%I", r"a@\q.service", 'I'),
            ("%f", "a@b--c.service", 'f'),
        ] {
            assert_eq!(of(text, name), Err(BadSpecifier(letter)), "{text}");
        }
        assert_eq!(check("%% %- %i %H %"), Ok(()));
        assert_eq!(check("%H%Q"), Err(BadSpecifier('Q')));
    }
}
