//! Why a demand fits nowhere.

use std::{collections::BTreeMap, fmt};

use apportion_types::resources::Name;

use super::{Demand, Packing, judge::Judge};
use crate::offer;

/// Why a demand was placed on none of the machines: how many refuse it for which reason.
///
/// ```
/// use apportion_sdk::{Constraint, placement::{Demand, Machine, Packing, Rule}};
///
/// let machines = [Machine::new("m1", "cpus:1"), Machine::new("m2", "cpus:8"), Machine::new("m3", "cpus:8;gpus:1")];
/// let demand = Demand::new("cpus:2;gpus:1").must(Rule::require(Constraint::zone().is("a")));
/// let refusals = Packing::new(machines).refusals(&demand);
/// assert_eq!(refusals.to_string(), "of 3 machines: 2 lack room (cpus: 1, gpus: 2); 1 not: zone is `a`");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refusals {
    /// How many machines there are.
    pub machines: usize,
    /// How many would take it.
    pub would_take: usize,
    /// How many have not enough room.
    pub too_small: usize,
    /// Of these, how many lack each resource; a machine may lack several.
    pub lacking: BTreeMap<Name, usize>,
    /// How many have room, but something that must hold does not: the first such rule of each.
    pub broken: BTreeMap<String, usize>,
    /// How many were [closed](Packing::close).
    pub closed: usize,
}

impl Packing {
    /// Why each machine refuses the demand. Looks at all of them; for people and for declines, not for every task.
    pub fn refusals(&self, demand: &Demand) -> Refusals {
        let judge = Judge::new(demand, self.machines(), self.running());
        let mut refusals = Refusals { machines: self.machines().len(), ..Refusals::default() };
        for (index, machine) in self.machines().iter().enumerate() {
            if self.is_closed(index) {
                refusals.closed += 1;
            } else if let Err(missing) = offer::pick(&machine.free, &demand.resources) {
                refusals.too_small += 1;
                for (name, _) in missing.iter() {
                    *refusals.lacking.entry(name.clone()).or_default() += 1;
                }
            } else if let Some(rule) = judge.broken_must(machine) {
                *refusals.broken.entry(demand.must[rule].to_string()).or_default() += 1;
            } else {
                refusals.would_take += 1;
            }
        }
        refusals
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = Vec::new();
        if self.too_small > 0 {
            let lacking: Vec<_> =
                self.lacking.iter().map(|(name, machines)| format!("{name}: {machines}")).collect();
            reasons.push(format!("{} lack room ({})", self.too_small, lacking.join(", ")));
        }
        reasons.extend(self.broken.iter().map(|(rule, machines)| format!("{machines} not: {rule}")));
        if self.closed > 0 {
            reasons.push(format!("{} closed", self.closed));
        }
        if self.would_take > 0 {
            reasons.push(format!("{} would take it", self.would_take));
        }
        write!(f, "of {} machines: {}", self.machines, reasons.join("; "))
    }
}
