//! Until when a master surely leads, by its own clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// What stands for a term that is over.
const OVER: u64 = 0;

/// What stands for one that never ends.
const ENDLESS: u64 = u64::MAX;

/// The time for which a master surely leads. Once it is over it stays so.
#[derive(Debug)]
pub(crate) struct Term {
    /// By [`now`], in nanoseconds.
    until: AtomicU64,
}

impl Term {
    /// Of a master that is alone.
    pub(crate) fn endless() -> Self {
        Self { until: AtomicU64::new(ENDLESS) }
    }

    /// Of a lease that was asked for at this time.
    pub(super) fn of(sent: Duration, ttl: Duration) -> Self {
        Self { until: AtomicU64::new(nanos(deadline(sent, ttl))) }
    }

    /// The lease was kept, by a request sent at this time. A term that is over stays so.
    pub(super) fn extend(&self, sent: Duration, ttl: Duration) {
        let until = nanos(deadline(sent, ttl));
        let longer = |current| (current != OVER && until > current).then_some(until);
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, longer);
    }

    /// True for ever once the time has come: nothing may be decided or sent any more.
    pub(crate) fn is_over(&self) -> bool {
        match self.until.load(Ordering::Acquire) {
            OVER => true,
            ENDLESS => false,
            _ => self.left_at(now()).is_zero(),
        }
    }

    /// How much of it is left. Where that is nothing, it is over.
    pub(super) fn left_at(&self, now: Duration) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        let left = until.saturating_sub(nanos(now));
        // An answer may have come meanwhile.
        if left == 0
            && let Err(until) = self.until.compare_exchange(until, OVER, Ordering::AcqRel, Ordering::Acquire)
        {
            return Duration::from_nanos(until.saturating_sub(nanos(now)));
        }
        Duration::from_nanos(left)
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.until.store(OVER, Ordering::Release);
    }
}

/// When a lease of this duration must be taken for ended, whose request was sent at this time: etcd counts from when it took the
/// request, which is later. A tenth less, since no two clocks run alike, and what was decided just before must have left.
fn deadline(sent: Duration, ttl: Duration) -> Duration {
    sent + (ttl - ttl / 10)
}

fn nanos(time: Duration) -> u64 {
    // Centuries; never one of the two that mean something else.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).clamp(1, ENDLESS - 1)
}

/// The time since the machine started. Unlike that of `Instant`, it goes on while the machine sleeps, as that of etcd does.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_term_ends_before_its_lease_counted_from_the_request() {
        assert_eq!(deadline(100 * SECOND, 10 * SECOND), 109 * SECOND);
        let term = Term::of(100 * SECOND, 10 * SECOND);
        assert_eq!(term.left_at(101 * SECOND), 8 * SECOND);
        term.extend(103 * SECOND, 10 * SECOND);
        assert_eq!(term.left_at(104 * SECOND), 8 * SECOND);
        // An answer that comes late, to a request that was sent earlier, shortens nothing.
        term.extend(102 * SECOND, 10 * SECOND);
        assert_eq!(term.left_at(104 * SECOND), 8 * SECOND);
        assert_eq!(term.left_at(112 * SECOND), Duration::ZERO);
    }

    #[test]
    fn what_is_over_stays_so() {
        let term = Term::of(100 * SECOND, 10 * SECOND);
        assert_eq!(term.left_at(109 * SECOND), Duration::ZERO);
        term.extend(108 * SECOND, 10 * SECOND);
        assert!(term.is_over());
        assert_eq!(term.left_at(101 * SECOND), Duration::ZERO);

        let term = Term::of(now(), 3600 * SECOND);
        assert!(!term.is_over());
        term.end();
        term.extend(now(), 3600 * SECOND);
        assert!(term.is_over());
        assert!(!Term::endless().is_over());
        assert!(Term::of(Duration::ZERO, Duration::ZERO).is_over());
    }
}
