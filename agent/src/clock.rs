//! The process's clock: monotonic, anchored once to the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apportion_types::Time;

/// A clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor: Instant,
    anchored_at: Time,
}

impl Clock {
    /// A clock that shows the wall's time now and counts on by itself.
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { anchor: Instant::now(), anchored_at: Time::ZERO + since_epoch }
    }

    pub(crate) fn now(&self) -> Time {
        self.anchored_at + self.anchor.elapsed()
    }

    /// How long until `time`; nothing when it has passed.
    pub(crate) fn until(&self, time: Time) -> Duration {
        time.since(self.now())
    }
}
