//! What is due when, for state machines that are handed the time.

use std::collections::{BTreeMap, BTreeSet};

use crate::Time;

/// Timers, each named by what it is for and running at most once; in order of time, ties in order of names.
#[derive(Debug, Clone)]
pub struct Timers<T> {
    queue: BTreeSet<(Time, T)>,
    due: BTreeMap<T, Time>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), due: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Timers<T> {
    /// Starts a timer, or moves it.
    pub fn set(&mut self, timer: T, at: Time) {
        if let Some(before) = self.due.insert(timer.clone(), at) {
            self.queue.remove(&(before, timer.clone()));
        }
        self.queue.insert((at, timer));
    }

    /// Stops a timer, if it runs.
    pub fn cancel(&mut self, timer: &T) {
        if let Some((timer, at)) = self.due.remove_entry(timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// When the first is due.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Stops the first timer that is due, and says which it was.
    pub fn pop_due(&mut self, now: Time) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    /// True while this timer runs.
    pub fn is_set(&self, timer: &T) -> bool {
        self.due.contains_key(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_set_anew_is_due_only_at_its_new_time() {
        let at = |s| Time::from_micros(s);
        let mut timers = Timers::default();
        timers.set("a", at(5));
        timers.set("b", at(3));
        timers.set("a", at(1));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(9)), Some("a"));
        assert!(timers.is_set(&"b") && !timers.is_set(&"a"));
        timers.cancel(&"b");
        timers.cancel(&"b");
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.next(), None);
    }
}
