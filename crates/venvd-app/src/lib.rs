//! What an administrator declared: app definitions, settings, the names in them, and where everything lies.
//!
//! Generator and `venv-activate` start in about a millisecond with nothing else than this, so it stays small: no async
//! runtime, no look at a venv's contents.

pub mod cmdline;
pub mod definition;
pub mod detached;
pub mod exposed;
pub mod in_force;
pub mod interpreter;
mod later;
pub mod layout;
pub mod links;
pub mod name;
pub mod parallel;
pub mod record;
pub mod revoked;
pub mod scope;
pub mod search;
pub mod settings;
pub mod value;

pub use definition::App;
pub use layout::Layout;
pub use name::{AppName, ProgramName, Tag, UnitName, UserName, VenvName};
pub use record::Record;
pub use scope::{Scope, UserPlaces};
pub use settings::Settings;
pub use venvd_fs::diagnose;
