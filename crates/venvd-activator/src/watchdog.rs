//! Tells systemd that the event loop turns: when it doesn't any more, venvd is killed and started anew.

use std::convert::Infallible;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

/// Tells it, at half of the limit (sd_watchdog_enabled(3)), for as long as this is polled; never, where nobody asked.
pub(crate) async fn feed() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut interval = tokio::time::interval(limit / 2);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!("cannot tell systemd that venvd lives: {error}");
        }
    }
}
