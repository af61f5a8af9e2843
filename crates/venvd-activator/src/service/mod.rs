//! venvd on the bus: what can be asked for, by whom, and what is told to everybody.

mod app;
mod facts;
mod front;
mod job;
mod manager;
mod objects;
mod polkit;
mod watch;

pub(crate) use front::Front;
pub(crate) use objects::{Announcer, Objects};
