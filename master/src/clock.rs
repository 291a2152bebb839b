//! The master's clock: the wall clock read once, then a monotonic one, so that time never goes back.

use std::time::{Duration, SystemTime};

use apportion_types::Time;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    wall: Time,
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        // A clock before 1970 counts from there: what matters is that it goes on from here.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { wall: Time::ZERO + wall, start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        self.wall + self.start.elapsed()
    }

    /// When a timer must fire for that time; none when it is further away than a process lives.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let ahead = time.since(self.wall);
        (ahead < FAR).then(|| self.start + ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_is_reached_when_its_timer_fires() {
        let clock = Clock::new();
        let deadline = clock.now() + Duration::from_micros(1_500);
        tokio::time::sleep_until(clock.instant(deadline).unwrap()).await;
        assert!(clock.now() >= deadline);
        assert_eq!(clock.instant(Time::ZERO), Some(clock.start), "the past is now");
        assert_eq!(clock.instant(Time::from_micros(u64::MAX)), None);
    }
}
