//! Everything that the agent waits for by the clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_types::Time;

use crate::event::TaskKey;

/// Something that is due at a time; each at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The master has not answered a registration, or has been silent.
    Link,
    /// A task's grace is over, or a KILL is to be repeated.
    Kill(TaskKey),
    /// The head of an update stream is to be sent again.
    Retry(TaskKey),
    /// The master has not ended the stream after Unregister.
    Shutdown,
}

/// The timers that run.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    by_timer: BTreeMap<Timer, Time>,
}

impl Timers {
    /// Starts a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.clear(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_timer.insert(timer, at);
    }

    /// Starts a timer that is due so long after `now`.
    pub(crate) fn set_in(&mut self, timer: Timer, now: Time, pause: Duration) {
        self.set(timer, now + pause);
    }

    /// Stops a timer, if it runs.
    pub(crate) fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Stops the first timer that is due and says which it was.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }

    /// True while this timer runs.
    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.by_timer.contains_key(timer)
    }
}
