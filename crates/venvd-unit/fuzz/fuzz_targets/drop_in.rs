//! Any unit file: a drop-in made of its spliced lines is read as those lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use venvd_unit::{UnitId, lexer};
use venvd_unit_fuzz::check_splice;

fuzz_target!(|bytes: &[u8]| {
    let Ok(id) = UnitId::parse("a@b.service") else { return };
    let text = lexer::parse(bytes);
    let spliced: Vec<String> = text
        .assignments
        .iter()
        .filter_map(|a| check_splice(&a.value, &id))
        .collect();
    let lines: String = spliced.iter().map(|value| format!("ExecStart={value}\n")).collect();
    let again = lexer::parse(format!("[Service]\nExecStart=\n{lines}").as_bytes());
    assert_eq!((again.fault, again.warnings.len()), (None, 0));
    let values: Vec<&str> = again.assignments.iter().skip(1).map(|a| a.value.as_str()).collect();
    assert_eq!(values, spliced);
});
