//! Links of exposed commands, as what is in force needs them.

use venvd_app::{Layout, exposed};
use venvd_fs::report;

/// Makes the links right. What can't be is said and left: services must not suffer from a file in `/usr/local/bin`, and
/// `venvctl doctor` shows it until it is mended.
pub(crate) fn follow(layout: &Layout) {
    for problem in exposed::follow(layout) {
        match problem.app() {
            Some(app) => tracing::error!(venvd_app = %app, "{}", report(&problem)),
            None => tracing::error!("{}", report(&problem)),
        }
    }
}
