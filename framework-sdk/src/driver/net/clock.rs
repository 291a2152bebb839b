//! The driver's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apportion_types::Time;
use tokio::time::Instant;

/// The longest sleep at once: instants far beyond cannot be represented everywhere, and to wake for nothing once an hour is free.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// A monotonic clock, set once by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    start_time: Time,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the driver's one clock; all else is handed its time")]
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_time: Time::ZERO + since }
    }

    pub(super) fn now(&self) -> Time {
        self.start_time + self.start.elapsed()
    }

    /// When to wake for a deadline; some time at the latest when there is none.
    pub(super) fn instant(&self, deadline: Option<Time>) -> Instant {
        let now = self.now();
        let left = deadline.map_or(SLEEP_MAX, |deadline| deadline.since(now).min(SLEEP_MAX));
        Instant::now() + left
    }
}
