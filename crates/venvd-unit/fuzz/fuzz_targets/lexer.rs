//! Any bytes: no panic, and every byte of a value is where it is said to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use venvd_unit::lexer;
use venvd_unit_fuzz::check_places;

fuzz_target!(|bytes: &[u8]| check_places(bytes, &lexer::parse(bytes)));
