//! The allocator as its callers see it.

mod compare;
mod fairness;
mod filters;
mod lifecycle;
mod model;
mod property;
mod quota;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use apportion_allocator::{Allocation, Allocator, Hierarchical, HierarchicalConfig, QuotaLimit, Weight};
use apportion_types::{AgentId, FrameworkId, Resources, Role, Time};

const ALL: usize = usize::MAX;

fn agent(id: &str) -> AgentId {
    id.parse().expect("a test's id is good")
}

fn framework(id: &str) -> FrameworkId {
    id.parse().expect("a test's id is good")
}

fn role(name: &str) -> Role {
    name.parse().expect("a test's role is good")
}

fn resources(text: &str) -> Resources {
    text.parse().expect("a test's resources are good")
}

fn quota_limit(text: &str) -> QuotaLimit {
    text.parse().expect("a test's limit is good")
}

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

/// An allocator that checks itself after each call, spoken to in texts.
#[derive(Default)]
struct Cluster(Hierarchical);

impl Cluster {
    /// Agents `a1`, `a2`, … with the same total.
    fn agents(mut self, count: usize, total: &str) -> Self {
        for number in 1..=count {
            self.0.add_agent(&agent(&format!("a{number}")), &resources(total));
        }
        self
    }

    fn framework(mut self, id: &str, of: &str) -> Self {
        self.0.add_framework(&framework(id), &[role(of)], &BTreeSet::new());
        self
    }

    /// A cycle; each allocation as `framework role agent resources`.
    fn cycle(&mut self, seconds: u64) -> Vec<String> {
        let allocations = self.allocate(seconds);
        let text = |a: &Allocation| format!("{} {} {} {}", a.framework, a.role, a.agent, a.resources);
        allocations.iter().map(text).collect()
    }

    fn allocate(&mut self, seconds: u64) -> Vec<Allocation> {
        let allocations = self.0.allocate(at(seconds), ALL);
        self.0.check();
        assert!(!self.0.is_dirty(), "a cycle that was not stopped leaves nothing to do");
        allocations
    }

    /// `framework role agent resources`, as a cycle gave them.
    fn recover(&mut self, what: &str, refuse_until: Option<u64>) {
        let parts: Vec<_> = what.split(' ').collect();
        let [f, r, a, amount] = parts[..] else { panic!("not an allocation: {what}") };
        self.0.recover(&framework(f), &role(r), &agent(a), &resources(amount), refuse_until.map(at));
        self.0.check();
    }
}
