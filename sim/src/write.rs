//! A process that is killed at one of the run's persisted writes.
//!
//! What is persisted in a run is counted from 1, in the order in which it lasts: what the master's registry keeps, the records of agents'
//! logs, what frameworks store. A run up to the write at which a process is killed is the run without it.

use std::{fmt, time::Duration};

/// At which of a run's writes the process that writes is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillAt {
    /// Before this write lasts.
    Before(u64),
    /// After this write lasts, and before anything that follows from it is done or told.
    After(u64),
}

/// For how long there is no process then.
pub(crate) const DOWN: Duration = Duration::from_secs(1);

impl KillAt {
    /// The number of the write.
    pub fn write(self) -> u64 {
        match self {
            KillAt::Before(write) | KillAt::After(write) => write,
        }
    }

    /// How many writes of the run last.
    fn last(self) -> u64 {
        match self {
            KillAt::Before(write) => write.saturating_sub(1),
            KillAt::After(write) => write,
        }
    }
}

impl fmt::Display for KillAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KillAt::Before(write) => write!(f, "before write {write} lasts"),
            KillAt::After(write) => write!(f, "after write {write} lasts"),
        }
    }
}

/// What is persisted, counted, and the write at which a process is to be killed.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    count: u64,
    kill: Option<KillAt>,
}

impl Writes {
    pub(crate) fn new(kill: Option<KillAt>) -> Self {
        Self { count: 0, kill }
    }

    /// How many there were, with those that did not last.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many of the next so many writes of one process last. When it is killed at one of them: all are counted up to that one.
    pub(crate) fn next(&mut self, wanted: usize) -> Lasting {
        let all = self.count + wanted as u64;
        let Some(kill) = self.kill.filter(|kill| kill.write() <= all && kill.write() > self.count) else {
            self.count = all;
            return Lasting { count: wanted, killed: false };
        };
        let count = usize::try_from(kill.last() - self.count).expect("it is at most what is wanted");
        (self.count, self.kill) = (kill.write(), None);
        Lasting { count, killed: true }
    }

    /// How many writes last if one process does all the next ones; none for as many as there are.
    pub(crate) fn left(&self) -> Option<u64> {
        self.kill.map(|kill| kill.last().saturating_sub(self.count))
    }
}

/// What becomes of some writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lasting {
    /// So many of them last, the first ones.
    pub(crate) count: usize,
    /// The process is killed.
    pub(crate) killed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_last_up_to_the_one_at_which_a_process_is_killed() {
        let of = |kill| {
            let mut writes = Writes::new(Some(kill));
            let lasting: Vec<_> = [2, 3, 0, 4].map(|wanted| writes.next(wanted)).into();
            (lasting.iter().map(|of| of.count).collect::<Vec<_>>(), lasting.iter().position(|of| of.killed))
        };
        assert_eq!(of(KillAt::Before(1)), (vec![0, 3, 0, 4], Some(0)));
        assert_eq!(of(KillAt::After(2)), (vec![2, 3, 0, 4], Some(0)));
        assert_eq!(of(KillAt::Before(3)), (vec![2, 0, 0, 4], Some(1)));
        assert_eq!(of(KillAt::After(3)), (vec![2, 1, 0, 4], Some(1)));
        assert_eq!(of(KillAt::After(99)), (vec![2, 3, 0, 4], None));
        assert_eq!((Writes::new(Some(KillAt::After(3))).left(), Writes::new(None).left()), (Some(3), None));
    }
}
