//! What is known of a replay when it has ended, for programs. Times are microseconds, shares are millionths, and both are exact but
//! for the last digit, which is rounded down.

use std::collections::BTreeMap;

use apportion_master_core::View;
use apportion_types::{Role, document::Amounts, resources::Name};
use serde::Serialize;

use super::Options;

/// A replay, from its settings to what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The kind of its frameworks, such as `batch`.
    pub framework: String,
    /// What was asked for.
    pub options: Options,
    /// Machines.
    pub nodes: u64,
    /// All that they have.
    pub capacity: Amounts,
    /// Frameworks: one for each group of tasks that ask for the same.
    pub groups: u64,
    /// What became of the tasks.
    pub tasks: TaskCounts,
    /// How long the replay was, in virtual time.
    pub simulated_us: u64,
    /// How long it took, once someone who has a clock has filled it in.
    pub wall_us: Option<u64>,
    /// How long tasks waited for their place; none when none has got one.
    pub wait: Option<Waits>,
    /// What became of the offers.
    pub offers: Offers,
    /// What tasks held, of what there is.
    pub used: PerKind<Level>,
    /// How much of what is free is of no use; see [`record`](super::record#fragmentation).
    pub fragmentation: PerKind<Level>,
    /// How even roles were while they competed.
    pub fairness: Fairness,
    /// Each role, by name.
    pub roles: Vec<RoleReport>,
    /// How it went.
    pub over_time: OverTime,
}

/// Something for each kind of resource that a trace knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PerKind<T> {
    /// Of `cpus`.
    pub cpus: T,
    /// Of `mem`.
    pub mem: T,
    /// Of `gpus`.
    pub gpus: T,
}

impl<T> PerKind<T> {
    /// The names, in the order of [`from_fn`](PerKind::from_fn).
    pub const NAMES: [Name; 3] = [Name::Cpus, Name::Mem, Name::Gpus];

    /// The value that a function gives for 0, 1 and 2.
    pub fn from_fn(mut each: impl FnMut(usize) -> T) -> Self {
        Self { cpus: each(0), mem: each(1), gpus: each(2) }
    }
}

/// What became of tasks: each was rejected, placed, is waiting, or was withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TaskCounts {
    /// Tasks in the trace.
    pub total: u64,
    /// Of these, those that no machine could run if it were empty: they were left out.
    pub rejected: u64,
    /// Those that got a place.
    pub placed: u64,
    /// Of the placed, those that had not ended when the replay did.
    pub running: u64,
    /// Of the placed, those that had.
    pub finished: u64,
    /// Those that still waited for a place when the replay ended.
    pub waiting: u64,
    /// Those that were no longer wanted before they got a place.
    pub withdrawn: u64,
}

impl TaskCounts {
    /// True while some task waits or runs.
    pub fn is_under_way(&self) -> bool {
        self.waiting + self.running > 0
    }
}

impl std::ops::Add for TaskCounts {
    type Output = TaskCounts;

    fn add(self, other: TaskCounts) -> TaskCounts {
        TaskCounts {
            total: self.total + other.total,
            rejected: self.rejected + other.rejected,
            placed: self.placed + other.placed,
            running: self.running + other.running,
            finished: self.finished + other.finished,
            waiting: self.waiting + other.waiting,
            withdrawn: self.withdrawn + other.withdrawn,
        }
    }
}

/// How long tasks waited, from when they came to when they ran. So many of a hundred waited for at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// Half of them.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// All but one of a hundred.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Waits {
    /// Of these waits; sorts them. By nearest rank: each is the wait of some task.
    pub(super) fn of(waits: &mut [u64]) -> Option<Waits> {
        waits.sort_unstable();
        let rank = |percent: usize| waits[(waits.len() * percent).div_ceil(100).max(1) - 1];
        let max_us = *waits.last()?;
        Some(Waits { p50_us: rank(50), p90_us: rank(90), p99_us: rank(99), max_us })
    }
}

/// What became of the offers of a master.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Offers {
    /// Made.
    pub made: u64,
    /// Used for a task.
    pub accepted: u64,
    /// Given back.
    pub declined: u64,
    /// Taken back by the master, for whatever cause.
    pub rescinded: u64,
    /// Of the rescinded, those that were held too long.
    pub timed_out: u64,
    /// Why offers were declined, as frameworks say, and how often.
    pub declined_by_reason: BTreeMap<String, u64>,
}

impl From<&View> for Offers {
    /// All since the master's start, as far as it remembers its frameworks.
    fn from(view: &View) -> Offers {
        let mut declined_by_reason = BTreeMap::new();
        for (reason, count) in view.frameworks.values().flat_map(|framework| &framework.declined) {
            *declined_by_reason.entry(reason.clone()).or_default() += count;
        }
        let counters = &view.counters;
        Offers {
            made: counters.offers_made,
            accepted: counters.offers_accepted,
            declined: counters.offers_declined,
            rescinded: counters.offers_rescinded,
            timed_out: counters.offers_timed_out,
            declined_by_reason,
        }
    }
}

/// A share over the whole of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Level {
    /// Its mean over time.
    pub mean_ppm: u64,
    /// The most that it ever was.
    pub peak_ppm: u64,
}

/// How evenly the cluster was shared among those who wanted more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fairness {
    /// How long two roles or more had waiting tasks at once.
    pub contended_us: u64,
    /// Jain's index of the dominant shares of the roles with waiting tasks, as its mean over that time: 1,000,000 when they are
    /// equal, 1,000,000 divided by their number when one has all. None when there was no such time.
    pub jain_ppm: Option<u64>,
}

/// A role over the whole of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleReport {
    /// Its name.
    pub role: Role,
    /// What became of its tasks.
    pub tasks: TaskCounts,
    /// How long they waited.
    pub wait: Option<Waits>,
    /// The largest of its shares of the kinds of resources.
    pub dominant_share: Level,
}

/// How a replay went: the mean over each of a row of equal stretches of time, of which the last may be cut short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverTime {
    /// How long each stretch is.
    pub step_us: u64,
    /// What tasks held, of what there is.
    pub used_ppm: PerKind<Vec<u64>>,
    /// Thousandths of a waiting task.
    pub waiting_milli: Vec<u64>,
    /// How much of what is free is of no use.
    pub fragmentation_ppm: PerKind<Vec<u64>>,
    /// The dominant share of each role.
    pub dominant_share_ppm: BTreeMap<Role, Vec<u64>>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apportion_master_core::view::{FrameworkState, FrameworkView};
    use apportion_types::{FrameworkId, FrameworkInfo, Resources, Time};

    use super::*;

    #[test]
    fn percentiles_are_the_waits_of_tasks() {
        let of = |waits: &[u64]| Waits::of(&mut waits.to_vec());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some(Waits { p50_us: 7, p90_us: 7, p99_us: 7, max_us: 7 }));
        let hundred: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(of(&hundred), Some(Waits { p50_us: 100, p90_us: 180, p99_us: 198, max_us: 200 }));
        assert_eq!(of(&[3, 1, 2]), Some(Waits { p50_us: 2, p90_us: 3, p99_us: 3, max_us: 3 }));
    }

    #[test]
    fn declines_are_summed_over_frameworks() {
        let framework = |id: &str, declined: &[(&str, u64)]| {
            let framework_id = FrameworkId::new(id).unwrap();
            let view = FrameworkView {
                framework_id: framework_id.clone(),
                info: Arc::new(FrameworkInfo {
                    name: id.to_owned(),
                    principal: String::new(),
                    roles: vec![Role::default()],
                    failover_timeout: Default::default(),
                    labels: Default::default(),
                }),
                state: FrameworkState::Active,
                subscribed_at: Time::ZERO,
                suppressed: Vec::new(),
                options: Default::default(),
                allocated: Resources::new(),
                offered: Resources::new(),
                tasks: 0,
                declined: declined.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
                decline_samples: Vec::new(),
                calls_rate_limited: 0,
                requests: BTreeMap::new(),
            };
            (framework_id, Arc::new(view))
        };
        let frameworks =
            [framework("a", &[("no work", 2), ("spread", 1)]), framework("b", &[("no work", 3)])];
        let mut view = View { frameworks: frameworks.into_iter().collect(), ..View::default() };
        view.counters.offers_made = 10;
        view.counters.offers_declined = 6;
        let offers = Offers::from(&view);
        assert_eq!((offers.made, offers.accepted, offers.declined), (10, 0, 6));
        assert_eq!(offers.declined_by_reason, BTreeMap::from([("no work".into(), 5), ("spread".into(), 1)]));
    }
}
