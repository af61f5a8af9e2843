//! What must hold for any text of a unit file: shared by the fuzz targets.

use venvd_unit::UnitId;
use venvd_unit::command::{Command, CommandLine, parse_for};
use venvd_unit::lexer::{Assignment, Position, UnitText, physical_lines};
use venvd_unit::splice::{PlainPath, splice};

/// Checks that all places are in the file, and that each byte of a value is where it is said to be.
pub fn check_places(bytes: &[u8], text: &UnitText) {
    let lines: Vec<&[u8]> = physical_lines(bytes).collect();
    let inside = |at: Position| {
        // A line that a last backslash announced need not be there.
        let line = lines.get(at.line as usize - 1).map_or(0, |line| line.len());
        assert!(
            at.line as usize <= lines.len() + 1 && at.column as usize <= line + 1,
            "{at:?}"
        );
    };
    text.fault.iter().for_each(|fault| inside(fault.at));
    text.warnings.iter().for_each(|skipped| inside(skipped.at));
    for assignment in &text.assignments {
        assert!(assignment.line as usize <= lines.len() + 1);
        for (offset, byte) in assignment.value.bytes().enumerate() {
            let at = assignment.position(offset);
            let found = lines[at.line as usize - 1][at.column as usize - 1];
            assert!(
                found == byte || (found == b'\\' && byte == b' '),
                "{at:?}: {found} is not {byte}"
            );
            assert!(assignment.run(offset) >= 1);
        }
        check_value(assignment);
    }
}

fn check_value(assignment: &Assignment) {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    assert!(!assignment.key.is_empty() || assignment.value.is_empty() || !assignment.section.is_empty());
    assert!(!assignment.value.starts_with(blank) && !assignment.value.ends_with(blank));
    assert!(!assignment.value.contains(['\n', '\r', '\0']));
}

/// Where a command's program is after the splice.
fn new_program(command: &Command) -> String {
    let name = command.program.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("/venv/50%/bin/{name}")
}

/// Splices every program of a value. Returns the new value, `None` when it stays or is refused.
///
/// # Panics
/// When reading it again gives anything but the same commands with other programs.
pub fn check_splice(value: &str, id: &UnitId) -> Option<String> {
    let line = parse_for(value, id);
    if let Some(fault) = line.fault {
        assert!(value.get(fault.at..fault.end).is_some(), "{fault:?}");
    }
    let path = |command: &Command| PlainPath::new(&new_program(command)).ok();
    match splice(value, &line, &path) {
        Ok(Some(spliced)) => {
            check_same(&line, &parse_for(&spliced, id));
            Some(spliced)
        }
        Ok(None) => {
            let none = line.commands.iter().all(|command| path(command).is_none());
            assert!(none, "{value:?}");
            None
        }
        Err(refusal) => {
            assert!(value.get(refusal.span()).is_some(), "{refusal:?}");
            None
        }
    }
}

fn check_same(old: &CommandLine, new: &CommandLine) {
    assert_eq!((new.fault, new.commands.len()), (None, old.commands.len()));
    for (old, new) in old.commands.iter().zip(&new.commands) {
        // Some have no path that systemd would take: those stay.
        assert!(new.program == new_program(old) || PlainPath::new(&new_program(old)).is_err());
        assert_eq!((&new.arguments, new.prefixes), (&old.arguments, old.prefixes));
    }
}
