//! Work beside the event loop: what reads much, or runs programs, must not keep it from turning.

use venvd_bus::Code;

use crate::machine::Failure;

/// Does something in a thread of its own, and returns what came of it.
///
/// # Errors
/// When the work panicked.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(Code::INTERNAL, format!("a task of venvd broke off: {error}")))
}
