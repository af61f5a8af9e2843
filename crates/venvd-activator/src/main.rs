//! venvd
fn main() {}
