//! What is due when.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{AgentId, FrameworkId, OfferId, Time};

/// Something that is due at a time; each at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// An offer was held too long.
    Offer(OfferId),
    /// An agent is to be pinged.
    Ping(AgentId),
    /// A disconnected agent did not return.
    Reregister(AgentId),
    /// A disconnected framework did not return.
    Failover(FrameworkId),
    /// A scheduler is to be sent a sign of life.
    Heartbeat(FrameworkId),
}

/// Timers in order of time, ties in order of what they are for.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Time, Timer)>,
    due: BTreeMap<Timer, Time>,
}

impl Timers {
    /// Sets a timer, or sets it anew.
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        if let Some(before) = self.due.insert(timer.clone(), at) {
            self.queue.remove(&(before, timer.clone()));
        }
        self.queue.insert((at, timer));
    }

    /// Forgets a timer, if it is set.
    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// The time of the first.
    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out the first timer that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    /// True when this timer is set; for the laws.
    #[cfg(debug_assertions)]
    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.due.contains_key(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ping(name: &str) -> Timer {
        Timer::Ping(AgentId::new(name).unwrap())
    }

    #[test]
    fn a_timer_set_anew_is_due_only_at_its_new_time() {
        let at = |s| Time::ZERO + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set(ping("a"), at(5));
        timers.set(ping("b"), at(3));
        timers.set(ping("a"), at(1));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(9)), Some(ping("a")));
        timers.cancel(ping("b"));
        timers.cancel(ping("b"));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.next(), None);
    }
}
