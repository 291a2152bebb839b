//! The allocator as its callers see it.

mod calls;
mod compare;
mod fairness;
mod filters;
mod lifecycle;
mod model;
mod pair;
mod property;
mod quota;
mod random;
mod starvation;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_allocator::{
    Allocation, Allocator, Hierarchical, HierarchicalConfig, Inactive, Quota, QuotaLimit, Wants, Weight,
};
use apportion_types::{AgentId, FrameworkId, FrameworkOptions, Place, Resources, Role, Time};

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

/// A quota of a limit alone; none at all without.
fn limited(limit: Option<&str>) -> Quota {
    Quota { limit: limit.map(quota_limit), ..Quota::default() }
}

/// An agent of which nothing is known but what it has.
fn place() -> Arc<Place> {
    Arc::new(Place { hostname: "host".to_owned(), address: "host:5051".to_owned(), ..Place::default() })
}

/// Adds a framework without options.
fn subscribe(allocator: &mut dyn Allocator, id: &str, roles: &[Role], suppressed: &[Role]) {
    let (suppressed, options) = (suppressed.iter().cloned().collect(), FrameworkOptions::default());
    allocator.add_framework(&framework(id), Wants { roles, suppressed: &suppressed, options: &options });
}

/// Changes the roles of a framework without options.
fn resubscribe(allocator: &mut dyn Allocator, id: &str, roles: &[Role], suppressed: &[Role]) {
    let (suppressed, options) = (suppressed.iter().cloned().collect(), FrameworkOptions::default());
    allocator
        .set_framework_wants(&framework(id), Wants { roles, suppressed: &suppressed, options: &options });
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
            self.0.add_agent(&agent(&format!("a{number}")), &place(), &resources(total));
        }
        self
    }

    fn framework(mut self, id: &str, of: &str) -> Self {
        subscribe(&mut self.0, id, &[role(of)], &[]);
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
