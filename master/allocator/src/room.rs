//! What a role's quota limit leaves of an agent's free resources.

use apportion_types::Resources;
use smallvec::SmallVec;

use crate::{
    amount::{Amount, Measure},
    quantities::{Kinds, Quantities},
    quota_limit::QuotaLimit,
};

/// A role's quota limit: the number of each kind that is limited, and its most in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit(SmallVec<[(usize, i64); 4]>);

impl Limit {
    pub(crate) fn new(kinds: &mut Kinds, limit: &QuotaLimit) -> Self {
        Self(limit.iter().map(|(name, milli)| (kinds.number(name), milli)).collect())
    }

    /// What of `free` a role that has `allocated` has no room for; none when it has room for all.
    fn excess(&self, allocated: &Quantities, free: &Quantities) -> Option<Quantities> {
        let mut excess = None;
        for &(kind, limit) in &self.0 {
            // Tasks of agents that returned may have exceeded it.
            let room = (limit - allocated.of(kind)).max(0);
            if free.of(kind) > room {
                excess.get_or_insert_with(Quantities::default).put(kind, free.of(kind) - room);
            }
        }
        excess
    }
}

/// How what is free on an agent fits into the room that a role has left.
#[derive(Debug)]
pub(crate) enum Fit {
    Whole,
    /// Only so much of it does.
    Part(Amount),
    /// Nothing of use does.
    Nothing,
}

impl Measure {
    /// A part must contain each minimum that the whole contains: a role with no cpus left would else hold, and refuse, the
    /// memory of every agent again and again.
    pub(crate) fn fit(&mut self, limit: Option<&Limit>, allocated: &Quantities, free: &Amount) -> Fit {
        let Some(excess) = limit.and_then(|limit| limit.excess(allocated, free.quantities())) else {
            return Fit::Whole;
        };
        let mut part = Resources::clone(free);
        part.saturating_sub(&self.kinds.resources(&excess));
        let useful = self.allocatable_min.iter().all(|min| !free.contains(min) || part.contains(min));
        if useful && !part.is_empty() { Fit::Part(self.amount(part)) } else { Fit::Nothing }
    }
}
