//! Any value of an Exec key: after a splice it is the same but for its programs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use venvd_unit::UnitId;
use venvd_unit_fuzz::check_splice;

const NAMES: [&str; 4] = ["a-b.service", "a@.service", r"a\x2db@c-d\x2e.service", r"a@-\q.service"];

fuzz_target!(|input: (u8, &str)| {
    let (choice, value) = input;
    if let Some(Ok(id)) = NAMES
        .get(usize::from(choice) % NAMES.len())
        .map(|name| UnitId::parse(name))
    {
        check_splice(value, &id);
    }
});
