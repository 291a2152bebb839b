//! Rules that look at what is measured now.

use super::{Load, Policy, Proposal, replicas_for};

/// How far a value may be from its target without consequence, as a part of that (Kubernetes: 0.1).
pub const TOLERANCE: f64 = 0.1;

/// So many replicas that each bears the target: for what grows with the load, such as requests, or processor time.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What each is to bear.
    pub target: f64,
}

impl Policy for Target {
    fn propose(&mut self, load: &Load) -> Proposal {
        // Those that are on their way bear their part soon: the load of all is what counts.
        let all = f64::from(load.replicas) * self.target;
        let (least, most) = (load.total(), load.total_at_most(self.target));
        let enough = |total: f64| (total - all).abs() <= all * TOLERANCE;
        let (replicas, why) = match (replicas_for(least, self.target), replicas_for(most, self.target)) {
            (more, _) if more > load.replicas && !enough(least) => (more, "for all to bear it"),
            (_, fewer) if fewer < load.replicas && !enough(most) => (fewer, "for all to bear it"),
            _ if enough(least) => (load.replicas, "near enough"),
            _ if load.measured < load.ready => {
                (load.replicas, "some could not be asked, and count either way")
            }
            _ => (load.replicas, "for all to bear it"),
        };
        Proposal { replicas, why: why.to_owned() }
    }
}

/// One more above a value, one fewer below half of it: for what does not grow with the load in any simple way.
///
/// Below half, because what two bear at less than half of it, one of them bears below it: it does not flap.
#[derive(Debug, Clone, Copy)]
pub struct Threshold {
    /// Above it there is one step more.
    pub over: f64,
    /// How many more.
    pub step: u32,
}

impl Policy for Threshold {
    fn propose(&mut self, load: &Load) -> Proposal {
        let propose = |replicas, why: &str| Proposal { replicas, why: why.to_owned() };
        let ready = f64::from(load.ready.max(1));
        let (least, most) = (load.total() / ready, load.total_at_most(self.over) / ready);
        if least > self.over {
            return match load.ready < load.replicas {
                true => propose(load.replicas, "over it; those that start may be enough"),
                false => propose(load.replicas.saturating_add(self.step), "over it"),
            };
        }
        match most < self.over / 2.0 {
            true => propose(load.replicas.saturating_sub(1), "under half of it"),
            false => propose(load.replicas, "between half of it and it"),
        }
    }
}
