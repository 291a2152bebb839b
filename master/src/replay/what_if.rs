//! What other settings of the allocator would have offered, cycle by cycle.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, channel},
};

use apportion_allocator::{Allocation, Compared, Difference, Hierarchical, HierarchicalConfig};
use apportion_types::{Resources, Role, Time};

use super::Replay;
use crate::journal::Header;

/// A cycle in which other settings would have given something else, from the state in which the master was: what an earlier
/// difference would have led to is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// When it ran.
    pub at: Time,
    /// What was given, and would not have been.
    pub only_real: Vec<Allocation>,
    /// What would have been given, and was not.
    pub only_other: Vec<Allocation>,
}

/// What of a role's allocations is in one of two only, over several cycles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleDifference {
    /// Allocations that were made, and would not have been.
    pub only_real: Sum,
    /// Allocations that would have been made, and were not.
    pub only_other: Sum,
}

/// Allocations added up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many.
    pub allocations: u64,
    /// Of what; scalars only, for ports of different agents do not add up. What was given back and given again counts again.
    pub resources: Resources,
}

/// Where the cycles of a replay are found that other settings would have run otherwise.
#[derive(Debug)]
pub struct WhatIf {
    found: Receiver<Difference>,
}

impl WhatIf {
    /// A replay of what was, which asks in each cycle what an allocator of the settings `other` would have given. It costs a
    /// copy of all that the allocator knows for each cycle.
    pub fn new(header: &Header, other: HierarchicalConfig) -> (Replay, WhatIf) {
        let (sender, found) = channel();
        let real = Hierarchical::new(header.allocator.clone());
        let sink = move |difference| {
            // Nobody may want to know.
            let _ = sender.send(difference);
        };
        let replay = Replay::with_allocator(header, Box::new(Compared::new(real, other, sink)));
        (replay, WhatIf { found })
    }

    /// The cycles found since the last time that this was asked, in order; without those that only give the same in another
    /// order.
    pub fn cycles(&self) -> Vec<Cycle> {
        self.found.try_iter().filter_map(cycle).collect()
    }
}

fn cycle(Difference { at, real, shadow }: Difference) -> Option<Cycle> {
    let only_real = without(real.clone(), &shadow);
    let only_other = without(shadow, &real);
    (!only_real.is_empty() || !only_other.is_empty()).then_some(Cycle { at, only_real, only_other })
}

/// Those that are not among the others; one that stands there once takes away one.
fn without(mut allocations: Vec<Allocation>, others: &[Allocation]) -> Vec<Allocation> {
    let key = |allocation: &Allocation| {
        let Allocation { framework, role, agent, resources } = allocation;
        (role.clone(), framework.clone(), agent.clone(), resources.to_string())
    };
    let mut there: BTreeMap<_, usize> = BTreeMap::new();
    for other in others {
        *there.entry(key(other)).or_default() += 1;
    }
    allocations.retain(|allocation| match there.get_mut(&key(allocation)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    allocations
}

/// The differences of cycles, added up by role.
pub fn by_role(cycles: &[Cycle]) -> BTreeMap<Role, RoleDifference> {
    let mut roles: BTreeMap<Role, RoleDifference> = BTreeMap::new();
    for cycle in cycles {
        for allocation in &cycle.only_real {
            roles.entry(allocation.role.clone()).or_default().only_real.add(&allocation.resources);
        }
        for allocation in &cycle.only_other {
            roles.entry(allocation.role.clone()).or_default().only_other.add(&allocation.resources);
        }
    }
    roles
}

impl Sum {
    fn add(&mut self, resources: &Resources) {
        self.allocations += 1;
        self.resources += &resources.summable();
    }
}
