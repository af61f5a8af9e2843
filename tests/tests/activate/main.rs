//! venv-activate where it is used: on a terminal, through sudo, by people with different rights, beside a service.

mod completion;
mod identities;
mod nova;
mod shells;
mod unit;
