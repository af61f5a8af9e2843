//! One Exec line, taken apart as systemd's `config_parse_exec()` does (systemd.service(5), "Command lines").

use std::ops::Range;

use crate::name::UnitId;
use crate::specifier::{self, BadSpecifier};
use crate::word::{self, Word, WordError};

/// The longest file name and the longest path with its NUL, from limits.h.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// The characters of systemd's `WHITESPACE`.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// What stands in front of a program (systemd.service(5), table 1), each at most once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// `-`: failure is ignored, faults of the line too.
    pub ignore_failure: bool,
    /// `@`: the next word is `argv[0]`.
    pub argv0: bool,
    /// `:`: no `$VARIABLE` in the arguments.
    pub no_variables: bool,
    /// `+`, `!` or `!!`.
    pub privilege: Privilege,
    /// `|`: through the user's shell; systemd 258 and later.
    pub shell: bool,
}

/// The prefixes that exclude each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Privilege {
    /// None of them.
    #[default]
    Unit,
    /// `+`: full privileges.
    Full,
    /// `!`: no change of user.
    NoUser,
    /// `!!`: ambient capabilities where there are such.
    Ambient,
}

impl Prefixes {
    /// Takes one prefix character; false when it is none here, and so the program begins.
    fn take(&mut self, byte: u8) -> bool {
        let (flag, taken) = match byte {
            b'-' => (&mut self.ignore_failure, true),
            b'@' => (&mut self.argv0, true),
            b':' => (&mut self.no_variables, true),
            b'|' => (&mut self.shell, true),
            b'+' if self.privilege == Privilege::Unit => return self.set(Privilege::Full),
            b'!' if self.privilege == Privilege::Unit => return self.set(Privilege::NoUser),
            b'!' if self.privilege == Privilege::NoUser => return self.set(Privilege::Ambient),
            _ => return false,
        };
        !std::mem::replace(flag, taken)
    }

    fn set(&mut self, privilege: Privilege) -> bool {
        self.privilege = privilege;
        true
    }
}

/// One command of an Exec line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What stands in front of the program.
    pub prefixes: Prefixes,
    /// The program, without quotes, escapes and prefixes; its specifiers (`%p`) expanded if the unit's name is all it
    /// takes, else as they stand.
    pub program: String,
    /// The words after it; with `@` the first is `argv[0]`. Specifiers and variables as they stand.
    pub arguments: Vec<String>,
    pub(crate) token: Token,
}

/// Where the program's token stands in the raw value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The whole token with prefixes and quotes.
    pub(crate) span: Range<usize>,
    /// The prefixes, unquoted.
    pub(crate) prefixes: String,
    /// The raw bytes of the program alone, when they can be replaced without touching a quote.
    pub(crate) path: Option<Range<usize>>,
}

/// What is wrong with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultReason {
    /// Quotes or escapes.
    #[error("{0}")]
    Word(#[from] WordError),
    /// Prefixes with nothing behind them.
    #[error("no program after the prefixes")]
    Empty,
    /// Quotes, backslashes or control characters in the program.
    #[error("special characters in the name of the program")]
    Special,
    /// The program ends with a slash.
    #[error("the program is a directory")]
    Directory,
    /// The program is neither absolute nor a bare name.
    #[error("the program is neither an absolute path nor a bare name")]
    Relative,
    /// `@` without a second word.
    #[error("no argv[0] after `@`")]
    NoArgv0,
    /// A specifier that systemd does not know.
    #[error("{0}")]
    Specifier(#[from] BadSpecifier),
}

/// The fault that ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// What it is.
    pub reason: FaultReason,
    /// Where in the value the word begins that is to blame.
    pub at: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether systemd stops reading the file here; else only the rest of the line is lost.
    pub fatal: bool,
}

/// What systemd makes of the value of an Exec key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The commands, up to the fault if there is one.
    pub commands: Vec<Command>,
    /// What ended the line early.
    pub fault: Option<Fault>,
}

/// Takes the value of an Exec key apart; specifiers stay as they stand.
#[must_use]
pub fn parse(value: &str) -> CommandLine {
    Parser { value, unit: None }.line()
}

/// Takes the value of an Exec key of the unit `id` apart.
#[must_use]
pub fn parse_for(value: &str, id: &UnitId) -> CommandLine {
    Parser { value, unit: Some(id) }.line()
}

/// A value, and the unit that it belongs to.
struct Parser<'a> {
    value: &'a str,
    unit: Option<&'a UnitId>,
}

/// What is wrong, and with which part of the value.
type Blamed = (FaultReason, Range<usize>);

impl<'a> Parser<'a> {
    fn line(&self) -> CommandLine {
        let mut line = CommandLine::default();
        let mut from = Some(0);
        while let Some(at) = from {
            let ((reason, blamed), fatal) = match self.word(at) {
                Ok(None) => break,
                Ok(Some(word)) if *word.bytes == *b";" => {
                    from = word.next;
                    continue;
                }
                // Systemd drops the line without calling it fatal.
                Err(blamed) => (blamed, false),
                Ok(Some(word)) => {
                    let mut prefixes = Prefixes::default();
                    let taken = word.bytes.iter().take_while(|byte| prefixes.take(**byte)).count();
                    match self.command(&word, (prefixes, taken)) {
                        Ok((command, next)) => {
                            line.commands.push(command);
                            from = next;
                            continue;
                        }
                        Err(blamed) => (blamed, !prefixes.ignore_failure),
                    }
                }
            };
            line.fault = Some(Fault {
                reason,
                at: blamed.start,
                end: blamed.end,
                fatal,
            });
            break;
        }
        line
    }

    fn word(&self, at: usize) -> Result<Option<Word<'a>>, Blamed> {
        word::lenient(self.value, at).map_err(|error| {
            let rest = self.value.get(at..).unwrap_or_default();
            let blank = rest.len() - rest.trim_start_matches(BLANKS).len();
            // Where a quote is open nobody knows where the word ends.
            (error.into(), at + blank..self.value.len())
        })
    }

    /// Reads one command whose first word is `word`; returns it and where the next one of the line begins.
    fn command(
        &self,
        word: &Word<'_>,
        (prefixes, taken): (Prefixes, usize),
    ) -> Result<(Command, Option<usize>), Blamed> {
        let blame = |reason: FaultReason| (reason, word.span.clone());
        let raw = String::from_utf8_lossy(word.bytes.get(taken..).unwrap_or_default());
        let expanded = match self.unit {
            Some(unit) if raw.contains('%') => specifier::expand(&raw, unit),
            _ => specifier::check(&raw).map(|()| (!raw.contains('%')).then(|| raw.clone().into_owned())),
        };
        let expanded = expanded.map_err(|error| blame(error.into()))?;
        // What a specifier brings that is not expanded, only systemd knows.
        let known = expanded.is_some();
        let program = expanded.unwrap_or_else(|| raw.into_owned());
        check_program(&program, known).map_err(blame)?;
        let (arguments, next) = self.arguments(word.next)?;
        if prefixes.argv0 && arguments.is_empty() {
            return Err(blame(FaultReason::NoArgv0));
        }
        let token = Token {
            span: word.span.clone(),
            prefixes: word.text().chars().take(taken).collect(),
            path: word.plain_range(taken),
        };
        let command = Command {
            prefixes,
            program,
            arguments,
            token,
        };
        Ok((command, next))
    }

    /// Returns the arguments from `next` on, and where the command after `;` begins.
    fn arguments(&self, mut next: Option<usize>) -> Result<(Vec<String>, Option<usize>), Blamed> {
        let mut arguments = Vec::new();
        while let Some(at) = next {
            let rest = self.value.get(at..).unwrap_or_default();
            // Looked for in the raw text: a quoted `";"` is an argument.
            if let Some(after) = lone(rest, ";") {
                return Ok((arguments, after.map(|skip| at + skip)));
            }
            if let Some(after) = lone(rest, "\\;") {
                arguments.push(";".to_owned());
                next = after.map(|skip| at + skip);
                continue;
            }
            let Some(word) = self.word(at)? else { break };
            let text = word.text();
            let checked = match self.unit {
                Some(unit) if text.contains('%') => specifier::expand(&text, unit).map(drop),
                _ => specifier::check(&text),
            };
            checked.map_err(|error| (error.into(), word.span.clone()))?;
            arguments.push(text.into_owned());
            next = word.next;
        }
        Ok((arguments, None))
    }
}

/// Returns whether `rest` begins with the word `token`, and then where the next word begins.
fn lone(rest: &str, token: &str) -> Option<Option<usize>> {
    let after = rest.strip_prefix(token)?;
    let trimmed = after.trim_start_matches(BLANKS);
    if trimmed.is_empty() {
        return Some(None);
    }
    after.starts_with(BLANKS).then(|| Some(rest.len() - trimmed.len()))
}

/// Checks a program as systemd does once its specifiers are expanded; `known` says whether they are.
pub(crate) fn check_program(program: &str, known: bool) -> Result<(), FaultReason> {
    if program.is_empty() {
        return Err(FaultReason::Empty);
    }
    if program.chars().any(|c| c.is_ascii_control() || "\"'\\".contains(c)) {
        return Err(FaultReason::Special);
    }
    // 252 takes "/usr/bin/." for a program, later ones do not; nothing can be run by it anyway.
    if ["/", "/.", "/.."].iter().any(|end| program.ends_with(end)) || [".", ".."].contains(&program) {
        return Err(FaultReason::Directory);
    }
    let short = |name: &str| name.len() <= NAME_MAX;
    let valid = if program.starts_with('/') {
        program.len() < PATH_MAX && program.split('/').all(short)
    } else {
        let brings_slash = !known && program.starts_with('%') && !program.starts_with("%%");
        brings_slash || (!program.contains('/') && short(program))
    };
    if valid { Ok(()) } else { Err(FaultReason::Relative) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(value: &str) -> Vec<String> {
        parse(value)
            .commands
            .iter()
            .map(|c| format!("{}{}|{}", c.token.prefixes, c.program, c.arguments.join(",")))
            .collect()
    }

    #[test]
    fn takes_commands_apart() {
        for (value, want) in [
            ("/bin/a", &["/bin/a|"][..]),
            ("a b  c", &["a|b,c"]),
            ("-/bin/a b", &["-/bin/a|b"]),
            ("@/bin/a a0 b", &["@/bin/a|a0,b"]),
            ("-@:+/bin/a x", &["-@:+/bin/a|x"]),
            ("!!/bin/a", &["!!/bin/a|"]),
            ("!/bin/a", &["!/bin/a|"]),
            ("|/bin/a b", &["|/bin/a|b"]),
            ("\"-/bin/a b\" c", &["-/bin/a b|c"]),
            (r"\x2d/bin/\x61", &["-/bin/a|"]),
            ("/bin/a ; /bin/b c", &["/bin/a|", "/bin/b|c"]),
            ("/bin/a ;", &["/bin/a|"]),
            ("; ; /bin/a", &["/bin/a|"]),
            (r"/bin/a \; b", &["/bin/a|;,b"]),
            ("/bin/a ';' b", &["/bin/a|;,b"]),
            ("/bin/a b; c", &["/bin/a|b;,c"]),
            ("/bin/a ;b", &["/bin/a|;b"]),
            (r"/bin/sh -c 'echo \q'", &[r"/bin/sh|-c,echo \q"]),
            ("/bin/%p --x=%i", &["/bin/%p|--x=%i"]),
            ("%h/bin/x", &["%h/bin/x|"]),
        ] {
            let line = parse(value);
            assert_eq!(line.fault, None, "{value:?}");
            assert_eq!(shape(value), want, "{value:?}");
        }
    }

    #[test]
    fn faults_end_the_line() {
        for (value, before, reason, fatal) in [
            ("rel/path", 0, FaultReason::Relative, true),
            ("rel/%i", 0, FaultReason::Relative, true),
            ("%%/path", 0, FaultReason::Relative, true),
            ("-rel/path", 0, FaultReason::Relative, false),
            ("..", 0, FaultReason::Directory, true),
            ("/bin/.", 0, FaultReason::Directory, true),
            ("/bin/%Q", 0, FaultReason::Specifier(BadSpecifier('Q')), true),
            ("-/bin/a %Q", 0, FaultReason::Specifier(BadSpecifier('Q')), false),
            ("/bin/", 0, FaultReason::Directory, true),
            ("-", 0, FaultReason::Empty, false),
            ("@", 0, FaultReason::Empty, true),
            ("@/bin/a", 0, FaultReason::NoArgv0, true),
            ("--/bin/a", 0, FaultReason::Relative, false),
            ("+!/bin/a", 0, FaultReason::Relative, true),
            ("!!!/bin/a", 0, FaultReason::Relative, true),
            (r"/bin/a\tb", 0, FaultReason::Special, true),
            (r#"/bin/\"a"#, 0, FaultReason::Special, true),
            ("'/bin/a", 0, FaultReason::Word(WordError::Quotes), false),
            ("/bin/a 'b", 0, FaultReason::Word(WordError::Quotes), true),
            ("-/bin/a 'b", 0, FaultReason::Word(WordError::Quotes), false),
            ("/bin/a ; rel/b", 1, FaultReason::Relative, true),
        ] {
            let line = parse(value);
            let fault = line.fault.unwrap_or_else(|| panic!("{value:?} is no fault"));
            assert_eq!(
                (line.commands.len(), fault.reason, fault.fatal),
                (before, reason, fatal),
                "{value:?}"
            );
        }
        assert_eq!(
            parse(&format!("/{}", "a".repeat(256))).fault.unwrap().reason,
            FaultReason::Relative
        );
        assert_eq!(parse(&"/a".repeat(2048)).fault.unwrap().reason, FaultReason::Relative);
    }

    #[test]
    fn specifiers_of_the_name_are_expanded() {
        for (value, name, want) in [
            ("/usr/bin/%p", "nova-api.service", Ok("/usr/bin/nova-api")),
            ("/usr/bin/%j", "nova-api.service", Ok("/usr/bin/api")),
            ("%p", "a@b.service", Ok("a")),
            ("%f", "usr-bin-a.service", Ok("/usr/bin/a")),
            ("/usr/bin/%p-%i", "a@.service", Ok("/usr/bin/%p-%i")),
            ("%h/bin/a", "a.service", Ok("%h/bin/a")),
            ("/usr/bin/%%p", "a.service", Ok("/usr/bin/%p")),
            ("/usr/bin/%i", "a.service", Err(FaultReason::Directory)),
            ("%i", "a.service", Err(FaultReason::Empty)),
            ("%I", "a@b-c.service", Err(FaultReason::Relative)),
        ] {
            let line = parse_for(value, &UnitId::parse(name).unwrap());
            let got = line
                .fault
                .map_or_else(|| Ok(line.commands[0].program.as_str()), |fault| Err(fault.reason));
            assert_eq!(got, want, "{value} of {name}");
        }
    }

    #[test]
    fn faults_blame_a_word() {
        for (value, want) in [
            ("/bin/a ; rel/b c", "rel/b"),
            ("/bin/a b%Q c", "b%Q"),
            ("/bin/a  'b c", "'b c"),
            (" 'a", "'a"),
            ("@/bin/a", "@/bin/a"),
        ] {
            let fault = parse(value).fault.unwrap();
            assert_eq!(&value[fault.at..fault.end], want, "{value}");
        }
    }

    #[test]
    fn the_program_is_found_inside_its_token() {
        for (value, want) in [
            ("/bin/a b", Some("/bin/a")),
            (" -@/bin/a b", Some("/bin/a")),
            ("-\"/bin/a\" b", Some("/bin/a")),
            ("\"-/bin/a\" b", Some("/bin/a")),
            (r"\x2d/bin/\x61 b", Some(r"/bin/\x61")),
            ("/bin/\"a\" b", None),
            ("'/bin/'\"a\" b", None),
        ] {
            let line = parse(value);
            let range = line.commands[0].token.path.clone();
            assert_eq!(range.map(|r| &value[r]), want, "{value:?}");
        }
    }
}
