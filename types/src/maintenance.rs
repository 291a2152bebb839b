//! Planned maintenance: which machines will be taken away, when, and for how long; and what frameworks are asked about it.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{AgentId, FrameworkId, MachineId, OfferId, Resources, Time};

/// When something will not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Unavailability {
    /// From when.
    pub start: Time,
    /// For how long; until somebody says otherwise when none.
    pub duration: Option<Duration>,
}

impl Unavailability {
    /// When it is there again; none when that is open, or so far away that it is never.
    pub fn end(&self) -> Option<Time> {
        let end = self.start + self.duration?;
        (end.as_micros() < u64::MAX).then_some(end)
    }

    /// True once it is over.
    pub fn is_over(&self, now: Time) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// True when some moment is in both.
    pub fn overlaps(&self, other: &Unavailability) -> bool {
        self.end().is_none_or(|end| other.start < end) && other.end().is_none_or(|end| self.start < end)
    }

    /// True when something that begins now and takes so long at the most (for ever, when none) is not over before this begins: it would be
    /// cut off.
    pub fn cuts_off(&self, now: Time, longest: Option<Duration>) -> bool {
        longest.is_none_or(|longest| now + longest > self.start)
    }
}

impl fmt::Display for Unavailability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.duration {
            Some(duration) => write!(f, "from {} for {duration:?}", self.start),
            None => write!(f, "from {} on", self.start),
        }
    }
}

/// A part of the maintenance schedule: machines that will be taken away together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Which, by what their agents register as their host names; at least one.
    pub machines: BTreeSet<MachineId>,
    /// When.
    pub unavailability: Unavailability,
}

/// How a machine stands with its maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineMode {
    /// Nothing is planned.
    Up,
    /// It has a window: what runs on it is asked to leave.
    Draining,
    /// It is taken away: none of its agents may register.
    Down,
}

impl MachineMode {
    /// Every mode.
    pub const ALL: [MachineMode; 3] = [MachineMode::Up, MachineMode::Draining, MachineMode::Down];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            MachineMode::Up => "up",
            MachineMode::Draining => "draining",
            MachineMode::Down => "down",
        }
    }
}

impl fmt::Display for MachineMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Asks a framework to give back what it has on an agent, before the agent's machine is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InverseOffer {
    /// Its name.
    pub inverse_offer_id: OfferId,
    /// Whom it asks.
    pub framework_id: FrameworkId,
    /// Which agent it is to leave.
    pub agent_id: AgentId,
    /// By when.
    pub unavailability: Unavailability,
    /// What it holds there now.
    pub resources: Resources,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn window(start: u64, seconds: Option<u64>) -> Unavailability {
        Unavailability { start: at(start), duration: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn windows_that_touch_do_not_overlap() {
        assert!(!window(10, Some(5)).overlaps(&window(15, Some(5))));
        assert!(!window(15, None).overlaps(&window(10, Some(5))));
        assert!(window(10, Some(6)).overlaps(&window(15, Some(5))));
        assert!(window(10, None).overlaps(&window(15, Some(5))));
        assert!(window(10, Some(5)).overlaps(&window(11, Some(1))));
    }

    #[test]
    fn it_is_over_when_it_ends_and_never_when_it_is_open() {
        assert!(window(10, Some(5)).is_over(at(15)) && !window(10, Some(5)).is_over(at(14)));
        assert!(!window(10, None).is_over(at(1_000_000)));
        assert!(
            !Unavailability { start: at(1), duration: Some(Duration::MAX) }.is_over(at(u64::MAX / 2_000_000))
        );
    }

    #[test]
    fn what_ends_in_time_is_not_cut_off() {
        let window = window(100, Some(5));
        assert!(!window.cuts_off(at(40), Some(Duration::from_secs(60))));
        assert!(window.cuts_off(at(41), Some(Duration::from_secs(60))));
        assert!(window.cuts_off(at(0), None));
    }
}
