//! Unit files as systemd reads them: no I/O but below a root that the caller names.
//!
//! [`lexer`] turns a file into assignments, [`search_path`] and [`dropins`] say which files make up a unit,
//! [`effective`] what its keys are worth in the end; [`command`] takes an Exec line apart, and [`splice`] puts another
//! program into it without touching anything else; [`specifier`] expands what a unit's name decides. Behaviour follows
//! the source of systemd 252 to 257; where a rule is not in a manual page, the function that it comes from is named.

mod chase;
pub mod command;
mod contents;
pub mod dropins;
pub mod effective;
mod entry;
pub mod environment;
mod execution;
mod fatal;
pub mod fate;
pub mod lexer;
pub mod limit;
pub mod name;
pub mod search_path;
mod service;
pub mod specifier;
pub mod splice;
pub mod user_path;
mod word;

#[cfg(test)]
mod tests_support;

pub use effective::{Effective, Unit};
pub use execution::WorkingDirectory;
pub use name::UnitId;
pub use search_path::UnitFiles;
pub use user_path::UserDirectories;
pub use word::WordError;
