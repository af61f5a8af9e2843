//! The first lines of scripts, in all the forms in which installers make a Python run them.

/// pip and distlib, for a path with blanks or of more than 127 bytes; uv, for a path relative to the script:
///
/// ```sh
/// #!/bin/sh
/// '''exec' /path/bin/python "$0" "$@"
/// ' '''
/// ```
const TRIPLE_QUOTED: &str = "'''exec' ";
const TRIPLE_QUOTED_END: &str = "' '''";

/// python-build-standalone: a string to Python, a command to sh.
const QUOTED: &str = "\"exec\" ";

/// What hands the arguments on, in both.
const ARGUMENTS: &str = " \"$0\" \"$@\"";

/// Returns the script with a first line that runs `python`, or none if it is no Python script.
pub(super) fn rewrite(content: &[u8], python: &str) -> Option<Vec<u8>> {
    let (first, rest) = split_line(content);
    let interpreter = first.strip_prefix("#!")?.trim();
    let (arguments, body) = if matches!(interpreter, "/bin/sh" | "/usr/bin/env sh") {
        trampoline(rest)?
    } else {
        (python_arguments(interpreter)?, rest)
    };
    let mut script = format!("#!{python}");
    if !arguments.is_empty() {
        script.push(' ');
        script.push_str(&arguments);
    }
    script.push('\n');
    let mut script = script.into_bytes();
    script.extend_from_slice(body);
    Some(script)
}

/// Splits off the first line. One that is not UTF-8 reads as empty: it is none that an installer wrote.
fn split_line(content: &[u8]) -> (&str, &[u8]) {
    let end = content.iter().position(|byte| *byte == b'\n').unwrap_or(content.len());
    let (line, rest) = content.split_at(end);
    (
        std::str::from_utf8(line).unwrap_or_default(),
        rest.get(1..).unwrap_or_default(),
    )
}

/// Returns Python's own arguments and the body of a script that begins as one for sh.
fn trampoline(after_first: &[u8]) -> Option<(String, &[u8])> {
    let (second, after_second) = split_line(after_first);
    if let Some(command) = second.strip_prefix(TRIPLE_QUOTED) {
        let (third, body) = split_line(after_second);
        return (third.trim() == TRIPLE_QUOTED_END).then_some((command_arguments(command)?, body));
    }
    Some((command_arguments(second.strip_prefix(QUOTED)?)?, after_second))
}

/// Returns what stands between the interpreter and `"$0"`.
fn command_arguments(command: &str) -> Option<String> {
    let command = command.trim_end().strip_suffix(ARGUMENTS)?;
    let (_, after) = command.rsplit_once("python")?;
    let version = after.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
    let arguments = version.trim_start_matches(['\'', '"']).trim();
    (arguments.is_empty() || arguments.starts_with('-')).then(|| arguments.to_owned())
}

/// Returns the arguments of a first line whose interpreter is some Python: by path, by a bare name, through env.
fn python_arguments(interpreter: &str) -> Option<String> {
    let mut words = interpreter.split_ascii_whitespace().peekable();
    let mut program = words.next()?;
    if program.rsplit('/').next() == Some("env") {
        // env(1): -S splits the rest of the line; the kernel gives it as one word otherwise.
        words.next_if_eq(&"-S");
        program = words.next()?;
    }
    let name = program.rsplit('/').next()?;
    let version = name.strip_prefix("python")?.trim_start_matches('w');
    let is_version = version
        .chars()
        .all(|character| character.is_ascii_digit() || character == '.');
    is_version.then(|| words.collect::<Vec<_>>().join(" "))
}

/// The longest first line that all kernels in use read whole, with `#!`: `BINPRM_BUF_SIZE` before Linux 5.1, less its end.
pub(crate) const LONGEST: usize = 127;

/// Returns what is wrong with a program of a venv whose Python is `python`: it would run with another one.
///
/// None when it begins as `python`'s, is no script, or is one for something that is no Python and lies outside of the venv.
#[must_use]
pub fn wrong_interpreter(content: &[u8], python: &str) -> Option<String> {
    if !content.starts_with(b"#!") {
        return None;
    }
    let (first, rest) = split_line(content);
    let interpreter = first.strip_prefix("#!").unwrap_or_default();
    if interpreter.is_empty() {
        return Some("begins with a line that is not UTF-8".to_owned());
    }
    if first.len() > LONGEST {
        return Some(format!(
            "has a first line of more than {LONGEST} bytes, which not every kernel reads"
        ));
    }
    if interpreter
        .strip_prefix(python)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    {
        return None;
    }
    let elsewhere = || {
        Some(format!(
            "would run with {:?}, not with the venv's own python",
            interpreter.trim()
        ))
    };
    let program = interpreter.split_ascii_whitespace().next().unwrap_or_default();
    let venv = python.strip_suffix("bin/python").unwrap_or(python);
    if !program.starts_with('/') || program.starts_with(venv) || names_python(interpreter) {
        return elsewhere();
    }
    // A shell's script may well call a python; one of the forms in which installers hide a python may not.
    let (second, _) = split_line(rest);
    if [TRIPLE_QUOTED, QUOTED].iter().any(|form| second.starts_with(form)) && second.contains("python") {
        return Some(format!(
            "would run with what {second:?} calls, not with the venv's own python"
        ));
    }
    None
}

/// Returns whether some word of a first line is a Python's name.
fn names_python(line: &str) -> bool {
    let mut words = line.split(|character: char| character.is_ascii_whitespace() || "\"'=".contains(character));
    words.any(|word| {
        let name = word.rsplit('/').next().unwrap_or_default();
        ["python", "pypy"].iter().any(|python| {
            let version = name.strip_prefix(python).map(|rest| rest.trim_start_matches('w'));
            version.is_some_and(|text| {
                text.chars()
                    .all(|character| character.is_ascii_digit() || character == '.')
            })
        })
    })
}
