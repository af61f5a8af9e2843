//! sudoers and `rootwrap.conf` of an app, written so that they never break and never open a door.
//!
//! A mistake here locks administrators out, or makes a service user root. So nothing is patched into being right: what
//! is not understood whole is refused, and what is written has been through sudo's own `visudo` first.
//!
//! [`plan`] reads, decides and refuses; [`Plan::apply`] stages, validates, commits and proves. [`write()`] and [`remove`]
//! are both in one, under the lock. [`sweep()`] takes away what is left of apps that are declared no more.
//!
//! - [`sudoers`]: what is written below `/etc/sudoers.d`, and what the installed sudo makes of it.
//! - [`leaving`]: what still is admitted of venvs that are in force no more.
//! - [`check`]: what is wrong around a policy that can be written.
//! - [`rootwrap`]: the `exec_dirs` line of a `rootwrap.conf`, and who else could write what rootwrap believes.

mod adopt;
mod apply;
pub mod check;
mod error;
pub mod leaving;
mod listing;
mod place;
mod plan;
pub mod rootwrap;
pub mod sudoers;
mod sweep;
mod warning;

pub use adopt::{Adoption, adopt};
pub use apply::{remove, write};
pub use error::{Error, Refused};
pub use place::Place;
pub use plan::{Edit, Edited, Kind, Plan, plan};
pub use sweep::{Swept, leftovers, sweep};
pub use warning::Warning;
