//! Agents and frameworks by the thousand.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use apportion_allocator::{Allocation, Allocator, Hierarchical, HierarchicalConfig, SorterKind, Wants};
use apportion_benches::cpu_timed;
use apportion_types::{AgentId, Capability, FrameworkId, FrameworkOptions, Place, Resources, Role, Time};

/// An allocator, and the names of what is in it. What a caller has anyway is made outside of every bracket.
pub(crate) struct Cluster {
    pub(crate) allocator: Hierarchical,
    pub(crate) agents: Vec<AgentId>,
    pub(crate) frameworks: Vec<FrameworkId>,
    pub(crate) options: FrameworkOptions,
    pub(crate) now: Time,
    place: Arc<Place>,
}

pub(crate) fn resources(text: &str) -> Resources {
    text.parse().expect("it is written here")
}

/// One without a bound of its own on what one framework may hold: Mesos has none.
pub(crate) fn allocator(sorter: SorterKind) -> Hierarchical {
    Hierarchical::new(HierarchicalConfig { sorter, offers_max: u32::MAX, ..HierarchicalConfig::default() })
}

/// So many pieces of the ports, as if tasks had come and gone.
pub(crate) fn ports(pieces: u64) -> String {
    let pieces: Vec<String> =
        (0..pieces).map(|n| format!("{}-{}", 31_000 + n * 60, 31_029 + n * 60)).collect();
    format!("ports:[{}]", pieces.join(","))
}

impl Cluster {
    pub(crate) fn new(agents: usize, frameworks: usize) -> Self {
        let (hostname, address) = ("host".to_owned(), "host:5051".to_owned());
        let place = Arc::new(Place { hostname, address, ..Place::default() });
        // As Mesos' benchmarks give them, so that what is lent is offered too.
        let capabilities = BTreeSet::from([Capability::RevocableResources]);
        Self {
            allocator: allocator(SorterKind::Drf),
            agents: (0..agents).map(|n| format!("agent-{n:06}").parse().expect("it is an id")).collect(),
            frameworks: (0..frameworks)
                .map(|n| format!("framework-{n:06}").parse().expect("it is an id"))
                .collect(),
            options: FrameworkOptions { capabilities, ..FrameworkOptions::default() },
            now: Time::ZERO,
            place,
        }
    }

    pub(crate) fn add_framework(&mut self, framework: usize, role: &Role) {
        let suppressed = BTreeSet::new();
        let wants =
            Wants { roles: std::slice::from_ref(role), suppressed: &suppressed, options: &self.options };
        self.allocator.add_framework(&self.frameworks[framework], wants);
    }

    /// All frameworks in one role.
    pub(crate) fn add_frameworks(&mut self, role: &Role) {
        (0..self.frameworks.len()).for_each(|framework| self.add_framework(framework, role));
    }

    /// All agents, of each some in use by one of the frameworks in turn.
    pub(crate) fn add_agents(&mut self, total: &Resources, used: Option<(&Role, &Resources)>) {
        for (index, id) in self.agents.iter().enumerate() {
            self.allocator.add_agent(id, &self.place, total);
            if let Some((role, used)) = used {
                let framework = &self.frameworks[index % self.frameworks.len()];
                self.allocator.charge(framework, role, id, used);
            }
        }
    }

    /// A cycle, a second after the last.
    pub(crate) fn cycle(&mut self) -> (Duration, Vec<Allocation>) {
        self.now = self.now + Duration::from_secs(1);
        cpu_timed(|| self.allocator.allocate(self.now, usize::MAX))
    }

    /// Gives offers back, refused until then.
    pub(crate) fn give_back(&mut self, offers: &[Allocation], refuse: Option<Duration>) {
        let until = refuse.map(|refuse| self.now + refuse);
        for offer in offers {
            self.allocator.offers_closed(&offer.framework, 1);
            self.allocator.recover(&offer.framework, &offer.role, &offer.agent, &offer.resources, until);
        }
    }

    /// The time of a cycle in which nothing can be offered: of one of many, for one is too short to be measured.
    pub(crate) fn empty_cycle(&mut self) -> Duration {
        const MANY: u32 = 1_000;
        let (took, ()) = cpu_timed(|| {
            for _ in 0..MANY {
                assert!(self.allocator.allocate(self.now, usize::MAX).is_empty(), "nothing can be offered");
            }
        });
        took / MANY
    }
}
